"""What a folder is that somebody gives for one of a run, and which data its run had."""

from __future__ import annotations

import json
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
    above = (*path.parents, *path.absolute().parents)
    around = next((folder for folder in above if _looks_like_a_run(folder)), None)
    instead = f"folders of {wanted}" if around is None else f"the run around it, {around}"
    splits = sorted(meta.name.removesuffix("_meta.json") for meta in path.glob("*_meta.json"))
    if splits:
        return f"holds the clients' split files of {', '.join(splits)}, and no run; give {instead}"
    if around is not None:
        return f"is inside a run folder; give {instead}"
    return f"is no run folder, it has no config.yaml; give folders of {wanted}"


def _looks_like_a_run(folder: Path) -> bool:
    """More than a file called ``config.yaml``, which other folders have too."""
    return (folder / "config.yaml").is_file() and (folder / "global").is_dir()


def data_source(path: Path, config: Mapping[str, Any]) -> str | None:
    """From which of several data sets of one name a run's split files were made, such as ``digits``.

    Args:
        path: the run folder, which tells since November 2026.
        config: its configuration, which names split files that tell too, where they are still there.

    Returns:
        The option ``source`` of the partition; None where it has none, or nothing tells.
    """
    stored = _of_environment(path / "environment.json")
    if stored is not None:
        return stored
    section = config.get("data_args", {})
    made = section.get("partition")
    if isinstance(made, dict):
        # As the partition itself takes an option that is not given.
        source = made.get("source") or ("digits" if section.get("raw") is None else "mnist")
        return str(source) if section.get("dataset") == "colored_mnist" else None
    return _of_split_files(section)


def _of_environment(path: Path) -> str | None:
    """What the environment says, edited or not: no number depends on it, and somebody may cut a name out."""
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    found = stored.get(SOURCE) if isinstance(stored, dict) else None
    return None if found is None else str(found)


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
