"""What is audited: a finished run with the settings that hold in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fedml_spurious.audit.subject import Subject
from fedml_spurious.common.checksums import require_unchanged
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import find_config, load_settings
from fedml_spurious.config.flatten import flatten
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.resume import changed_settings, difference
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.stored_run import Run
from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.folders import require_run_folder

# What --set replaces: it may be another on every host, and changes no finding.
_OF_THE_HOST = (
    ("comm_args",),
    ("device_args",),
    ("data_args", "data_cache_dir"),
    ("data_args", "raw"),
    ("data_args", "cache_mb"),
)


def run_settings(path: Path, config: str | None, overrides: Sequence[str]) -> Settings:
    """The settings of a run: those of its folder, or of a configuration where a host has none.

    Args:
        path: the run folder, as this process sees it.
        config: a configuration, or the name of one that ships; None for that of the folder.
        overrides: ``section.key=value``, each replacing one value, where hosts or processes differ.

    Raises:
        InputError: there is no configuration, or it is that of another run.
    """
    own = RunFolder(path).config
    if config is None:
        if not own.is_file() and (path / "silos").is_dir():
            raise InputError(
                f"{path}: has no config.yaml, as the folder of a silo on a machine of its own; name the "
                "configuration that this silo was started with, --cf CONFIG, and its --set"
            )
        require_run_folder(path, "finished runs")
    elif not path.is_dir():
        raise InputError(f"{path}: no such folder; give the folder that this process wrote in the run")
    if own.is_file():
        require_unchanged(own)
    settings = load_settings(own if config is None else find_config(config), overrides)
    if own.is_file() and (config is not None or overrides):
        _require_same(path, settings, overrides)
    return settings


def _require_same(path: Path, settings: Settings, overrides: Sequence[str]) -> None:
    """Make sure that these are the run's settings, but for what differs between hosts and processes."""
    folder, before = RunFolder(path), load_settings(RunFolder(path).config)
    known = changed_settings(folder, before)  # what a run of an older version lacks
    now = settings.model_copy(update={"device_args": before.device_args})
    changed = [line for line in changed_settings(folder, now) if line not in known]
    changed += [line for line in _replaced(before, settings, overrides) if line not in changed]
    if changed:
        raise InputError(
            "\n  ".join([f"{path}: is a run of another configuration", *changed])
            + "\nAn audit takes the settings of its run; leave out what changes them. --set replaces what "
            f"differs between hosts: {', '.join('.'.join(key) for key in _OF_THE_HOST)}"
        )


def _replaced(before: Settings, settings: Settings, overrides: Sequence[str]) -> list[str]:
    """What an audit would not heed of the overrides, a key each; and who had the clients, wherever it stands.

    A run may be continued with some of these, such as other options of a method; an audit only reads it.
    """
    named = [tuple(override.partition("=")[0].split(".")) for override in overrides]
    named.append(("common_args", "training_type"))
    old, new = (flatten(one.model_dump(mode="json", exclude_none=True)) for one in (before, settings))
    return [
        difference(key, old, new)
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and not any(_within(key, free) for free in _OF_THE_HOST)
        and any(_within(key, name) or _within(name, key) for name in named)
    ]


def _within(key: tuple[str, ...], section: tuple[str, ...]) -> bool:
    return key[: len(section)] == section


def open_run(path: Path, settings: Settings, *, with_silos: bool = False) -> Subject:
    """Read a run that is to be audited.

    Args:
        path: the run folder.
        settings: of the run, as they hold in this process.
        with_silos: whether its silos do the work; then its split files are not read here.

    Raises:
        InputError: it is no finished run, or its split files are gone.
    """
    return Subject(load_run(path), Run(path, settings, samples=not with_silos), with_silos)


def without_gpu(settings: Settings) -> Settings:
    """The settings with everything on the CPU."""
    device = settings.device_args.model_copy(update={"using_gpu": False})
    return settings.model_copy(update={"device_args": device})


def on_this_machine(settings: Settings) -> Settings:
    """The settings, on the CPU where they ask for a GPU and none is here."""
    return settings if torch.cuda.is_available() else without_gpu(settings)
