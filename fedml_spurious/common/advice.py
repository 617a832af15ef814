"""What a message tells its reader to do, in the words of the command that was called.

The code that makes split files is called by ``partition``, whose options are flags, and by ``run``, where
they are keys of the configuration. Its messages name options through the functions here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_dataset: ContextVar[str | None] = ContextVar("dataset", default=None)


@contextmanager
def advising_a_run(dataset: str) -> Iterator[None]:
    """Inside the block the reader called ``run``, which makes the splits of this data set."""
    token = _dataset.set(dataset)
    try:
        yield
    finally:
        _dataset.reset(token)


def option(name: str, value: str | None = None) -> str:
    """An option of a partition: ``--raw-split train``, or ``data_args.partition.raw_split=train``."""
    if _dataset.get() is None:
        flag = f"--{name.replace('_', '-')}"
        return {"true": flag, "false": f"--no-{flag[2:]}", None: flag}.get(value, f"{flag} {value}")
    return f"data_args.partition.{name}" + ("" if value is None else f"={value}")


def raw() -> str:
    """The option that names the folder of the raw files."""
    return "--raw" if _dataset.get() is None else "data_args.raw"


def fetch() -> str:
    """How files that are missing are fetched, after a word such as "or"."""
    name = _dataset.get()
    if name is None:
        return "fetch it with --download"
    return f"fetch it with `fedml-spurious partition {name} --raw DIR --download --out SPLITS`"


def make_anew(folder: object) -> str:
    """How split files that are there are replaced."""
    if _dataset.get() is None:
        return "add --overwrite to write it again"
    return _resume_without(folder)


def make_again(folder: object) -> str:
    """What becomes of split files that are damaged."""
    if _dataset.get() is None:
        return "make the splits again"
    return _resume_without(folder)


def _resume_without(folder: object) -> str:
    return f"remove the folder {folder} and continue with --resume, which makes it again"


def make_elsewhere() -> str:
    """How other split files are made beside those that are there."""
    return "choose another --out or add --overwrite" if _dataset.get() is None else "give another --output"


def use_fewer_workers() -> str:
    """How the images are decoded by fewer processes."""
    name = _dataset.get()
    if name is None:
        return "Start again with fewer --workers"
    return f"Make the splits with `fedml-spurious partition {name} --workers 1 --out SPLITS`"
