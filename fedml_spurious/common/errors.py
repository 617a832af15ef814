"""Errors that are meant to be read by the user.

The command line prints their text without a traceback. Everything else that escapes is a defect of
this package and keeps its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """The input is wrong: configuration, data or arguments (exit status 2).

    The text says what is wrong, where, what was expected and what to do.
    """


class RunError(RuntimeError):
    """The input is right and the work failed all the same, for example on a full disk (exit status 1)."""


class DivergedError(RunError):
    """A loss, a weight, an output or a gradient is no finite number: what was trained is no model.

    Wherever it arises it says which; whoever knows the round, the client or the method adds it.
    """


class MethodError(RunError):
    """A personalization method returned something that is none of what it is to return."""


class SealedError(RuntimeError):
    """The bias-conflicting test set was read while something was trained, tuned or selected."""
