"""Columns of what users bring: names and numbers, in an order, without blanks around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted


def by_number(name: object) -> tuple[int, float, str]:
    """A key that sorts numbers by their value, also those in texts, and before all other texts."""
    text = str(name)
    try:
        value = float(text)
    except ValueError:
        return 1, 0.0, text
    return (0, value, text) if math.isfinite(value) else (1, 0.0, text)


def places(values: npt.NDArray[Any], names: Sequence[Any]) -> IndexArray:
    """Place of every value among the names, shape (N,)."""
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[value] for value in values.tolist()], np.int64)


def stripped(column: str, values: npt.ArrayLike) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """A column without blanks around its texts, and a note where there were some.

    Raises:
        InputError: a value is missing.
    """
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InputError(f"{column}: sample {np.isnan(array).argmax()} has none (nan)")
    if array.dtype.kind not in "UO":
        return array, ()
    texts = [value.strip() if isinstance(value, str) else value for value in array.ravel().tolist()]
    changed = [row for row, value in enumerate(array.ravel().tolist()) if value != texts[row]]
    clean = np.array(texts, dtype=array.dtype).reshape(array.shape)
    if not changed:
        return clean, ()
    return clean, (
        f"blanks around the {column} were stripped in {counted(len(changed), 'sample')}, first {changed[0]}",
    )
