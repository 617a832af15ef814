"""Where log messages go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedml_spurious.common.ends import how_it_ended

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Send all log messages, FedML's and warnings among them, to a file instead of the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    with log_to(handler):
        try:
            yield
        except KeyboardInterrupt as error:
            logger.warning("%s", how_it_ended(error)[1])
            raise


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
