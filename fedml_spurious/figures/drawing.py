"""A drawn figure with the rows behind it, and its bytes: the same for the same input."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.style import RC

Form = Literal["svg", "png", "pdf"]

# What a file would say of when and by what it was made, which differs though the figure is the same.
_METADATA: Mapping[Form, Mapping[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Drawing:
    """A figure and the table behind it.

    Attributes:
        figure: matplotlib's figure.
        columns: columns of the table, in order.
        rows: what the figure shows, every value with every digit; a column that is absent is empty.
    """

    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class FigureKind:
    """A figure that can be drawn.

    Attributes:
        name: what the command line and the files call it.
        title: what it shows, in a line.
        needs: what its runs must have, in words.
        draw: draws it from run folders, at least one.
        option: the setting by which a run records that; empty where every run has it.
        part_of: figures that show all of it too, of which one is enough on a page.
    """

    name: str
    title: str
    needs: str
    draw: Callable[[Sequence[Path]], Drawing]
    option: str = ""
    part_of: tuple[str, ...] = ()


def draw_figure(kind: FigureKind, runs: Sequence[Path]) -> Drawing:
    """Draw a figure in our style, whatever the user's settings of matplotlib are.

    Raises:
        InputError: a folder is no finished run, runs do not belong together, or one lacks what is needed.
    """
    with _our_style():
        return kind.draw(runs)


def can_draw(kind: FigureKind, runs: Sequence[Path]) -> bool:
    """Whether these runs have what the figure needs."""
    try:
        draw_figure(kind, runs)
    except InputError:
        return False
    return True


def picture_bytes(drawing: Drawing, form: Form) -> bytes:
    """The picture as a file of this form."""
    buffer = io.BytesIO()
    with _our_style():
        drawing.figure.savefig(buffer, format=form, metadata=dict(_METADATA[form]))
    return buffer.getvalue()


def _our_style() -> AbstractContextManager[None]:
    # From matplotlib's own defaults, so that no matplotlibrc changes a byte.
    return style.context(dict(RC), after_reset=True)


def new_figure(rows: int = 1, columns: int = 1, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure with a grid of panels, row by row.

    Args:
        rows: rows of panels.
        columns: columns of panels.
        width: of the figure, in inches.
        height: of the figure, in inches.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, an entry per label, in as few lines as the figure has room for."""
    found: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            # Of error bars the line alone: their caps fall together with its marker.
            found.setdefault(str(label), handle[0] if isinstance(handle, ErrorbarContainer) else handle)
    for lines in range(1, len(found) + 1):
        legend = figure.legend(
            list(found.values()), list(found), loc="outside lower center", ncols=-(-len(found) // lines)
        )
        if legend.get_window_extent().width <= figure.bbox.width or lines == len(found):
            return
        legend.remove()


def whole_numbers(axes: Axes) -> None:
    """Put the ticks of the x axis at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
