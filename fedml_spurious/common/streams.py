"""Standard output and standard error as people have them: closed, full, or read by somebody who has left.

What is written there is shown to people; files are written elsewhere. So a stream that takes nothing any more
is noted, and ends no work.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

PIPE_WIDTH = 110
"""Columns of what goes to a file or a pipe: no terminal sets them, and wrapped cells are hard to read."""


class Forgiving(io.TextIOBase):
    """A text stream that notes a failed write and goes on without writing.

    Args:
        stream: where the text goes.

    Attributes:
        failure: why nothing is written any more; None while all is well.
        told: whether somebody was told so.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        self.told = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute there
        """Of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # a plain attribute there
        """How characters are written that the encoding lacks."""
        return self._stream.errors

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always, as far as who writes needs to know."""
        return True

    def write(self, text: str) -> int:
        """Write, or note why that failed."""
        if self.failure is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or note why that failed."""
        if self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        # What is still in the stream's buffer must go somewhere when the process ends.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Let ``sys.stdout`` and ``sys.stderr`` forgive inside the block."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    if any(isinstance(stream, Forgiving) for stream in before):
        yield
        return
    sys.stdout, sys.stderr = (Forgiving(stream or _nowhere()) for stream in before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def take_loss() -> str:
    """Why standard output takes nothing, once; empty where it does, or its reader left as ``head`` does."""
    stream = sys.stdout
    if not isinstance(stream, Forgiving):
        return ""
    stream.flush()
    failure, told, stream.told = stream.failure, stream.told, True
    if failure is None or told or isinstance(failure, BrokenPipeError):
        return ""
    return failure.strerror or str(failure)


def _open_what_is_closed() -> None:
    """Give the numbers 0, 1 and 2 to nothing where they are closed: the next file would get them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # for as long as the process lives


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None where it is none."""
    # mpirun puts a terminal of no size in front of what may be a file.
    with suppress(OSError, ValueError):
        if sys.stdout.isatty():
            return os.get_terminal_size(sys.stdout.fileno()).columns or None
    return None


def output_width() -> int | None:
    """Columns of standard output where no terminal sets them; None where one does."""
    return PIPE_WIDTH if terminal_width() is None else None
