"""Before a run starts, all its processes must have the same command, settings, versions and split files."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.version import __version__
from fedml_spurious.common.words import counted
from fedml_spurious.config.flatten import flatten
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed

# What may differ from host to host.
_OF_THE_HOST = {
    "data_args.data_cache_dir",
    "data_args.raw",
    "data_args.cache_mb",
    "device_args.gpu_id",
    "device_args.worker_gpus",
}
_OF_THE_SERVER = ("tracking_args.",)
_PACKAGES = ("fedml", "torch", "numpy", "h5py")


def introduce(settings: Settings, threads: int, asked: Mapping[str, JsonValue]) -> dict[str, Any]:
    """What a process says of itself: what it was asked for, settings, versions, and where it runs.

    Args:
        settings: settings of the run.
        threads: CPU threads of this process.
        asked: what it was asked for beside the settings.
    """
    keys = flatten(settings.model_dump(mode="json", exclude_none=True))
    values = {".".join(key): value for key, value in keys.items()}
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {
        "asked": dict(asked),
        "settings": {
            name: value
            for name, value in values.items()
            if name not in _OF_THE_HOST and not name.startswith(_OF_THE_SERVER)
        },
        "versions": {"fedml_spurious": __version__, "python": platform.python_version(), **versions},
        "threads": threads,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }


class _Introduction(BaseModel):
    """What :func:`introduce` says."""

    model_config = ConfigDict(strict=True, extra="forbid")

    asked: dict[str, JsonValue]
    settings: dict[str, JsonValue]
    versions: dict[str, str]
    threads: int
    host: str
    pid: int


def is_introduction(content: Any) -> bool:
    """Whether what came in is what a process says of itself."""
    try:
        _Introduction.model_validate(content)
    except ValidationError:
        return False
    return True


def require_equal(mine: Mapping[str, Any], other: Mapping[str, Any], rank: int) -> None:
    """Make sure that a worker was started with the command, settings and versions of the server.

    Args:
        mine: what the server says of itself.
        other: what the worker says.
        rank: number of the worker.

    Raises:
        InputError: they differ; the text names the rank and what differs.
    """
    for kind, problem, remedy in (
        ("asked", "was asked for something else", "Start all processes with the same command and options"),
        (
            "settings",
            "has other settings",
            "Start all processes with the same configuration and --set options",
        ),
        ("versions", "has other versions", "Install the same versions for all processes"),
    ):
        ours, theirs = mine[kind], other[kind]
        changed = [
            f"{name}: {theirs.get(name, 'absent')!r} there, {ours.get(name, 'absent')!r} on rank 0"
            for name in sorted(ours.keys() | theirs.keys())
            # A key may hold null: data_args.partition.seed.
            if ours.get(name, "absent") != theirs.get(name, "absent")
        ]
        if changed:
            raise InputError(
                "\n  ".join([f"rank {rank} on {other['host']} {problem}", *changed]) + f"\n{remedy}"
            )
    if mine["threads"] != other["threads"]:
        raise InputError(
            f"rank {rank} on {other['host']} computes with {counted(other['threads'], 'thread')}, rank "
            f"0 with "
            f"{mine['threads']}, and the number of threads changes the last digits of results; set "
            "device_args.threads"
        )


def describe_splits(data: SplitsBySeed) -> list[dict[str, str]]:
    """Fingerprint and folder of the split files of every federated seed, in the order of the seeds."""
    return [{"fingerprint": splits.fingerprint, "folder": str(splits.folder)} for splits in data.values()]


def require_same_splits(mine: Sequence[Mapping[str, str]], other: Mapping[str, Any], rank: int) -> None:
    """Make sure that a worker has the server's split files, for every federated seed.

    Args:
        mine: the server's, from :func:`describe_splits`.
        other: the worker's under ``splits``, and its host.
        rank: number of the worker.

    Raises:
        InputError: they are others.
    """
    for ours, theirs in zip(mine, other["splits"], strict=True):
        if ours["fingerprint"] != theirs["fingerprint"]:
            raise InputError(
                f"rank {rank} on {other['host']} has other split files in {theirs['folder']} than rank 0: "
                "their checksums differ. Copy the folder, or make the splits with the same options and seed"
            )
