"""Colour twins: do models follow the colour or the shape where the two disagree?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend, whole_numbers
from fedml_spurious.figures.runs import data_title, load_runs
from fedml_spurious.figures.style import method_look, unknown_methods
from fedml_spurious.results.dataset_runs import DatasetRuns, join_runs
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.recordings import Row, read_recording

SHOWN = {
    "agree_color": "follows the colour",
    "agree_shape": "follows the shape",
    "flip_map": "changes with the colour",
}
SELECTED = "selected"
KEYS = ("dataset", "method", "epoch", "rows")
SHARES = ("flip_map", "flip_palette", "agree_shape", "agree_color")


def draw(runs: Sequence[Path]) -> Drawing:
    """A row of panels per data set: means over clients and seeds by epoch; the global model is epoch 0.

    The CSV also has the selected epochs, and the accuracy in every colour.
    """
    joined = join_runs(load_runs(runs))
    figure, panels = new_figure(len(joined), len(SHOWN), width=9.0, height=2.9 * len(joined))
    rows: list[dict[str, Any]] = []
    for place, found in enumerate(joined):
        own = _means(found)
        rows += own
        for name, axes in zip(SHOWN, panels[len(SHOWN) * place :], strict=False):
            _draw_panel(axes, own, name)
            axes.set(title=SHOWN[name], xlabel="epoch", ylabel=f"{data_title(found.runs[0])}\nshare of twins")
    shared_legend(figure, panels)
    columns = [
        *KEYS,
        *SHARES,
        *dict.fromkeys(name for row in rows for name in row if name.startswith("acc_")),
    ]
    return Drawing(figure, tuple(columns), tuple(rows))


def _means(runs: DatasetRuns) -> list[dict[str, Any]]:
    recorded = [row for run in runs.runs for row in read_recording(run, "twins")]
    names = [name for name in recorded[0] if name in SHARES or name.startswith("acc_")]
    groups: dict[tuple[str, Any], list[Row]] = {}
    for row in recorded:
        groups.setdefault((row["method"], row["epoch"]), []).append(row)
        if row["selected"]:
            groups.setdefault((row["method"], SELECTED), []).append(row)
    rows = []
    for (method, epoch), group in groups.items():
        row = {"dataset": runs.dataset, "method": method, "epoch": epoch, "rows": len(group)}
        for name in names:
            values = [one[name] for one in group if one.get(name) is not None]
            row[name] = fmean(values) if values else None
        rows.append(row)
    return rows


def _draw_panel(axes: Axes, rows: Sequence[Row], name: str) -> None:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    others = unknown_methods(methods)
    start = [row[name] for row in rows if row["method"] == GLOBAL and row["epoch"] == 0]
    for method in methods:
        own = {
            row["epoch"]: row[name] for row in rows if row["method"] == method and row["epoch"] != SELECTED
        }
        if method != GLOBAL and start and method != "local":  # which does not start from the global model
            own[0] = start[0]
        epochs = sorted(own)
        style = method_look(method, others).line_style()
        axes.plot(epochs, [own[epoch] for epoch in epochs], label=method, **style)
    axes.set_ylim(-0.03, 1.03)
    whole_numbers(axes)
