"""Whether what a sweep finds in its folder was run with the settings that it has now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_partition.split_files.meta import meta_path, read_meta
from fedml_spurious.common.errors import InputError
from fedml_spurious.experiment.resume import changed_settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.results.run_config import read_run_config
from fedml_spurious.sweep.plan import SweepRun

_SHOWN = 8


def require_same_settings(runs: Sequence[SweepRun], out: Path) -> None:
    """Refuse other settings once, where every run that is there would be refused for itself.

    A run whose configuration cannot be read keeps no other from being done; it says so itself.

    Args:
        runs: of the sweep.
        out: its folder.

    Raises:
        InputError: runs that are there were made with other settings; the text names the keys.
    """
    changed: dict[str, None] = {}
    for run in runs:
        if RunFolder(run.folder).config.is_file():
            changed |= dict.fromkeys(_changed(run))
    if changed:
        more = len(changed) - _SHOWN
        listed = [*list(changed)[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise InputError(
            "\n  ".join([f"{out}: holds a sweep with other settings", *listed])
            + "\nUse the settings of that sweep, or give another --out"
        )


def _changed(run: SweepRun) -> list[str]:
    folder, settings = RunFolder(run.folder), run.settings()
    try:
        changed = changed_settings(folder, settings)
        before = read_run_config(folder.config)["data_args"].get("data_cache_dir")
        # Split files that are the run's own lie in folders named by all that determines them.
        if run.splits is None or before is None or Path(before).name == run.splits.folder.name:
            return changed
        old = read_meta(meta_path(Path(before), settings.data_args.dataset)).options
    except InputError:
        return []
    return changed + [
        f"data_args.partition.{key}: was {old[key]!r}, is {value!r}"
        for key, value in run.splits.options.items()
        # A source that is not named was found from what there is.
        if key in old and old[key] != value and not (key == "source" and value is None)
    ]
