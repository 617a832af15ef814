"""Whether a run folder may be continued with these settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fedml_spurious.common.checksums import require_unchanged
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.scratch import SCRATCH
from fedml_spurious.common.storage import PARTIAL_SUFFIX
from fedml_spurious.config.flatten import flatten
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.personalization.options import is_one_value
from fedml_spurious.results.run_config import read_run_config

# What may differ between a run and its continuation: it does not change the numbers of finished parts.
_FREE = (
    ("experiment_args",),
    ("tracking_args",),
    ("comm_args",),
    ("common_args", "training_type"),
    ("device_args", "threads"),
    ("device_args", "worker_gpus"),
    ("data_args", "data_cache_dir"),
    ("data_args", "raw"),
    ("data_args", "cache_mb"),
    ("validation_args", "checkpoint_seconds"),
    ("personalization_args", "save_models"),
    ("analysis_args", "record"),
)


# Keys whose absence is no default: what versions without them did, which this one does not.
_OLDER = {
    ("personalization_args", "batchnorm_mode"): "an older version made this run: it fine-tuned under batch "
    "statistics and the adversarial term under running ones, which is no mode any more",
    ("personalization_args", "selection_ties"): "an older version made this run: of epochs that tie it "
    "selected the earliest, and it did not keep the last epoch",
}

# What a key stands for where it is absent, if null stands for something else.
_ABSENT: Mapping[tuple[str, ...], Any] = {("data_args", "partition", "seed"): 0}

_GROWING = ("methods", "fl_seeds", "personalization_seeds")


def check_folder(path: Path, settings: Settings, *, resume: bool) -> RunFolder:
    """Make sure that a run with these settings may be written to ``path``.

    Args:
        path: the folder, which is there and may be written.
        settings: settings of the run.
        resume: whether a run that is there may be continued.

    Returns:
        The folder. Nothing of the run is written yet.

    Raises:
        InputError: the folder holds something else, or another run.
    """
    folder = RunFolder(path)
    if folder.written_by_fedml.exists():
        raise InputError(
            f"{path}: holds a run that was written by FedML's runner (PersonalizingAggregator.write), which "
            "cannot be continued. Give another --output"
        )
    if folder.is_begun():
        if not resume:
            raise InputError(
                f"{path}: holds a run already. Continue it with --resume, or give another --output"
            )
        # Without its configuration the parts of the run tell what they were made from.
        if folder.config.exists():
            _require_same(folder, settings)
    elif _foreign_files(path):
        raise InputError(
            f"{path}: holds files that are no run of ours ({', '.join(_foreign_files(path)[:3])}). "
            "Give an empty or new folder as --output"
        )
    return folder


def _foreign_files(path: Path) -> list[str]:
    # What a run leaves behind that was stopped before its configuration was written.
    own = {"data", "logs", "run.log", "progress.jsonl", SCRATCH}
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name not in own and not entry.name.endswith(PARTIAL_SUFFIX)
    )


def _require_same(folder: RunFolder, settings: Settings) -> None:
    changed = changed_settings(folder, settings)
    if changed:
        raise InputError(
            "\n  ".join([f"{folder.path}: holds a run of another configuration", *changed])
            + "\nUse the configuration of that run, or give another --output"
            + _of_an_edited_file(folder.config)
        )


def changed_settings(folder: RunFolder, settings: Settings) -> list[str]:
    """In what the run of a folder was another than one with these settings, a key each.

    Raises:
        InputError: its configuration cannot be read.
    """
    before = read_run_config(folder.config)
    now = settings.model_dump(mode="json", exclude_none=True)
    old, new = flatten(before), flatten(now)
    absent = {key for key in new if key not in old and _may_be_absent(key, before, settings)}
    changed = [
        difference(key, old, new)
        for key in sorted((old.keys() | new.keys()) - absent)
        if _value(old, key) != _value(new, key) and not _is_free(key, new.get(key, old.get(key)))
    ]
    for key, values in _experiment_values(before).items():
        gone = set(values) - set(_experiment_values(now)[key])
        if gone:
            changed.append(f"experiment_args.{key}: {sorted(gone)} was there and is not any more")
    return changed


def _of_an_edited_file(config: Path) -> str:
    """A line about a configuration that the run did not write so; empty where it did, or nobody knows."""
    try:
        require_unchanged(config)
    except InputError as error:
        return f"\n{error}"
    return ""


def _value(flat: Mapping[Any, Any], key: tuple[str, ...]) -> Any:
    return flat.get(key, _ABSENT.get(key))


def difference(key: tuple[str, ...], old: Mapping[Any, Any], new: Mapping[Any, Any]) -> str:
    """What a key was and is, in words; a key that is in neither is absent."""
    reason = f" ({_OLDER[key]})" if key in _OLDER and key not in old else ""
    before, now = (
        "null" if key in flat and flat[key] is None else repr(flat.get(key, "absent")) for flat in (old, new)
    )
    return f"{'.'.join(key)}: was {before}, is {now}{reason}"


def _experiment_values(config: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What may grow and not shrink, by its key."""
    experiment = config.get("experiment_args", {})
    seeds = [config.get("common_args", {}).get("random_seed", 0)]
    found = {key: experiment.get(key) or [] for key in _GROWING}
    return found | {"fl_seeds": found["fl_seeds"] or seeds}


def _may_be_absent(key: tuple[str, ...], before: Mapping[str, Mapping[str, Any]], settings: Settings) -> bool:
    """Whether a run without this key was no other: it had not got the method, or the key is a newer one."""
    if key in _OLDER:
        return False
    section, *names = key
    if section == "personalization_args" and len(names) > 1 and names[0] not in before.get(section, {}):
        return True
    value: Any = settings
    for name in key[:-1]:
        value = getattr(value, name, None)
    known = type(value).model_fields if isinstance(value, BaseModel) else {}
    return key[-1] in known and getattr(value, key[-1]) == known[key[-1]].get_default(
        call_default_factory=True
    )


def _is_free(key: tuple[str, ...], value: Any) -> bool:
    # Results are kept by the options of their method that are one value, so these may change: other options,
    # other results.
    of_a_method = key[0] == "personalization_args" and len(key) == 3 and is_one_value(value)
    return of_a_method or any(key[: len(free)] == free for free in _FREE)
