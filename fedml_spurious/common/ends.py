"""How a process is ended from outside: at Ctrl-C, SIGTERM and SIGHUP it cleans up and says how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 128 + signal.SIGINT


class EndedError(KeyboardInterrupt):
    """A signal asked this process to end; treated as Ctrl-C is.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def signals_end_as_ctrl_c() -> Iterator[None]:
    """Raise :class:`EndedError` at SIGTERM and SIGHUP inside the block, unless somebody else listens to them.

    A second signal does not disturb the end. What a user told to ignore, as ``nohup`` does with SIGHUP, stays
    ignored. Python delivers signals to the main thread alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for other in heard:
            signal.signal(other, signal.SIG_IGN)
        raise EndedError(number)

    heard = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def leave_ends_to_the_parent() -> None:
    """In a child process: Ctrl-C reaches the parent too, which ends its children; other signals end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def how_it_ended(error: KeyboardInterrupt) -> tuple[int, str]:
    """Exit status and words: ``Interrupted``, or ``Ended by SIGTERM``."""
    if isinstance(error, EndedError):
        return 128 + error.number, f"Ended {error}"
    return INTERRUPTED, "Interrupted"
