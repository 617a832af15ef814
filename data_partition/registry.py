"""The data sets that can be partitioned, imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

import click
from pydantic import BaseModel

__all__ = ["PARTITIONS", "Build", "Partition", "Progress"]

Progress = Callable[[int, int], None]
"""Called with the work done so far and the whole of it."""


class Build(Protocol):
    """The function that writes the splits of one data set."""

    def __call__(
        self,
        options: BaseModel,
        *,
        raw: Path | None,
        out: Path,
        progress: Progress | None = None,
        workers: int | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the splits and return the path of their description.

        Args:
            options: what to make, an instance of the module's ``Options``.
            raw: folder with the raw files; None where none are needed.
            out: folder for the split files.
            progress: told how far the work is.
            workers: number of processes; the result does not depend on it.
            overwrite: replace a data set made with other options.

        Raises:
            InputError: the raw files or the options are wrong, or ``out`` holds other splits.
            RunError: the files could not be written.
        """


class Partition(Protocol):
    """What a module ``data_partition.NAME`` offers."""

    Options: type[BaseModel]
    build: Build
    command: click.Command


class _Partitions(Mapping[str, Partition]):
    """NAME -> module, imported at the first access."""

    _names = ("colored_mnist", "colored_coil20", "celeba_real", "celeba_synthetic")

    def __getitem__(self, name: str) -> Partition:
        if name not in self._names:
            raise KeyError(name)
        return cast(Partition, importlib.import_module(f"data_partition.{name}"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


PARTITIONS: Mapping[str, Partition] = _Partitions()
