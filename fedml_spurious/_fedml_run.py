"""``fedml run`` with both meanings: FedML's ``list|logs|status|stop``, and ours with ``--cf CONFIG``."""

from __future__ import annotations

from collections.abc import Container, Sequence
from types import ModuleType
from typing import Any

import click

CONFIG_OPTIONS = ("--cf", "--yaml_config_file")


def extend(module: ModuleType) -> None:
    """Give the module of FedML's ``run`` group our group in its place, before FedML registers it."""
    group = getattr(module, "fedml_run", None)
    if isinstance(group, click.Group):
        module.fedml_run = RunGroup(group)  # type: ignore[attr-defined]


def starts_an_experiment(args: Sequence[str], commands: Container[str]) -> bool:
    """Whether ``fedml run ARGS`` names a configuration before any of FedML's own ``commands``."""
    previous = ""
    for arg in args:
        if arg.partition("=")[0] in CONFIG_OPTIONS:
            return True
        # Behind an option it may be its value: `--output logs` names a folder.
        if arg in commands and not previous.startswith("-"):
            return False
        previous = arg
    return False


class RunGroup(click.Group):
    """FedML's ``run`` group; with ``--cf`` it is the command ``fedml-spurious run`` instead."""

    def __init__(self, fedml_run: click.Group) -> None:
        """Take over everything that FedML declared for its group."""
        super().__init__(
            name=fedml_run.name,
            commands=fedml_run.commands,
            params=fedml_run.params,
            callback=fedml_run.callback,
            help=fedml_run.help,
        )

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand the arguments to our command line if they start an experiment, else to FedML's."""
        if not starts_an_experiment(args, self.commands):
            return super().make_context(info_name, args, parent, **extra)
        program = parent.command_path if parent else "fedml"

        def run() -> None:
            from fedml_spurious.cli import main  # late: every `fedml` command starts here

            # With its own error handling: same messages and exit status as fedml-spurious.
            main.main(["run", *args], prog_name=program)

        return click.Command(self.name, callback=run).make_context(info_name, [], parent, **extra)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show both usages."""
        super().format_usage(ctx, formatter)
        formatter.write_usage(ctx.command_path, "--cf CONFIG [OPTIONS]", prefix="       ")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of our command below FedML's help."""
        from fedml_spurious.cli import run  # late: every `fedml` command starts here

        own = click.Context(run, info_name=ctx.info_name, parent=ctx.parent)
        records = [record for param in run.get_params(own) if (record := param.get_help_record(own))]
        with formatter.section("With --cf, run an experiment (fedml_spurious)"):
            formatter.write_dl(records)
