"""When averaging cancels a shortcut and personalization brings it back: disparity over a grid of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D

from fedml_spurious.common.arrays import FloatArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure
from fedml_spurious.figures.runs import load_rows
from fedml_spurious.results.method_names import GLOBAL, SELECTED_BY
from fedml_spurious.results.phase import EXCEEDS, PhasePoint, phase_points
from fedml_spurious.results.sweep_table import TABLE

_AXES = _SHARE, _DIVERGENCE, _CLASSES = "bias_conflicting_fraction", "map_divergence", "classes_per_client"
_COLORS = "cividis"  # its lightness follows the value, in grey print too; made for colour-blind readers
_TITLES = {GLOBAL: "global model", "ft": "fine-tuning"}
_Line = Literal["-", "--"]
_GLOBAL_LINE: _Line = "-"
_PERSONAL_LINE: _Line = "--"


@dataclass
class _Grid:
    """The points of a sweep, by what the axes of a panel are.

    Attributes:
        points: all of them.
        shares: values of the vertical axis, ascending.
        divergences: values of the horizontal axis, ascending.
        classes: numbers of classes, a column of panels each; one value where the sweep has no such axis.
        methods: a row of panels each.
    """

    points: Sequence[PhasePoint]
    shares: list[float] = field(init=False)
    divergences: list[float] = field(init=False)
    classes: list[float] = field(init=False)
    methods: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._keys = {key.rpartition(".")[2]: key for key in _common_keys(self.points)}
        for name in (_SHARE, _DIVERGENCE):
            if name not in self._keys:
                raise InputError(
                    f"figure phase_diagram: the sweep has no axis data_args.partition.{name}; give one with "
                    f"--grid 'data_args.partition.{_SHARE}=[...]' and --grid 'data_args.partition."
                    f"{_DIVERGENCE}=[...]', such as that of fedml_configs/phase_diagram.yaml"
                )
        _refuse_further_axes(self.points, [self._keys.get(name) for name in _AXES])
        places = [(point.method, *(self._value(point, name) for name in _AXES)) for point in self.points]
        if len(set(places)) < len(places):
            raise InputError(
                "figure phase_diagram: two cells stand in one place, as 0 and 0.0 do; draw the sweeps apart"
            )
        self.shares, self.divergences, self.classes = map(self._values, _AXES)
        order = (GLOBAL, *SELECTED_BY)
        methods = dict.fromkeys(point.method for point in self.points)
        self.methods = sorted(methods, key=lambda name: order.index(name) if name in order else len(order))

    def _value(self, point: PhasePoint, name: str) -> float:
        if name not in self._keys:
            return 0.0
        text = point.cell[self._keys[name]]
        try:
            return float(text)
        except ValueError:
            raise InputError(
                f"figure phase_diagram: {self._keys[name]}: expected numbers on this axis, got {text!r}"
            ) from None

    def _values(self, name: str) -> list[float]:
        return sorted({self._value(point, name) for point in self.points})

    def array(self, method: str, classes: float, quantity: str) -> FloatArray:
        """A quantity of a method, shape (shares, divergences); NaN where no run is finished."""
        found = np.full((len(self.shares), len(self.divergences)), np.nan)
        for point in self.points:
            if point.method == method and self._value(point, _CLASSES) == classes:
                row = self.shares.index(self._value(point, _SHARE))
                found[row, self.divergences.index(self._value(point, _DIVERGENCE))] = getattr(point, quantity)
        return found


def _common_keys(points: Sequence[PhasePoint]) -> list[str]:
    """Keys of the grid that all points have."""
    return [key for key in points[0].cell if all(key in point.cell for point in points)]


def _refuse_further_axes(points: Sequence[PhasePoint], axes: Sequence[str | None]) -> None:
    """Refuse points of which one would stand where another does.

    Raises:
        InputError: there are some; the text names the keys in which they differ.
    """
    others = {key: None for point in points for key in point.cell if key not in axes}
    further = [key for key in others if len({point.cell.get(key) for point in points}) > 1]
    if further:
        raise InputError(
            f"figure phase_diagram: the sweep varies {', '.join(further)} too, for which it has no axis; "
            f"draw every value by itself, from a copy of {TABLE} with its rows alone"
        )


def draw(runs: Sequence[Path]) -> Drawing:
    """A row of panels per method, one per number of classes: conflicting samples over divergence.

    Where the sweep has one number of classes, all panels are one row.

    Raises:
        InputError: it is no sweep over both, or over more, or of several data sets, or nothing of it is
            finished.
    """
    rows = load_rows(runs)
    datasets = list(dict.fromkeys(row.stored.row.dataset for row in rows))
    if len(datasets) > 1:
        raise InputError(
            f"figure phase_diagram: is of one data set; got {', '.join(datasets)}, draw each by itself"
        )
    points = phase_points(rows)
    if not points:
        raise InputError(f"{', '.join(map(str, runs))}: has no finished run yet")
    grid = _Grid(points)
    shown = [(method, classes) for method in grid.methods for classes in grid.classes]
    # Methods side by side where there is one column of them, which is too narrow for the legend.
    columns = len(grid.classes) if len(grid.classes) > 1 else len(grid.methods)
    lines = len(shown) // columns
    figure, panels = new_figure(lines, columns, width=2.7 * columns + 1, height=2.2 * lines + 0.4)
    for number, axes in enumerate(panels):
        method, classes = shown[number]
        image = _draw_panel(axes, grid, method, classes)
        of = f", {classes:g} classes" if len(grid.classes) > 1 else ""
        axes.set_title(_TITLES.get(method, method) + of)
        axes.set_xlabel("divergence of colour maps" if number >= (lines - 1) * columns else "")
        axes.set_ylabel("conflicting share" if number % columns == 0 else "")
    figure.colorbar(image, ax=panels, label="disparity", shrink=0.5, aspect=30)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=1)
    cell = tuple(points[0].cell)
    measured = tuple(found.name for found in fields(PhasePoint) if found.name != "cell")
    behind = [{**point.cell, **asdict(point)} for point in points]
    kept = tuple({name: row[name] for name in (*cell, *measured)} for row in behind)
    return Drawing(figure, (*cell, *measured), kept)


def _draw_panel(axes: Axes, grid: _Grid, method: str, classes: float) -> QuadMesh:
    """Cells of equal size, because the values of the axes are not equally far apart."""
    gaps = grid.array(method, classes, "disparity")
    image = axes.pcolormesh(gaps, cmap=_COLORS, vmin=0, vmax=1)
    for (row, column), gap in np.ndenumerate(gaps):
        if not np.isnan(gap):
            color = "black" if gap > 0.5 else "white"  # below the middle, where lines pass
            axes.text(column + 0.5, row + 0.2, f"{gap:.2f}", color=color, ha="center", va="center", size=7)
    _contour(axes, grid.array(GLOBAL, classes, "disparity") - EXCEEDS, _GLOBAL_LINE)
    if method != GLOBAL:
        _contour(axes, grid.array(method, classes, "excess"), _PERSONAL_LINE)
    axes.set_xticks(np.arange(len(grid.divergences)) + 0.5, [f"{value:g}" for value in grid.divergences])
    axes.set_yticks(np.arange(len(grid.shares)) + 0.5, [f"{value:g}" for value in grid.shares])
    axes.grid(visible=False)
    return image


def _contour(axes: Axes, values: FloatArray, line: _Line) -> None:
    """Where values change their sign, between the middles of cells; nowhere in a single row or column."""
    present = values[~np.isnan(values)]
    if min(values.shape) > 1 and present.size and present.min() < 0 < present.max():
        x, y = (np.arange(size) + 0.5 for size in values.shape[::-1])
        for color, width in (("black", 3.2), ("white", 1.4)):  # seen on dark and on bright cells
            axes.contour(
                x, y, values, levels=[0.0], colors=color, linestyles=line,
                linewidths=width,
            )  # fmt: skip


def _legend() -> list[Line2D]:
    texts: dict[_Line, str] = {
        _GLOBAL_LINE: f"the global model's disparity is {EXCEEDS:g}",
        _PERSONAL_LINE: f"the personal models' is twice the global one's, and above {EXCEEDS:g}",
    }
    return [Line2D([], [], color="black", linestyle=line, label=text) for line, text in texts.items()]
