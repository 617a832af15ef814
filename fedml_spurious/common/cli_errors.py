"""How a command ends: one message and an exit status, never a traceback for what the user can mend."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click
from pydantic import ValidationError

from fedml_spurious.common.ends import how_it_ended, signals_end_as_ctrl_c
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.streams import forgiving_streams, take_loss
from fedml_spurious.common.validation import describe_errors
from fedml_spurious.common.words import without_addresses

RUN_FAILED = 1
WRONG_INPUT = 2

P = ParamSpec("P")
R = TypeVar("R")


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a user can mend into one message on stderr and an exit status.

    Wrong input (also options that do not validate) ends with 2, a failure while running with 1, Ctrl-C with
    130, SIGTERM and SIGHUP with 128 and their number. Other exceptions are defects and keep their traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with forgiving_streams(), signals_end_as_ctrl_c():
            try:
                result = command(*args, **kwargs)
                lost = take_loss()
                if not lost:
                    return result
                status, message = RUN_FAILED, f"standard output cannot be written ({lost})"
            except ValidationError as error:
                status, message = WRONG_INPUT, describe_errors(error)
            except InputError as error:
                status, message = WRONG_INPUT, str(error)
            except PermissionError as error:
                where = f"{error.filename}: " if error.filename else ""
                status = WRONG_INPUT
                message = f"{where}{error.strerror or error}; see to it that you may read and write there"
            except RunError as error:
                status, message = RUN_FAILED, str(error)
            except KeyboardInterrupt as error:
                status, words = how_it_ended(error)
                click.echo(f"{words}; nothing half-written was kept.", err=True)
                raise click.exceptions.Exit(status) from None
            click.echo(f"Error: {without_addresses(message)}", err=True)
            raise click.exceptions.Exit(status)

    return wrapped


_EMPTY_VALUE = re.compile("--[a-z_-]+=")


class Command(click.Command):
    """A command that takes no empty argument: an empty path would be the folder in which one stands."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Refuse empty arguments, as those of a variable that is not set."""
        for place, arg in enumerate(args):
            if not arg.strip() or _EMPTY_VALUE.fullmatch(arg):
                option = arg.strip("=") or (args[place - 1] if place else "")
                name = option if option.startswith("-") else f"argument {place + 1}"
                raise click.UsageError(f"{name}: is empty; give a value, or leave it out")
        return super().make_context(info_name, args, parent, **extra)
