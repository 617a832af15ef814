"""Writing HDF5 so that neither a full disk nor Ctrl-C can crash the process."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    """Hold Ctrl-C back until the block ends.

    HDF5 calls :class:`Draft` from C and crashes when a call raises, which KeyboardInterrupt may do anywhere.
    Outside the main thread Python delivers no signal, so there is nothing to hold back; and a handler that
    was not installed from Python raises nothing.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            signal.raise_signal(signal.SIGINT)
