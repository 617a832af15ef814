"""What a program of a user's own calls: a run, its global models, and one client of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from fedml_spurious.common.advice import for_a_program, translated
from fedml_spurious.common.allocator import reuse_freed_memory
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import find_config, load_settings
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.run import run_experiment
from fedml_spurious.experiment.stored_run import Run as Run
from fedml_spurious.fedml_adapter.local_workers import local_workers


def run(
    config: str | Path, output: str | Path, overrides: Sequence[str] = (), *, resume: bool = False
) -> Run:
    """Do in this process what ``fedml-spurious run`` does.

    Args:
        config: YAML file, or the name of one that ships with the package.
        output: folder of the run.
        overrides: ``section.key=value``, each replacing one value of the configuration.
        resume: whether to continue a run that is there.

    Returns:
        The finished run.

    Raises:
        InputError: the configuration, the data or the folder are wrong, or several processes are asked for.
        RunError: writing failed; what was finished is kept.
    """
    with translated(for_a_program):
        _run(find_config(str(config)), Path(output), overrides, resume=resume)
        return Run(output)


def _run(config: Path, output: Path, overrides: Sequence[str], *, resume: bool) -> None:
    reuse_freed_memory()
    settings = load_settings(config, overrides)
    if settings.comm_args.backend != "sp":
        raise InputError(
            f"comm_args.backend: is {settings.comm_args.backend}, which needs several processes; start them "
            "with fedml-spurious run, or set it to sp"
        )
    device, console = choose_device(settings), Console(stderr=True)
    start_workers = partial(local_workers, settings, device)
    run_experiment(
        settings, output, resume=resume, console=console, start_workers=start_workers, device=device
    )
