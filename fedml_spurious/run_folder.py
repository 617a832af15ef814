"""The folder of a run: where everything is, what may be continued, and nothing outside it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel

from fedml_spurious import __version__
from fedml_spurious.config import Settings, is_one_value
from fedml_spurious.errors import InputError, RunError
from fedml_spurious.storage import PARTIAL_SUFFIX, require_writable_folder, write_json, write_text

logger = logging.getLogger(__name__)

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
    ("personalization_args", "save_models"),
)
_GROWING = ("methods", "fl_seeds", "personalization_seeds")
_DERIVED = ("results.csv", "table.csv", "table.md", "table.tex")
_PLAIN_LABEL = re.compile(r"[\w.,=+-]{1,200}")
_PACKAGES = ("fedml", "torch", "torchvision", "numpy", "h5py", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run (see the contract in the README).

    Attributes:
        path: the folder.
        listeners: called with the name and the details of every event that is noted.
    """

    path: Path
    listeners: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The resolved configuration; its presence makes the folder a run."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """Log of the run, FedML's own messages among it."""
        return self.path / "run.log"

    @property
    def data(self) -> Path:
        """Split files that the run made for itself."""
        return self.path / "data"

    @property
    def results(self) -> Path:
        """A row per method, seeds and client; written when all are there."""
        return self.path / "results.csv"

    def global_part(self, fl_seed: int) -> Path:
        """Folder of a global model."""
        return self.path / "global" / f"fl{fl_seed}"

    def personal_part(self, method: str, fl_seed: int, p_seed: int | None) -> Path:
        """Folder of one method with one pair of seeds; the global model has no personal seed."""
        suffix = "" if p_seed is None else f"_p{p_seed}"
        return self.path / "personal" / method / f"fl{fl_seed}{suffix}"

    def options_part(
        self, method: str, options: Sequence[tuple[str, Any]], fl_seed: int, p_seed: int | None
    ) -> Path:
        """Folder of one method with these options and one pair of seeds."""
        label = ",".join(f"{name}={value!r}" for name, value in sorted(options))
        if not _PLAIN_LABEL.fullmatch(label):  # of a method of the user's own; any text may be in there
            label = hashlib.sha256(label.encode()).hexdigest()[:32]
        return self.path / "personal" / method / label / f"fl{fl_seed}_p{p_seed}"

    def decision(self, method: str) -> Path:
        """Which coefficients a method got, and why."""
        return self.path / "tuning" / method / "decision.json"

    def note(self, event: str, **details: Any) -> None:
        """Append an event to ``progress.jsonl`` and tell the listeners."""
        for listener in self.listeners:
            listener(event, details)
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details})
        path = self.path / "progress.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written ({error.strerror or error}). Free space or permissions on that "
                "disk, then continue with --resume"
            ) from error


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
    if folder.config.exists():
        if not resume:
            raise InputError(
                f"{path}: holds a run already. Continue it with --resume, or give another --output"
            )
        _require_same(folder, settings)
    elif _foreign_files(path):
        raise InputError(
            f"{path}: holds files that are no run of ours ({', '.join(_foreign_files(path)[:3])}). "
            "Give an empty or new folder as --output"
        )
    return folder


@contextmanager
def hold_folder(path: Path) -> Iterator[None]:
    """Keep a folder from being written by two runs at once; created where it is absent.

    The lock goes with the process, however that ends. Some network file systems have no locks; there nothing
    is kept.

    Raises:
        InputError: the folder cannot be written, or another process holds it.
    """
    require_writable_folder(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(path))
        except BlockingIOError:
            raise InputError(
                f"{path}: another process is working on the run in this folder; wait for it or end it, or "
                "give another --output"
            ) from None
        except OSError as error:
            logger.info("%s cannot be locked: %s", path, error)
        yield


def _foreign_files(path: Path) -> list[str]:
    # What a run leaves behind that was stopped before its configuration was written.
    own = {"data", "logs", "run.log", "progress.jsonl", _SCRATCH}
    return sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name not in own and not entry.name.endswith(PARTIAL_SUFFIX)
    )


