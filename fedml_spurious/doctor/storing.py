"""What it takes to keep results, each on the disk when the next one begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedml_spurious.common.checksums import keep_checksums
from fedml_spurious.doctor.made_up import made_up_row
from fedml_spurious.doctor.speeds import middle
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.personalization.options import MethodSettings

_ROWS = 3


def time_rows(dataset: str, place: Path, now: Callable[[], float]) -> tuple[float, int]:
    """Keep some rows.

    Args:
        dataset: name of the data set.
        place: a folder that is not there yet.
        now: tells the time in seconds.

    Returns:
        Seconds and bytes of a row.
    """
    place.mkdir()
    keep_checksums(place)
    folder = RunFolder(place)
    store = ResultStore(folder)
    sizes, times = [0], [now()]
    for number in range(_ROWS):
        row = made_up_row(dataset, f"{number:04d}")
        store.add(ResultKey("ft", 0, 0, row.client, MethodSettings()), Outcome(row, row))
        folder.note("client", method="ft", fl_seed=0, p_seed=0, client=row.client, options={}, seconds=0.1)
        times.append(now())
        sizes.append(sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))
    return middle(times), sizes[-1] - sizes[-2]
