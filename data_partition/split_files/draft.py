"""Writing HDF5 so that neither a full disk nor a signal can crash the process."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Draft(io.FileIO):
    """A new file that remembers a failed write instead of reporting it.

    HDF5 crashes the process when the disk fills up under an open file. It writes through this object,
    never sees the failure, and the writer raises :attr:`failure` as soon as HDF5 has returned.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write all of ``content``, or note why that failed."""
        view = memoryview(content).cast("B")
        try:
            written = 0
            while self.failure is None and written < len(view):
                written += super().write(view[written:])
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Resize, or note why that failed."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back until the block ends.

    HDF5 calls :class:`Draft` from C and crashes when a call raises, which the handler of a signal may do
    anywhere. Outside the main thread Python delivers no signal, so nothing is to be held back; and what has
    no handler in Python raises nothing.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    raising = [number for number in _ENDING if callable(signal.getsignal(number))] if in_main_thread else []
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number)) for number in raising
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
