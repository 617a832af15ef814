"""Table 1 as a figure: Acc_B against Acc_BC, a point per method, the paper's beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.common.words import counted
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, load_runs
from fedml_spurious.figures.style import method_look, unknown_methods
from fedml_spurious.results.averages import Spread
from fedml_spurious.results.dataset_runs import join_runs
from fedml_spurious.results.dataset_table import DatasetTable, runs_of
from fedml_spurious.results.paper import paper_values
from fedml_spurious.results.rows import MethodSummary

COLUMNS = (
    "dataset", "method", "seed_pairs", "acc_b", "acc_b_std", "acc_bc", "acc_bc_std", "acc_b_paper",
    "acc_bc_paper",
)  # fmt: skip


def draw(runs: Sequence[Path]) -> Drawing:
    """A panel per data set: client means, with one standard deviation over pairs of seeds."""
    tables = [DatasetTable.of(joined, "mean") for joined in join_runs(load_runs(runs))]
    figure, panels = new_figure(1, len(tables), width=4.2 * len(tables), height=3.9)
    rows = []
    for table, axes in zip(tables, panels, strict=True):
        found = [_row(table, summary) for summary in table.summaries]
        _draw_panel(axes, found)
        axes.set_title(f"{data_title(table.runs.runs[0])}, {counted(table.clients, 'client')}")
        rows += found
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS, tuple(rows))


def _row(table: DatasetTable, summary: MethodSummary) -> dict[str, Any]:
    values, dataset = table.values(summary), table.runs.dataset
    theirs = paper_values(dataset, summary.method)
    row: dict[str, Any] = {"dataset": dataset, "method": summary.method, "seed_pairs": runs_of(values)}
    for name in ("acc_b", "acc_bc"):
        ours: Spread | None = values[name]
        row |= {name: ours and ours.mean, f"{name}_std": ours and ours.std, f"{name}_paper": theirs.get(name)}
    return row


def _draw_panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    others = unknown_methods([row["method"] for row in rows])
    for row in rows:
        look = method_look(row["method"], others)
        if row["acc_b"] is not None and row["acc_bc"] is not None:
            # Bars by themselves, so that the legend has plain markers.
            axes.errorbar(
                row["acc_b"], row["acc_bc"], xerr=row["acc_b_std"], yerr=row["acc_bc_std"], color=look.color,
                fmt="none", capsize=2, linewidth=0.9,
            )  # fmt: skip
            axes.plot(
                row["acc_b"], row["acc_bc"], color=look.color, marker=look.marker, markersize=7,
                linestyle="none", label=row["method"],
            )  # fmt: skip
        if row["acc_b_paper"] is not None:
            axes.plot(
                row["acc_b_paper"], row["acc_bc_paper"], color=look.color, marker=look.marker, markersize=7,
                markerfacecolor="none", linestyle="none",
            )  # fmt: skip
    low, high = _limits(rows)
    axes.plot([low, high], [low, high], color="#7F7F7F", linestyle=":", linewidth=1)
    hollow: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "linestyle": "none"}
    axes.plot([], [], color="#7F7F7F", label="hollow: the paper", **hollow)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel="Acc_B", ylabel="Acc_BC", aspect="equal")
    axes.annotate(
        "no disparity", (low, low), xytext=(4, 10), textcoords="offset points", rotation=45, fontsize=7
    )


def _limits(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    shown = [
        row[name] + sign * (row.get(f"{name}_std") or 0)
        for row in rows
        for name in ("acc_b", "acc_bc", "acc_b_paper", "acc_bc_paper")
        for sign in (-1, 1)
        if row[name] is not None
    ]
    margin = 0.03
    return min(shown, default=0) - margin, max(shown, default=1) + margin
