"""How a command ends: one message and an exit status, never a traceback for what the user can mend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click
from pydantic import ValidationError

from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.validation import describe_errors
from fedml_spurious.common.words import without_addresses

RUN_FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130

P = ParamSpec("P")
R = TypeVar("R")


def friendly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors that a user can mend into one message on stderr and an exit status.

    Wrong input (also options that do not validate) ends with 2, a failure while running with 1, Ctrl-C
    with 130. Other exceptions are defects and keep their traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ValidationError as error:
            status, message = WRONG_INPUT, describe_errors(error)
        except InputError as error:
            status, message = WRONG_INPUT, str(error)
        except RunError as error:
            status, message = RUN_FAILED, str(error)
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing half-written was kept.", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        click.echo(f"Error: {without_addresses(message)}", err=True)
        raise click.exceptions.Exit(status)

    return wrapped