def write_config(folder: RunFolder, settings: Settings) -> None:
    """Write the resolved configuration, which can be run again with ``--cf``, and the environment.

    Results of another configuration are removed: they are put together anew from the rows that are kept, and
    until then nobody may take them for results of this one.
    """
    content = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)
    if not folder.config.exists() or folder.config.read_text(encoding="utf-8") != content:
        for name in _DERIVED:
            (folder.path / name).unlink(missing_ok=True)
        write_text(folder.config, content)
    versions = {name: metadata.version(name) for name in _PACKAGES}
    write_json(
        folder.path / "environment.json",
        {
            "fedml_spurious": __version__,
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": _gpu_name(settings),
            "packages": versions,
        },
    )


def _gpu_name(settings: Settings) -> str | None:
    # A server of several processes needs no GPU.
    wanted = settings.device_args.using_gpu and torch.cuda.is_available()
    return torch.cuda.get_device_name() if wanted else None


def _require_same(folder: RunFolder, settings: Settings) -> None:
    before = _stored_config(folder.config)
    now = settings.model_dump(mode="json", exclude_none=True)
    old, new = flatten(before), flatten(now)
    absent = {key for key in new if key not in old and _may_be_absent(key, before, settings)}
    changed = [
        f"{'.'.join(key)}: was {old.get(key, 'absent')!r}, is {new.get(key, 'absent')!r}"
        for key in sorted((old.keys() | new.keys()) - absent)
        if old.get(key) != new.get(key) and not _is_free(key, new.get(key, old.get(key)))
    ]
    for key, values in _experiment_values(before).items():
        gone = set(values) - set(_experiment_values(now)[key])
        if gone:
            changed.append(f"experiment_args.{key}: {sorted(gone)} was there and is not any more")
    if changed:
        raise InputError(
            "\n  ".join([f"{folder.path}: holds a run of another configuration", *changed])
            + "\nUse the configuration of that run, or give another --output"
        )


def _stored_config(path: Path) -> dict[str, dict[str, Any]]:
    """The configuration of the run that is there."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give another --output") from None
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise InputError(f"{path}: is no configuration that a run wrote; give another --output")
    return content


def _experiment_values(config: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What may grow and not shrink, by its key."""
    experiment = config.get("experiment_args", {})
    seeds = [config.get("common_args", {}).get("random_seed", 0)]
    found = {key: experiment.get(key) or [] for key in _GROWING}
    return found | {"fl_seeds": found["fl_seeds"] or seeds}


def _may_be_absent(key: tuple[str, ...], before: Mapping[str, Mapping[str, Any]], settings: Settings) -> bool:
    """Whether a run without this key was no other: it had not got the method, or the key is a newer one."""
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


def flatten(content: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values of nested sections by the names that lead to them."""
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in content.items():
        flat.update(flatten(value, (*prefix, str(key))))
    return flat


_SCRATCH = ".scratch"
_PRIVATE = "fedml_spurious_rank_"
_MOMENT = 60.0


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Let libraries put their temporary files and caches inside the run folder; removed at the end.

    Importing FedML makes temporary folders (wandb) and torch makes a cache folder, both under the system's
    temporary folder unless they are told otherwise.
    """
    scratch = path / _SCRATCH
    variables = {"TORCHINDUCTOR_CACHE_DIR": "torch", "MPLCONFIGDIR": "matplotlib", "TMPDIR": "tmp"}
    before = {name: os.environ.get(name) for name in variables}
    tempdir = tempfile.tempdir
    for name, folder in variables.items():
        (scratch / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(scratch / folder)
    tempfile.tempdir = str(scratch / "tmp")
    try:
        yield scratch
    finally:
        tempfile.tempdir = tempdir
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for :func:`scratch_folder` outside the run folder, removed at the end.

    A process that is killed removes nothing; the next one does, on the same host.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PRIVATE) as path, ExitStack() as stack:
        with suppress(OSError):  # where there are no locks, nothing is ever swept
            stack.enter_context(_locked(Path(path)))
        yield Path(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; OSError where another process has it, or there are no locks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(place: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in place.glob(f"{_PRIVATE}*"):
        # Whoever makes one locks it a moment later, and keeps nothing else in it.
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _MOMENT
            if old and [path.name for path in folder.iterdir()] == [_SCRATCH]:
                with _locked(folder):
                    shutil.rmtree(folder)
