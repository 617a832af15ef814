"""Coloured Coil20: 20 objects whose colour goes with the object, differently on every client.

Run as ``python -m data_partition.colored_coil20 --raw DIR --out DIR``.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from data_partition.colored.build import write_colored
from data_partition.colored.coil20_files import NUM_OBJECTS, download_coil20, explain_checksum, read_coil20
from data_partition.colored.options import ColoredOptions
from data_partition.command import partition_command
from data_partition.registry import Progress
from fedml_spurious.common.errors import InputError

NAME = "colored_coil20"


class Options(ColoredOptions):
    """Options of coloured Coil20; see :class:`~data_partition.options.ColoredOptions`."""

    classes_per_client: int = Field(
        5, le=NUM_OBJECTS, description="different classes on each client, at least 2"
    )


def build(
    options: BaseModel,
    *,
    raw: Path | None,
    out: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the splits; see :class:`~data_partition.registry.Build`.

    One process does it: 1,440 views take a few seconds.
    """
    options = Options.model_validate(options)
    if raw is None:
        raise InputError("colored_coil20: say with --raw where the raw files are")
    images = read_coil20(raw)
    notes = explain_checksum(images)
    return write_colored(NAME, options, images, out=out, notes=notes, progress=progress, overwrite=overwrite)


command = partition_command(
    NAME,
    Options,
    build,
    help_text="Coloured Coil20: 20 objects whose colour goes with the object, differently on every client.",
    download=download_coil20,
    aliases={"bias_conflicting_fraction": ["--conflicting-fraction"]},
)

if __name__ == "__main__":
    command()
