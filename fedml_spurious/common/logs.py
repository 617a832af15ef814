"""Where log messages go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from fedml_spurious.common.ends import how_it_ended

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


_BUFFERED = 100_000  # log records that are kept until it is known whether there is a log


@contextmanager
def log_file(path: Path) -> Iterator[Callable[[], None]]:
    """Send all log messages, FedML's and warnings among them, to a file instead of the terminal.

    Yields:
        Opens the file. What was logged before is kept until then, and dropped where it is never called.

    Raises:
        OSError: of what was given: the file cannot be opened.
    """
    buffer = MemoryHandler(_BUFFERED, flushLevel=logging.CRITICAL + 1)

    def begin() -> None:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        stack.callback(_close, handler)
        buffer.setTarget(handler)
        buffer.flushLevel = logging.NOTSET
        buffer.flush()

    with ExitStack() as stack, log_to(buffer):
        try:
            yield begin
        except KeyboardInterrupt as error:
            logger.warning("%s", how_it_ended(error)[1])
            raise


def _close(handler: logging.Handler) -> None:
    with suppress(OSError):  # as for what could not be written to it
        handler.close()


@contextmanager
def log_to(handler: logging.Handler) -> Iterator[None]:
    """Send all log messages, FedML's and warnings among them, to one handler."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # A log that cannot be written must not print tracebacks; what matters is written elsewhere and raises.
    loud, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = loud
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
        with suppress(OSError):  # as for what could not be written to it
            handler.close()
