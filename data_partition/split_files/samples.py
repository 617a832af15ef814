"""The samples of one client in one split, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.arrays import IndexArray

COLUMN_TYPES: dict[str, Any] = {
    "image": np.uint8,
    "label": np.int64,
    "spurious": np.int64,
    "aligned": np.uint8,
    "source": np.int64,
}
"""Columns of a split file and their types."""


@dataclass(frozen=True)
class Samples:
    """Samples of one client in one split.

    Attributes:
        image: what the model sees, uint8 in 0..255, shape (n, H, W, 3).
        label: class, int64, shape (n,).
        spurious: value of the spurious feature, int64, shape (n,).
        aligned: 1 bias-aligned, 0 bias-conflicting, uint8, shape (n,).
        source: row of the raw sample, int64, shape (n,).
    """

    image: npt.NDArray[np.uint8]
    label: IndexArray
    spurious: IndexArray
    aligned: npt.NDArray[np.uint8]
    source: IndexArray

    def __post_init__(self) -> None:
        for column, expected in COLUMN_TYPES.items():
            array = getattr(self, column)
            shape_fits = array.shape == (len(self.image),) if column != "image" else array.ndim == 4
            if array.dtype != expected or not shape_fits:
                raise ValueError(
                    f"{column}: expected {np.dtype(expected)} of "
                    f"{'shape (n, H, W, 3)' if column == 'image' else f'shape ({len(self.image)},)'}, "
                    f"got {array.dtype} of shape {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.image)

    def select(self, rows: npt.NDArray[Any]) -> Samples:
        """The samples in ``rows``: indices or a mask, shape (m,) or (n,)."""
        return Samples(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def empty(cls, image_shape: tuple[int, int, int]) -> Samples:
        """No samples, of images of shape (H, W, 3)."""
        return cls(**{
            column: np.empty((0, *image_shape) if column == "image" else (0,), dtype)
            for column, dtype in COLUMN_TYPES.items()
        })  # fmt: skip


def alignment(
    label: IndexArray,
    spurious: IndexArray,
    color_map: Mapping[int, int] | None,
    conflicting_groups: Collection[tuple[int, int]],
) -> npt.NDArray[np.uint8]:
    """Which samples of a client are bias-aligned (1) and which bias-conflicting (0).

    Args:
        label: classes, shape (n,).
        spurious: values of the spurious feature, shape (n,).
        color_map: class -> value that goes with it on this client; None to go by the groups.
        conflicting_groups: (label, spurious) pairs that are bias-conflicting on every client.

    Returns:
        uint8, shape (n,).
    """
    pairs = zip(label.tolist(), spurious.tolist(), strict=True)
    if color_map is not None:
        return np.array([color_map.get(y) == a for y, a in pairs], dtype=np.uint8)
    return np.array([pair not in conflicting_groups for pair in pairs], dtype=np.uint8)


def count_groups(label: npt.NDArray[Any], spurious: npt.NDArray[Any]) -> dict[str, int]:
    """Number of samples per ``"label/spurious"``, in ascending order; both arrays have shape (n,)."""
    counts = Counter(zip(label.tolist(), spurious.tolist(), strict=True))
    return {f"{y}/{a}": count for (y, a), count in sorted(counts.items())}
