"""What a folder is that somebody gives for one of a run, and which data its run had."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json

SWEEP_INDEX = "sweep.json"
"""In the folder of a sweep: which runs it has."""

SOURCE = "data_source"
"""In ``environment.json``: from which of several data sets of one name the split files were made."""


def require_run_folder(path: Path, wanted: str = "runs") -> None:
    """Make sure that a folder is that of a run, finished or not.

    Args:
        path: the folder.
        wanted: what is asked for, in messages.

    Raises:
        InputError: it is none; the text says where its runs are, if it has some.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give folders of {wanted} (--output of a run)")
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path}: {_instead(path, wanted)}")


def _instead(path: Path, wanted: str) -> str:
    is_sweep = (path / SWEEP_INDEX).is_file()
    for pattern in ("*", "*/*", "runs/*/*"):
        found = sorted(path.glob(f"{pattern}/config.yaml"))
        if found:
            bare = "no run folder, it has no config.yaml, but has runs below it"
            what = "the folder of a sweep" if is_sweep else bare
            cells = list(dict.fromkeys(run.parent.parent for run in found))
            give = (
                f"{path}/{pattern}"
                if len(cells) == 1
                else f"those that belong together, such as {cells[0]}/*"
            )
            return f"is {what}; give {give}"
    if is_sweep:
        return f"is the folder of a sweep of which no run has begun; give folders of {wanted}"
    return f"is no run folder, it has no config.yaml; give folders of {wanted}"


def data_source(path: Path, config: Mapping[str, Any]) -> str | None:
    """From which of several data sets of one name a run's split files were made, such as ``digits``.

    Args:
        path: the run folder, which tells since November 2026.
        config: its configuration, which names split files that tell too, where they are still there.

    Returns:
        The option ``source`` of the partition; None where it has none, or nothing tells.
    """
    environment = path / "environment.json"
    stored = read_json(environment).get(SOURCE) if environment.is_file() else None
    if stored is not None:
        return str(stored)
    section = config.get("data_args", {})
    made = section.get("partition")
    if isinstance(made, dict):
        # As the partition itself takes an option that is not given.
        source = made.get("source") or ("digits" if section.get("raw") is None else "mnist")
        return str(source) if section.get("dataset") == "colored_mnist" else None
    return _of_split_files(section)


def _of_split_files(section: Mapping[str, Any]) -> str | None:
    folder, name = section.get("data_cache_dir"), section.get("dataset")
    if not isinstance(folder, str) or not isinstance(name, str):
        return None
    meta = Path(folder).expanduser() / f"{name}_meta.json"
    try:
        options = read_json(meta).get("options") if meta.is_file() else None
    except (InputError, OSError):  # only a name depends on it, and whoever reads the samples says so
        return None
    return str(options["source"]) if isinstance(options, dict) and options.get("source") else None
