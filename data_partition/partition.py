"""What a data set that can be partitioned is: its options, its plan, and its command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import click

from data_partition.command import partition_command
from data_partition.split_files.federation import Federation, Progress, write_federation
from data_partition.split_files.writer import already_there
from fedml_spurious.common.frozen_model import FrozenModel

OptionsT = TypeVar("OptionsT", bound=FrozenModel)


@dataclass(frozen=True)
class Raw:
    """What a federation is planned from.

    Attributes:
        folder: of the raw files; None where none is given.
        workers: number of processes; the plan does not depend on it.
        progress: told how far the work is.
    """

    folder: Path | None
    workers: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Partition(Generic[OptionsT]):
    """A data set that can be partitioned.

    Attributes:
        name: of the data set.
        Options: what can be chosen; every field becomes an option of the command.
        plan: reads the raw data and decides which client gets what.
        help: what the data set is.
        download: fetches the raw files into a folder; None where nothing can be fetched.
        aliases: field of the options -> further names of its option on the command line.
    """

    name: str
    Options: type[OptionsT]
    plan: Callable[[OptionsT, Raw], Federation]
    help: str
    download: Callable[[Path], None] | None = None
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def build(
        self,
        options: OptionsT,
        *,
        raw: Path | None,
        out: Path,
        progress: Progress | None = None,
        workers: int | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the splits and return the path of their description.

        Nothing is written where ``out`` holds these splits already.

        Args:
            options: what to make.
            raw: folder with the raw files; None where none are needed.
            out: folder for the split files.
            progress: told how far the work is.
            workers: number of processes, by default one per core; the result does not depend on it.
            overwrite: replace splits made with other options.

        Raises:
            InputError: the raw files or the options are wrong, or ``out`` holds other splits.
            RunError: the files could not be written.
        """
        federation = self.plan(options, Raw(raw, workers, progress))
        if federation.images is not None:
            existing = already_there(out, federation.info, overwrite=overwrite)
            if existing is not None:
                return existing
        return write_federation(federation, out, progress=progress, overwrite=overwrite)

    @property
    def command(self) -> click.Command:
        """The command line, to be run or mounted in a group."""
        return partition_command(
            self.name,
            self.Options,
            self.build,
            help_text=self.help,
            download=self.download,
            aliases=self.aliases,
        )
