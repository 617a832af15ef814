"""Coloured MNIST: handwritten digits whose colour goes with the class, differently on every client.

Run as ``python -m data_partition.colored_mnist --raw DIR --out DIR``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from data_partition.colored.federation import GreyImages, plan_colored
from data_partition.colored.mnist_files import NUM_CLASSES, download_mnist, read_digits, read_mnist
from data_partition.colored.options import ALIASES, ColoredOptions
from data_partition.options import Share
from data_partition.partition import Partition, Raw
from data_partition.split_files.federation import Federation
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError

NAME = "colored_mnist"

_DIGITS_NOTE = "made from the 1,797 digits inside scikit-learn, enlarged from 8x8 to 28x28"
_RAW_PARTS = {"all": ("train", "test"), "train": ("train",), "test": ("test",)}


class Options(ColoredOptions):
    """Options of coloured MNIST; see :class:`~data_partition.colored.options.ColoredOptions` for the others.

    Attributes:
        source: the 70,000 digits of MNIST, or the 1,797 digits inside scikit-learn, enlarged from 8x8.
            By default MNIST where a folder of raw files is given.
        raw_split: which of MNIST's own two parts to use.
        verify_raw: refuse raw files that are not MNIST's.
    """

    classes_per_client: int = Field(
        5, le=NUM_CLASSES, description="different classes on each client, at least 2"
    )
    bias_conflicting_fraction: Share = Field(
        0.02, description="share of training samples in the colour of another class, 0 to 1"
    )
    source: Literal["mnist", "digits"] | None = Field(
        None, description="MNIST, or the small digits inside scikit-learn; default mnist where --raw is given"
    )
    raw_split: Literal["all", "train", "test"] = Field("all", description="part of the raw MNIST to use")
    verify_raw: bool = Field(True, description="refuse raw files that are not MNIST's")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "digits" and self.raw_split != "all":
            raise ValueError("raw_split: the digits inside scikit-learn have one part only; leave it out")
        return self


def plan(options: Options, raw: Raw) -> Federation:
    """Read the digits and deal them to clients. One process does it: 70,000 digits take seconds."""
    if options.source is None:
        options = options.model_copy(update={"source": "digits" if raw.folder is None else "mnist"})
    notes = (_DIGITS_NOTE,) if options.source == "digits" else ()
    return plan_colored(NAME, options, _read(options, raw.folder), notes=notes)


def _read(options: Options, raw: Path | None) -> GreyImages:
    if options.source == "digits":
        return read_digits()
    if raw is None:
        raise InputError(
            f"source mnist: say with {advice.raw()} where the raw files are, or use "
            f"{advice.option('source', 'digits')}, the digits inside scikit-learn"
        )
    return read_mnist(raw, _RAW_PARTS[options.raw_split], verify=options.verify_raw)


PARTITION = Partition(
    NAME,
    Options,
    plan,
    help="Coloured MNIST: digits whose colour goes with the class, differently on every client.",
    download=download_mnist,
    aliases=ALIASES,
)
build, command = PARTITION.build, PARTITION.command

if __name__ == "__main__":
    command()
