"""Where in a user's own code an exception was raised."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from fedml_spurious.common.errors import InputError, RunError

logger = logging.getLogger(__name__)

_NOT_THEIRS = {"fedml_spurious", "data_partition", "fedml", "torch", "torchvision", "numpy", "pydantic"}


def users_line(error: BaseException) -> str:
    """File, line and function of the innermost frame of a user's own code; empty where there is none.

    Args:
        error: as it was caught; only frames between where it was caught and where it was raised count.
    """
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        room = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if room not in _NOT_THEIRS and room not in sys.stdlib_module_names:
            found = f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
    return found


@contextmanager
def users_code(doing: str) -> Iterator[None]:
    """Turn what a user's own network or method raises into one message that says where.

    An exception that none of the user's code raised is a defect of this package, and passes.

    Args:
        doing: what is done meanwhile, with the name of the network or the method.

    Raises:
        RunError: the user's code raised something, or ended the process.
    """
    try:
        yield
    except (InputError, RunError):  # say it themselves
        raise
    except (Exception, SystemExit) as error:
        place = users_line(error)
        if not place:
            raise
        logger.exception("%s", doing)
        raise RunError(
            f"{doing}: {describe(error)} ({place}). What was finished is kept; mend it, then continue with "
            "--resume"
        ) from error


def describe(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}"


def describe_with_place(error: BaseException) -> str:
    """The same, with the line of a user's own code that it came from, where there is one."""
    place = users_line(error)
    return f"{describe(error)}{f' ({place})' if place else ''}"
