"""Coloured Coil20: 20 objects whose colour goes with the object, differently on every client.

Run as ``python -m data_partition.colored_coil20 --raw DIR --out DIR``.
"""

from __future__ import annotations

from pydantic import Field

from data_partition.colored.coil20_files import NUM_OBJECTS, download_coil20, explain_checksum, read_coil20
from data_partition.colored.federation import plan_colored
from data_partition.colored.options import ALIASES, ColoredOptions
from data_partition.partition import Partition, Raw
from data_partition.split_files.federation import Federation
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError

NAME = "colored_coil20"


class Options(ColoredOptions):
    """Options of coloured Coil20; see :class:`~data_partition.colored.options.ColoredOptions`."""

    classes_per_client: int = Field(
        5, le=NUM_OBJECTS, description="different classes on each client, at least 2"
    )


def plan(options: Options, raw: Raw) -> Federation:
    """Read the views and deal them to clients. One process does it: 1,440 views take a few seconds."""
    if raw.folder is None:
        raise InputError(f"colored_coil20: say with {advice.raw()} where the raw files are")
    images = read_coil20(raw.folder)
    return plan_colored(NAME, options, images, notes=explain_checksum(images))


PARTITION = Partition(
    NAME,
    Options,
    plan,
    help="Coloured Coil20: 20 objects whose colour goes with the object, differently on every client.",
    download=download_coil20,
    aliases=ALIASES,
)
build, command = PARTITION.build, PARTITION.command

if __name__ == "__main__":
    command()
