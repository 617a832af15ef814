"""Colours as a spurious feature: the palette, the client maps class -> colour, and the tint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.arrays import IndexArray

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "white": (255, 255, 255),
    "orange": (255, 128, 0),
    "violet": (128, 0, 255),
    "mint": (0, 255, 128),
    "rose": (255, 0, 128),
    "azure": (0, 128, 255),
    "lime": (128, 255, 0),
    "salmon": (255, 128, 128),
    "pistachio": (128, 255, 128),
    "lavender": (128, 128, 255),
    "lemon": (255, 255, 128),
    "orchid": (255, 128, 255),
    "ice": (128, 255, 255),
    "amber": (255, 192, 64),
}
"""Colours in the order in which they are used; any two of the first ten differ by 127 or more in RGB.

Every colour has a channel of 255, so the grey image is the maximum over the channels of the tinted one.
"""


def tint(grey: npt.NDArray[np.uint8], rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Tint the object; black stays black.

    Args:
        grey: grey values 0..255, shape (n, H, W).
        rgb: colour of each image, 0..255, shape (n, 3).

    Returns:
        ``grey * rgb / 255`` to the nearest integer, uint8, shape (n, H, W, 3).
    """
    product = grey[..., None].astype(np.uint16) * rgb[:, None, None, :].astype(np.uint16)
    return ((product + 127) // 255).astype(np.uint8)


def draw_shared_map(num_classes: int, num_colors: int, rng: np.random.Generator) -> IndexArray | None:
    """One colour per class, all different, shape (K,); None where there are fewer colours than classes."""
    if num_colors < num_classes:
        return None
    return rng.permutation(num_colors)[:num_classes].astype(np.int64)


def draw_client_map(
    classes: IndexArray,
    shared: IndexArray | None,
    *,
    num_colors: int,
    divergence: float,
    rng: np.random.Generator,
) -> dict[int, int]:
    """The colours of one client's classes.

    The expected share of its classes whose colour differs from the shared map is exactly ``divergence``.

    Args:
        classes: the client's classes, shape (m,).
        shared: class -> colour of the shared map, shape (K,); None only where ``divergence`` is 1.
        num_colors: colours to choose from, at least m.
        divergence: 0 for the shared map itself, 1 for a map that differs from it everywhere.
        rng: the only source of randomness.

    Returns:
        Class -> colour, injective.
    """
    if shared is None:
        return dict(zip(classes.tolist(), rng.permutation(num_colors)[: len(classes)].tolist(), strict=True))
    colors = shared[classes]  # (m,)
    changing = rng.permutation(len(classes))[: _draw_num_changes(len(classes), num_colors, divergence, rng)]
    free = np.setdiff1d(np.arange(num_colors), np.delete(colors, changing))
    while True:  # accepted with probability of about 1/e or more
        drawn = rng.permutation(free)[: len(changing)]
        if not (drawn == colors[changing]).any():
            break
    colors[changing] = drawn
    return dict(zip(classes.tolist(), colors.tolist(), strict=True))


def _draw_num_changes(num_classes: int, num_colors: int, divergence: float, rng: np.random.Generator) -> int:
    """A number of changed classes whose expectation is ``num_classes * divergence``."""
    # With no colour to spare a single class cannot change: its colour would belong to another class.
    possible = [n for n in range(num_classes + 1) if n != 1 or num_colors > num_classes]
    expected = num_classes * divergence
    below = max(n for n in possible if n <= expected)
    above = min(n for n in possible if n >= expected)
    if above == below:
        return below
    return above if rng.random() < (expected - below) / (above - below) else below


def draw_derangement(size: int, rng: np.random.Generator) -> IndexArray:
    """A uniformly drawn permutation of 0..size-1 without a fixed point; ``size`` is at least 2."""
    if size < 2:
        raise ValueError(f"a derangement needs at least 2 elements, got {size}")
    identity = np.arange(size)
    while True:  # accepted with probability of about 1/e
        order = rng.permutation(size)
        if not (order == identity).any():
            return order.astype(np.int64)


def rgb_of(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The colours of a palette, uint8, shape (number of colours, 3)."""
    return np.array([PALETTE[name] for name in names], dtype=np.uint8)
