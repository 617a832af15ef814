"""A side of a claim as a process: makes the work, and does it once for every line that it reads.

Work that starts processes of its own may return what it measured, which counts in place of the time here.
"""

from __future__ import annotations

import importlib
import json
import logging
import resource
import sys
import time

from fedml_spurious.common.allocator import reuse_freed_memory


def main() -> None:
    """Answer every line of standard input with the seconds that the work took, as JSON."""
    path, options = sys.argv[1:]
    reuse_freed_memory()  # unless the environment says no; before the module below imports torch
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print
    module, _, name = path.partition(":")
    work = getattr(importlib.import_module(module), name)(**json.loads(options))
    logging.disable(logging.CRITICAL)  # FedML logs in every step; both sides are spared that
    for _ in sys.stdin:
        begin = time.perf_counter()
        own = work() or {}
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"s": seconds, "peak MB": peak, **own}), file=answers, flush=True)


if __name__ == "__main__":
    main()
