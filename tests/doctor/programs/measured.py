"""What the doctor foresees in CPU seconds, or what a process of a run took, as JSON in OUTPUT.<process>.json.

    python measured.py foresee CONFIG OUTPUT [BACKEND...]     over MPI of a server and a worker
    python measured.py run CONFIG OUTPUT [OPTION...]

In processes of their own, because memory that a process had once is never given back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

from fedml_spurious.cli import main
from fedml_spurious.common.allocator import reuse_freed_memory
from fedml_spurious.common.machine import peak_memory
from fedml_spurious.config.file import load_settings


def foresee(config: str, output: str, *backends: str) -> dict[str, object]:
    reuse_freed_memory()
    from fedml_spurious.doctor import estimate, examination  # late: the allocator is told first

    # As on a machine with one core, where the seconds of a run are those of all its processes.
    estimate.cores = lambda: 1
    found: dict[str, object] = {}
    for backend in backends:
        settings = load_settings(Path(config), [f"comm_args.backend={backend}", "comm_args.silos=1"])
        examined = examination.examine(settings, Path(output), time.process_time)
        assert examined.cost is not None, examined.found
        # A second time nothing is imported.
        start, end = examined.processes.start, examined.processes.end
        examination._import_fedml = partial(_known, start)
        examination._end = partial(_known, end)
        found[backend] = asdict(examined.cost) | {"seconds": asdict(examined.cost.seconds)}
    return found


def _known(seconds: float, *_: object) -> float:
    return seconds


def run(config: str, output: str, *options: str) -> dict[str, object]:
    main(["run", "--cf", config, "--output", output, *options], standalone_mode=False)
    return {"peak": peak_memory(), "seconds": time.process_time()}


if __name__ == "__main__":
    do = {"foresee": foresee, "run": run}[sys.argv[1]]
    answer = do(*sys.argv[2:])
    Path(f"{sys.argv[3]}.{os.getpid()}.json").write_text(json.dumps(answer))
