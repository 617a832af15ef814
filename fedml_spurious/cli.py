"""The command line. torch and FedML are imported when a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import click

from fedml_spurious.audit_command import audit
from fedml_spurious.common.allocator import reuse_freed_memory
from fedml_spurious.common.cli_errors import WRONG_INPUT, Command, friendly
from fedml_spurious.common.ends import how_it_ended
from fedml_spurious.common.streams import forgiving_streams, take_loss
from fedml_spurious.common.threads import share_cores
from fedml_spurious.common.version import __version__


class _Partitions(click.Group):
    """``partition NAME``; a script is imported when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from data_partition.registry import PARTITIONS  # late: other commands do without it

        return list(PARTITIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from data_partition.registry import PARTITIONS  # late: other commands do without it

        return PARTITIONS[cmd_name].command if cmd_name in PARTITIONS else None


class _Main(click.Group):
    """The group of all commands; its help too can meet a standard output that takes nothing."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, and say where the process ends that standard output was lost."""
        with forgiving_streams():
            try:
                return super().main(*args, **kwargs)
            finally:
                lost = take_loss()
                if lost:
                    click.echo(f"Error: standard output cannot be written ({lost})", err=True)


_config_option = partial(
    click.option, "--cf", "--yaml_config_file", "config", required=True, metavar="CONFIG"
)
_set_option = partial(click.option, "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE")


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Personalized federated learning that does not fall for spurious features, on FedML."""


@main.command()
@_config_option(help="YAML file, or the name of one that ships with the package, such as quickstart.")
@_set_option(help="Replace a value; may be repeated.")
@click.option("--output", metavar="DIR", help="Folder of the run; runs/<name of CONFIG> where absent.")
@click.option("--resume", is_flag=True, help="Continue the run in the folder where it stopped.")
@click.option("--rank", type=int, metavar="N", help="Number of this process; with comm_args.backend GRPC.")
@click.option("--role", type=click.Choice(["server", "client"]), help="Rank 0 is the server, others clients.")
@friendly
def run(
    config: str,
    overrides: tuple[str, ...],
    output: str | None,
    resume: bool,
    rank: int | None,
    role: str | None,
) -> None:
    """Train the global models, personalize and measure them as CONFIG says.

    Several processes: start it with `mpirun -np N`, and add `--set comm_args.backend=MPI`.
    """
    share_cores()
    reuse_freed_memory()
    # Late: --help does without them.
    from fedml_spurious.config.file import find_config, load_settings
    from fedml_spurious.fedml_adapter.processes.ranks import find_rank, rank_zero_speaks

    with rank_zero_speaks():
        path = find_config(config)
        settings = load_settings(path, overrides)
        process = find_rank(settings, rank, role)
    folder = Path(output) if output else Path("runs") / path.stem
    sets = "".join(f" --set {shlex.quote(item)}" for item in overrides)
    resume_command = (
        f"fedml-spurious run --cf {shlex.quote(config)}{sets} --output {shlex.quote(str(folder))} --resume"
    )
    # Torch takes seconds, which mistakes in a configuration must not wait for, and reads what was set above.
    from rich.console import Console

    # The same.
    from fedml_spurious.doctor.first_line import foretell
    from fedml_spurious.experiment.device import choose_device
    from fedml_spurious.experiment.run import run_experiment
    from fedml_spurious.fedml_adapter.local_workers import local_workers
    from fedml_spurious.fedml_adapter.processes.job import Job
    from fedml_spurious.fedml_adapter.processes.launch import run_rank

    console = Console(stderr=True)
    if process is not None:
        lead = partial(
            run_experiment,
            settings,
            folder,
            resume=resume,
            console=console,
            foretell=partial(foretell, size=process.size),
        )
        run_rank(settings, folder, process, Job(resume_command), lead)
        return
    device = choose_device(settings)
    start_workers = partial(local_workers, settings, device)
    try:
        run_experiment(
            settings,
            folder,
            resume=resume,
            console=console,
            start_workers=start_workers,
            device=device,
            foretell=foretell,
        )
    except KeyboardInterrupt as error:
        status, words = how_it_ended(error)
        click.echo(f"{words}. What is finished is kept; continue with:\n  {resume_command}", err=True)
        raise click.exceptions.Exit(status) from None


@main.command()
@_config_option(help="YAML file, or the name of one that ships with the package.")
@_set_option(help="Replace a value; may be repeated.")
@click.option("--output", metavar="DIR", help="Folder that the run would have; runs/<name of CONFIG>.")
@friendly
def doctor(config: str, overrides: tuple[str, ...], output: str | None) -> None:
    """Say what CONFIG would run, what is missing, and what it will cost.

    A few steps of the real network are timed; nothing is written. Exit status 2 where it cannot be run.
    """
    share_cores()
    reuse_freed_memory()
    # Late: --help does without them.
    from fedml_spurious.config.file import find_config, load_settings
    from fedml_spurious.fedml_adapter.processes.ranks import mpi_rank

    rank = mpi_rank()
    if rank is not None and rank.number:  # mpirun says how many there will be; one of them tells the rest
        return
    path = find_config(config)
    settings = load_settings(path, overrides)
    # Torch takes seconds, which mistakes in a configuration must not wait for, and reads what was set above.
    from fedml_spurious.doctor.command import show_doctor

    folder = Path(output) if output else Path("runs") / path.stem
    if not show_doctor(settings, config, overrides, folder):
        raise click.exceptions.Exit(WRONG_INPUT)


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "csv", "markdown", "latex"]),
    default="terminal",
    show_default=True,
    help="What to write to standard output.",
)
@click.option(
    "--average",
    type=click.Choice(["mean", "weighted"]),
    default="mean",
    show_default=True,
    help="Every client counts the same, or as many times as it has test samples.",
)
@click.option(
    "--epoch",
    type=click.Choice(["selected", "last"]),
    default="selected",
    show_default=True,
    help="Of which epoch the personal models are.",
)
@click.option(
    "--why",
    is_flag=True,
    help="Show why each coefficient was chosen, and the error sets of JTT, instead of the table.",
)
@friendly
def table(runs: tuple[str, ...], form: str, average: str, epoch: str, why: bool) -> None:
    """Join finished runs into one table, beside the paper's Table 1.

    Runs of one data set are put together where they differ in methods and seeds alone.
    """
    from fedml_spurious.results.table_command import show_runs  # late: --help does without it

    show_runs(runs, form=form, average=average, epoch=epoch, why=why)


@main.command()
@click.argument("name", required=False, metavar="NAME")
@click.argument("runs", nargs=-1, metavar="RUN...")
@click.option("--list", "listing", is_flag=True, help="Name all figures and what their runs need.")
@click.option("--out", default="figures", show_default=True, metavar="DIR", help="Folder for both files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["svg", "png", "pdf"]),
    default="svg",
    show_default=True,
    help="Of the picture.",
)
@friendly
def figure(name: str | None, runs: tuple[str, ...], listing: bool, out: str, form: str) -> None:
    """Draw a figure of the paper from finished runs, and write the CSV behind it.

    NAME is one of --list, or the paper's number.
    """
    from fedml_spurious.figures.command import list_figures, write_figure  # late: --help does without it

    if listing:
        list_figures()
    else:
        write_figure(name, runs, out=out, form=form)


@main.command()
@_config_option(help="YAML file, or the name of one that ships with the package.")
@click.option(
    "--grid",
    "grid",
    multiple=True,
    metavar="SECTION.KEY=[...]",
    help="A key and its values; may be repeated, and every combination is run.",
)
@_set_option(help="Replace a value in all cells.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the sweep.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Runs at a time; by default as the cores allow."
)
@friendly
def sweep(config: str, grid: tuple[str, ...], overrides: tuple[str, ...], out: str, jobs: int | None) -> None:
    """Run a configuration with every combination of values and every federated seed, and join the results.

    The same command goes on where it stopped; values may be added to the grid.
    """
    share_cores()
    # Torch takes seconds to import, which --help must not wait for; and it reads what was set just now.
    from rich.console import Console

    # The same.
    from fedml_spurious.config.file import find_config
    from fedml_spurious.sweep.command import sweep as run_sweep
    from fedml_spurious.sweep.grid import parse_grid

    axes = parse_grid(grid)
    try:
        run_sweep(find_config(config), overrides, axes, Path(out), jobs=jobs, console=Console(stderr=True))
    except KeyboardInterrupt as error:
        status, words = how_it_ended(error)
        click.echo(f"{words}. What is finished is kept; the same command goes on.", err=True)
        raise click.exceptions.Exit(status) from None


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", metavar="FILE.html", help="The page; report.html in the run folder where absent.")
@friendly
def report(runs: tuple[str, ...], out: str | None) -> None:
    """Write one self-contained page about finished or unfinished runs.

    It opens offline, prints, and is readable without JavaScript.
    """
    from fedml_spurious.report.page import write_report  # late: --help does without it

    click.echo(write_report([Path(run) for run in runs], Path(out) if out else None))


@main.group(cls=_Partitions)
def partition() -> None:
    """Make client split files; the same as `python -m data_partition.NAME`."""


main.add_command(audit)


if __name__ == "__main__":
    main()
