"""What a message tells its reader to do, in the words of what was called.

The code that makes split files is called by ``partition``, whose options are flags, by ``run``, where they
are keys of the configuration, and by programs, which give arguments. Its messages name options through the
functions here. The messages of a run speak of the flags of ``run``; where a program called it, they are
translated on their way out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from fedml_spurious.common.errors import InputError, RunError

_reader: ContextVar[Literal["program", "command", "run"]] = ContextVar("reader", default="program")
_dataset: ContextVar[str] = ContextVar("dataset", default="NAME")


@contextmanager
def advising_a_run(dataset: str) -> Iterator[None]:
    """Inside the block the reader called ``run``, which makes the splits of this data set."""
    tokens = _reader.set("run"), _dataset.set(dataset)
    try:
        yield
    finally:
        _reader.reset(tokens[0])
        _dataset.reset(tokens[1])


@contextmanager
def advising_a_command() -> Iterator[None]:
    """Inside the block the reader called a command that makes split files, such as ``partition``."""
    token = _reader.set("command")
    try:
        yield
    finally:
        _reader.reset(token)


def option(name: str, value: str | None = None) -> str:
    """An option of a partition.

    ``--raw-split train``, ``data_args.partition.raw_split=train`` or ``raw_split='train'``.
    """
    reader = _reader.get()
    if reader == "run":
        return f"data_args.partition.{name}" + ("" if value is None else f"={value}")
    if reader == "program":
        plain = value in ("true", "false") or (value or "").isdecimal()
        return name if value is None else f"{name}={value.capitalize() if plain else repr(value)}"
    flag = f"--{name.replace('_', '-')}"
    return {"true": flag, "false": f"--no-{flag[2:]}", None: flag}.get(value, f"{flag} {value}")


def raw() -> str:
    """What names the folder of the raw files."""
    return {"run": "data_args.raw", "command": "--raw", "program": "raw"}[_reader.get()]


def fetch() -> str:
    """How files that are missing are fetched, after a word such as "or"."""
    if _reader.get() == "command":
        return "fetch it with --download"
    return f"fetch it with `fedml-spurious partition {_dataset.get()} --raw DIR --download --out SPLITS`"


def make_anew(folder: object) -> str:
    """How split files that are there are replaced."""
    if _reader.get() == "run":
        return _resume_without(folder)
    return f"add {_overwrite()} to write it again"


def make_again(folder: object) -> str:
    """What becomes of split files that are damaged."""
    return _resume_without(folder) if _reader.get() == "run" else "make the splits again"


def _resume_without(folder: object) -> str:
    return f"remove the folder {folder} and continue with --resume, which makes it again"


def _overwrite() -> str:
    return "--overwrite" if _reader.get() == "command" else "overwrite=True"


def make_elsewhere() -> str:
    """How other split files are made beside those that are there."""
    if _reader.get() == "run":
        return "give another --output"
    return f"choose another {'--out' if _reader.get() == 'command' else 'out'} or add {_overwrite()}"


def use_fewer_workers() -> str:
    """How the images are decoded by fewer processes."""
    if _reader.get() == "run":
        return f"Make the splits with `fedml-spurious partition {_dataset.get()} --workers 1 --out SPLITS`"
    return f"Start again with fewer {'--workers' if _reader.get() == 'command' else 'workers'}"


@contextmanager
def translated(words: Callable[[str], str]) -> Iterator[None]:
    """Let the errors of the block that a user can mend speak otherwise; they stay the same objects.

    Args:
        words: gives a text in the words of whoever called.
    """
    try:
        yield
    except (InputError, RunError) as error:
        error.args = (words(str(error)), *error.args[1:])
        raise


def for_a_program(text: str) -> str:
    """A message of a run in the arguments of :func:`fedml_spurious.run`; whole commands stay."""
    parts = text.split("`")
    parts[::2] = [
        part.replace("--resume", "resume=True")
        .replace("--output", "output")
        .replace("--set ", "the override ")
        for part in parts[::2]
    ]
    return "`".join(parts)


def for_an_audit(text: str) -> str:
    """A message of a run for whoever audits it: an audit goes on from nothing, and makes no part of a run."""
    text = re.sub(
        r"\b([Cc])ontinue with --resume(?!, which)",
        lambda found: f"{'S' if found[1] == 'C' else 's'}tart the audit again",
        _without_what_is_kept(text),
    )
    # What only another run mends; its folder has no flag here. Some words have been a program's already.
    text = re.sub(r", and give another (?:--)?output\b", ", make the run again, and audit that one", text)
    text = re.sub(r"\bgive another (?:--)?output\b", "audit another run", text)
    return text.replace("Give an --output that", "Name a folder that")


def _without_what_is_kept(text: str) -> str:
    return re.sub(r"What (?:was|is) finished is kept; (\w)", lambda found: found[1].upper(), text)


def for_fedmls_runner(text: str) -> str:
    """A message of a run for a program with FedML's runner, which keeps nothing and goes on from nothing."""
    text = _without_what_is_kept(text)
    again = r"\b([Cc])ontinue (?:the run |it )?with --resume(?:, which makes it again)?"
    text = re.sub(again, lambda found: f"{'S' if found[1] == 'C' else 's'}tart the program again", text)
    return text.replace("give another --output", "start the program again").replace("--output", "folder")
