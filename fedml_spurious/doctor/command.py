"""The command ``fedml-spurious doctor``: what would be run, what is missing, and what it will cost."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from fedml_spurious.common.machine import describe_cores, free_memory
from fedml_spurious.common.programs import find_program, mpirun_words
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.checks import Findings, free_disk
from fedml_spurious.doctor.estimate import Estimate, Processes, between
from fedml_spurious.doctor.examination import Examination, examine
from fedml_spurious.doctor.spans import duration, size
from fedml_spurious.experiment.personalization_step import describe_plan, describe_recordings
from fedml_spurious.fedml_adapter.processes.ranks import grpc_addresses


def show_doctor(settings: Settings, config: str, overrides: Sequence[str], output: Path) -> bool:
    """Say what would be run, what is missing, and what it will cost.

    Args:
        settings: settings of the run.
        config: the configuration as it was named.
        overrides: ``section.key=value`` as they were given.
        output: folder of the run.

    Returns:
        Whether it can be run.
    """
    examined = examine(settings, output)
    _show_run(settings, examined)
    _show_findings(examined.found)
    if examined.cost is not None:
        _show_costs(examined.cost, output, examined.processes)
    if examined.found.missing:
        click.echo("It cannot be run yet.")
        return False
    _show_start(settings, config, overrides, output, examined.processes)
    return True


def _show_run(settings: Settings, examined: Examination) -> None:
    click.echo(f"Would be run: {settings.data_args.dataset}, network {settings.model_args.model}")
    if examined.data is not None:
        clients = examined.data.clients
        for line in filter(None, (describe_plan(settings, clients), describe_recordings(settings, clients))):
            click.echo(f"  {line}")
    processes, device = examined.processes, examined.device
    where = "on a GPU that is not there" if device is None else f"on {device}"
    each = " each" if processes.size > 1 else ""
    click.echo(
        f"  {counted(processes.size, 'process')} ({settings.comm_args.backend}) {where}, "
        f"{counted(processes.threads, 'thread')}{each}, {describe_cores()}"
    )


def _show_findings(found: Findings) -> None:
    click.echo("Missing:" if found.missing else "Missing: nothing")
    for line in found.missing:
        click.echo(f"  {line}")
    if found.doubts:
        click.echo("Mind:")
    for line in found.doubts:
        click.echo(f"  {line}")


def _show_costs(cost: Estimate, output: Path, processes: Processes) -> None:
    click.echo("Will cost, by timed steps on this machine:")
    for name, span in cost.stages.items():
        click.echo(f"  {name:<17} {between(duration, span)}")
    click.echo(f"  {'in all':<17} {between(duration, cost.seconds)}")
    of_each = f", {between(size, cost.process)} in one process" if processes.size > 1 else ""
    click.echo(
        f"  {'memory at most':<17} {between(size, cost.memory)}{of_each}; {size(free_memory())} are free"
    )
    if cost.gpu:
        click.echo(f"  {'of the GPU':<17} about {size(cost.gpu)} for a process")
    click.echo(f"  {'run folder':<17} {between(size, cost.disk)}; {size(free_disk(output))} are free")


def _show_start(
    settings: Settings, config: str, overrides: Sequence[str], output: Path, processes: Processes
) -> None:
    """What starts the run here, word for word."""
    program = find_program("fedml-spurious") or "fedml-spurious"
    words = [program, "run", "--cf", config, *(part for one in overrides for part in ("--set", one))]
    words += ["--output", str(output)]
    if settings.comm_args.backend == "MPI":
        words = [*mpirun_words(processes.size, processes.threads), *words]
    command = shlex.join(words)
    if settings.comm_args.backend != "GRPC":
        click.echo(f"It can be run: {command}")
        return
    click.echo("It can be run, each of these in a terminal of its own:")
    hosts = [host for host, _ in grpc_addresses(settings)]
    for rank, host in enumerate(hosts):
        there = f"  # on {host}" if len(set(hosts)) > 1 else ""
        click.echo(f"  {command} --rank {rank} --role {'client' if rank else 'server'}{there}")
