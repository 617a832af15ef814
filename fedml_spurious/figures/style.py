"""Colours, markers and lines: told apart by colour-blind readers, and in grey print by marker and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Okabe and Ito 2008, "Color universal design"; their yellow is left out, which is hard to see on white.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"


@dataclass(frozen=True)
class Look:
    """How one thing is drawn.

    Attributes:
        color: of line and marker.
        marker: matplotlib's marker.
        line: matplotlib's line style.
    """

    color: str
    marker: str
    line: str | tuple[int, tuple[int, ...]] = "-"

    def line_style(self) -> dict[str, Any]:
        """Arguments of ``Axes.plot`` for a line with a few markers."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line, "markersize": 4.5}


_METHODS: Mapping[str, Look] = {
    "global": Look(BLACK, "o", ":"),
    "ft": Look(VERMILION, "s", "-"),
    "ditto": Look(PURPLE, "D", "--"),
    "uw": Look(SKY, "^", "-."),
    "jtt": Look(ORANGE, "v", (0, (5, 1))),
    "adv": Look(GREEN, "P", "--"),
    "l2": Look(BLUE, "X", "-."),
    "ours": Look(BLACK, "*", "-"),
}
_OTHERS = tuple(
    Look(color, marker, line)
    for marker, line in (("<", (0, (1, 1))), (">", (0, (3, 1, 1, 1))), ("h", (0, (4, 2))))
    for color in (GREY, GREEN, BLUE, VERMILION, PURPLE)
)

BIASED = Look(BLUE, "o", "-")
"""Acc_B and Loss_B."""

CONFLICTING = Look(VERMILION, "s", "--")
"""Acc_BC and Loss_BC."""

DISPARITY = Look(VERMILION, "s", "-")
ADVERSARIAL = Look(BLUE, "^", "--")
SERIES = (BIASED, CONFLICTING, Look(GREEN, "^", "-."), Look(PURPLE, "D", ":"), Look(BLACK, "v", "-"))
"""Looks in turn, for things without one of their own."""


def method_look(method: str, others: tuple[str, ...] = ()) -> Look:
    """The look of a method, the same in every figure.

    Args:
        method: its name.
        others: names of the methods without a look of their own in the figure, which take turns.
    """
    known = _METHODS.get(method)
    return known or _OTHERS[(others.index(method) if method in others else 0) % len(_OTHERS)]


def unknown_methods(methods: list[str]) -> tuple[str, ...]:
    """Those methods that have no look of their own, in their order."""
    return tuple(name for name in methods if name not in _METHODS)


RC: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so that every machine sets the same lines
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,  # no grid line across a bar
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.hspace": 0.06,  # else an axis label reads as a title of the panel below
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fedml_spurious",  # else ids are drawn anew in every file
    "pdf.fonttype": 42,
}
"""Settings of matplotlib under which figures are drawn and saved, whatever a user's own are."""
