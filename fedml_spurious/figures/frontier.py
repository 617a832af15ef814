"""The frontier: what is kept of fine-tuning's gain against what is taken back of its rise in disparity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import load_rows
from fedml_spurious.figures.style import method_look, unknown_methods
from fedml_spurious.results.frontier import Frontier, Point
from fedml_spurious.results.method_names import HEADLINE, L2
from fedml_spurious.results.rows import Epoch
from fedml_spurious.results.sweep_table import SweptRow
from fedml_spurious.results.swept_rows import Cell, by_cell, by_variant, of_epoch, own_clients

LEVELS = (0.25, 0.5, 0.75, 0.9)
"""Shares of fine-tuning's gain at which methods are compared."""

_COLUMNS = (
    "dataset", "cell", "epoch", "fl_seeds", "clients", "method", "options", "acc_b", "disparity",
    "kept", "kept_low", "kept_high", "taken_back", "taken_back_low", "taken_back_high",
    "reference", "reference_options", "level", "less_disparity", "less_disparity_low", "less_disparity_high",
    "diverged_clients",
)  # fmt: skip
_EPOCHS: tuple[Epoch, ...] = ("selected", "last")
_SHOWN = (-0.25, 1.3)  # of both axes; what lies beyond is in the CSV


@dataclass(frozen=True)
class _Panel:
    """One data set in one cell, at one epoch."""

    dataset: str
    cell: Cell
    epoch: Epoch
    frontier: Frontier

    @property
    def name(self) -> str:
        """The cell in words; empty without a grid."""
        return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in self.cell)

    @property
    def title(self) -> str:
        """Data set, cell and epoch, and how many settings are left out."""
        count = len(self.frontier.diverged)
        left_out = f"\n{count} setting{'' if count == 1 else 's'} diverged, left out" if count else ""
        return f"{f'{self.dataset} {self.name}'.strip()}, {self.epoch} epoch{left_out}"


def draw(runs: Sequence[Path]) -> Drawing:
    """A column of panels per data set: the selected epoch above, the last one below.

    Raises:
        InputError: a path is no sweep and no run, or nothing was tried with several coefficients.
    """
    panels = list(_panels(load_rows(runs)))
    if not any(_tried(panel) for panel in panels):
        raise InputError(
            f"{', '.join(map(str, runs))}: beside global and ft no method was tried with several "
            "coefficients; give experiment_args.grids and --set experiment_args.trials=all, as "
            "fedml_configs/frontier.yaml does"
        )
    columns = list(dict.fromkeys((panel.dataset, panel.cell) for panel in panels))
    figure, all_axes = new_figure(len(_EPOCHS), len(columns), width=3.6 * len(columns), height=7.4)
    for panel in panels:
        row, column = _EPOCHS.index(panel.epoch), columns.index((panel.dataset, panel.cell))
        axes = all_axes[row * len(columns) + column]
        _draw_panel(axes, panel)
        axes.set_title(panel.title)
    shared_legend(figure, all_axes)
    return Drawing(figure, _COLUMNS, tuple(row for panel in panels for row in _rows(panel)))


def _panels(rows: Sequence[SweptRow]) -> Iterator[_Panel]:
    datasets = list(dict.fromkeys(row.stored.row.dataset for row in rows))
    for dataset in datasets:
        of_data = [row for row in rows if row.stored.row.dataset == dataset]
        for cell, found in by_cell(of_data).items():
            for epoch in _EPOCHS:
                frontier = Frontier.of(by_variant(of_epoch(found, epoch)), own_clients=own_clients(found))
                if frontier is not None:
                    yield _Panel(dataset, cell, epoch, frontier)


def _tried(panel: _Panel) -> list[str]:
    """Methods with more than one set of options."""
    methods = [method for method, _ in panel.frontier.acc_b]
    return [method for method in dict.fromkeys(methods) if methods.count(method) > 1]


def _rows(panel: _Panel) -> Iterator[dict[str, Any]]:
    group = panel.frontier.group
    clients = {(c, seed if group.own_clients else None) for seed, ids in group.clients.items() for c in ids}
    common = {
        "dataset": panel.dataset, "cell": panel.name, "epoch": panel.epoch,
        "fl_seeds": len(group.seeds), "clients": len(clients),
    }  # fmt: skip
    for point in panel.frontier.points():
        yield common | {
            "method": point.method, "options": point.options, "acc_b": point.acc_b,
            "disparity": point.disparity, "kept": point.kept, "kept_low": point.kept_interval[0],
            "kept_high": point.kept_interval[1], "taken_back": point.taken_back,
            "taken_back_low": point.taken_back_interval[0], "taken_back_high": point.taken_back_interval[1],
        }  # fmt: skip
    for (method, options), count in panel.frontier.diverged.items():
        yield common | {"method": method, "options": options, "diverged_clients": count}
    for method in _tried(panel):
        if method != L2 and L2 in _tried(panel):
            for level in LEVELS:
                found = panel.frontier.advantage(method, L2, level)
                yield common | {
                    "method": method, "options": found.options, "reference": L2,
                    "reference_options": found.reference_options, "level": level,
                    "less_disparity": found.difference, "less_disparity_low": found.low,
                    "less_disparity_high": found.high,
                }  # fmt: skip


def _draw_panel(axes: Axes, panel: _Panel) -> None:
    points = panel.frontier.points()
    methods = list(dict.fromkeys(point.method for point in points))
    others = unknown_methods(methods)
    for method in methods:
        look = method_look(method, others)
        spots = _spots([point for point in points if point.method == method])
        shown: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 6}
        if spots:
            axes.plot(*zip(*spots, strict=True), linestyle="none", label=method, **shown)
        if len(edge := _edge(spots)) > 1:
            width = 2.2 if method == HEADLINE else 1.4
            axes.plot(*zip(*edge, strict=True), color=look.color, linestyle=look.line, linewidth=width)
    axes.set(xlim=_SHOWN, ylim=_SHOWN, xlabel="kept of the gain in Acc_B", ylabel="taken back of the rise")


_Spot = tuple[float, float]
"""What is kept, and what is taken back."""


def _spots(points: Sequence[Point]) -> list[_Spot]:
    shares = [(point.kept, point.taken_back) for point in points]
    return [(kept, back) for kept, back in shares if kept is not None and back is not None]


def _edge(spots: Sequence[_Spot]) -> list[_Spot]:
    """Those than which no other keeps more and takes back more, by what they keep."""
    found: list[_Spot] = []
    for spot in sorted(spots, reverse=True):
        if not found or spot[1] > found[-1][1]:
            found.append(spot)
    return found
