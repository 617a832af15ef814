"""What becomes of an error in FedML's runners, which would wait for ever for the process that had it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fedml_spurious.common.advice import for_fedmls_runner, translated
from fedml_spurious.common.cli_errors import RUN_FAILED, WRONG_INPUT
from fedml_spurious.common.errors import InputError, RunError

logger = logging.getLogger(__name__)

_APART = 0.3  # seconds


class Failures:
    """Keeps an error from leaving FedML's other processes waiting.

    Over MPI the error is said and all processes end. Over other backends nobody notices the end of a process:
    the error is kept, travels in the messages that FedML sends anyway, and all processes idle through the
    rounds that are left. In a single process errors are raised as ever.

    Args:
        args: FedML's arguments, of which ``backend`` and ``rank`` are read.

    Attributes:
        text: what went wrong, here or elsewhere; empty where nothing did.
        travel: whether errors travel in messages.
    """

    def __init__(self, args: Any) -> None:
        self.text = ""
        self._backend = str(getattr(args, "backend", "sp"))
        self._rank = int(getattr(args, "rank", 0) or 0)
        self.travel = self._backend not in ("sp", "MPI")

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Do with an error of the block what the class says."""
        try:
            with translated(for_fedmls_runner):
                yield
        except Exception as error:
            if self._backend == "MPI":
                end_all(error, self._rank)
            if not self.travel:
                raise
            self.hear(_in_words(error))

    def hear(self, text: str) -> None:
        """Take note of an error, of another process perhaps; the first one is kept."""
        if text and not self.text:
            logger.error("%s", text)
            self.text = text

    def check(self) -> None:
        """Raise what went wrong.

        Raises:
            InputError: something did, in some process.
        """
        if self.text:
            raise InputError(self.text)


def end_all(error: Exception, rank: int) -> None:
    """Say an error and end all processes that ``mpirun`` started; return where there are no others."""
    # mpi4py is optional.
    from mpi4py import MPI

    if MPI.Is_finalized() or MPI.COMM_WORLD.Get_size() == 1:
        return
    # All processes may have made the same mistake: the first that says it ends the others.
    time.sleep(_APART * rank)
    click.echo(f"Error: {_in_words(error)}", err=True)
    MPI.COMM_WORLD.Abort(WRONG_INPUT if isinstance(error, InputError) else RUN_FAILED)


def _in_words(error: Exception) -> str:
    if isinstance(error, InputError | RunError):
        return str(error)
    logger.error("a defect, or a library's", exc_info=error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def one_error(args: Any) -> Iterator[None]:
    """End a program in FedML's runner with one message for wrong input, and the exit status that says so.

    Over MPI all processes end with it.

    Args:
        args: FedML's arguments, of which ``backend`` and ``rank`` are read.
    """
    try:
        with translated(for_fedmls_runner):
            yield
    except InputError as error:
        if str(getattr(args, "backend", "sp")) == "MPI":
            end_all(error, int(args.rank))
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(WRONG_INPUT) from None
