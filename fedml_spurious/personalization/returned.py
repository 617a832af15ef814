"""What a method's functions return, checked where it is used, so that an error names the method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from torch import Tensor, nn

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import MethodError
from fedml_spurious.learning.state_dicts import state_mismatch

_PERSONALIZED = ("state", "selected_epoch", "val_acc", "last", "details")  # its module imports this one


def refuse(method: object, function: str, got: str, expected: str) -> NoReturn:
    """Say what a function of a method returned.

    Args:
        method: the method.
        function: name of the function.
        got: what it returned.
        expected: what it should return.

    Raises:
        MethodError: always.
    """
    name = getattr(method, "name", type(method).__name__)
    code = getattr(getattr(type(method), function, None), "__code__", None)
    place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    raise MethodError(f"method {name}: {function}{place} returned {got}; expected {expected}")


def checked_loss(method: object, loss: Any) -> Tensor:
    """The objective of a batch."""
    expected = "a tensor of one number that depends on a weight that trains"
    if not isinstance(loss, Tensor):
        refuse(method, "loss", _named(loss), expected)
    if loss.numel() != 1:
        refuse(method, "loss", f"a tensor of shape {tuple(loss.shape)}", f"{expected}, such as its .mean()")
    if not loss.requires_grad:
        refuse(method, "loss", "a tensor without a gradient", expected)
    return loss.reshape(())


def checked_rows(method: object, rows: Any, count: int) -> IndexArray:
    """Rows of an epoch, shape (N,), places in a split of ``count`` samples."""
    expected = f"a NumPy array of at least one whole number from 0 to {count - 1}"
    if not isinstance(rows, np.ndarray):
        refuse(method, "sequence", _named(rows), expected)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        refuse(method, "sequence", f"an array of shape {rows.shape} and type {rows.dtype}", expected)
    if rows.min() < 0 or rows.max() >= count:
        refuse(method, "sequence", f"rows from {rows.min()} to {rows.max()}", expected)
    return rows


def checked_score(method: object, score: Any) -> float:
    """What the selected epoch maximises."""
    try:
        value = float(score)
    except (TypeError, ValueError):
        refuse(method, "score", _named(score), "a number")
    if not math.isfinite(value):
        refuse(method, "score", str(value), "a finite number")
    return value


def checked_reason(method: object, reason: Any) -> str:
    """Why the method does not apply."""
    if not isinstance(reason, str):
        refuse(method, "not_applicable", _named(reason), "text, empty where the method applies")
    return reason


def checked_model(method: object, model: Any) -> nn.Module:
    """The model that is trained."""
    if not isinstance(model, nn.Module):
        refuse(method, "start", _named(model), "a torch.nn.Module")
    return model


def check_personalized(method: object, found: Any, network: nn.Module) -> None:
    """Make sure that a personal model is one of this network, and that all that is told of it are numbers.

    Args:
        method: what made it.
        found: a ``Personalized``, it is to be hoped.
        network: the network of the run.

    Raises:
        MethodError: it is something else.
    """
    if not all(hasattr(found, field) for field in _PERSONALIZED):
        refuse(method, "personalize", _named(found), "a Personalized, such as what fine_tune gives")
    expected = "a Personalized with "
    if not isinstance(found.state, Mapping) or not all(isinstance(v, Tensor) for v in found.state.values()):
        refuse(method, "personalize", f"the state {_named(found.state)}", f"{expected}a state dictionary")
    mismatch = state_mismatch(network, found.state)
    if mismatch:
        refuse(
            method, "personalize", f"a state that does not fit: {mismatch}", f"{expected}one of the network"
        )
    if not _is_number(found.selected_epoch, whole=True) or found.selected_epoch < 1:
        refuse(
            method,
            "personalize",
            f"selected_epoch {found.selected_epoch!r}",
            f"{expected}a whole number from 1",
        )
    accuracy = found.val_acc
    if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 1):
        refuse(method, "personalize", f"val_acc {accuracy!r}", f"{expected}a number from 0 to 1, or None")
    for name, value in found.details.items():
        if value is not None and not _is_number(value):
            refuse(
                method, "personalize", f"{value!r} in details[{name!r}]", f"{expected}finite numbers or None"
            )
    if found.last is not None:
        check_personalized(method, found.last, network)


def _is_number(value: Any, *, whole: bool = False) -> bool:
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _named(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
