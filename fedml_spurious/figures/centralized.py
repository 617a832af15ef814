"""Figure 3: the global model's accuracies, trained in one place and in a federation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, is_centralized, load_runs
from fedml_spurious.figures.style import BIASED, CONFLICTING
from fedml_spurious.results.dataset_runs import join_runs
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import average

COLUMNS = ("dataset", "setting", "fl_seeds", "acc_b", "acc_b_std", "acc_bc", "acc_bc_std", "disparity")
SETTINGS = ("centralized", "federated")


def draw(runs: Sequence[Path]) -> Drawing:
    """A panel per data set: Acc_B and Acc_BC in both settings, client means, deviations over seeds."""
    by_title: dict[str, dict[str, list[FinishedRun]]] = {}
    for run in load_runs(runs):
        setting = SETTINGS[0] if is_centralized(run) else SETTINGS[1]
        by_title.setdefault(data_title(run), {}).setdefault(setting, []).append(run)
    for title, found in by_title.items():
        missing = [setting for setting in SETTINGS if setting not in found]
        if missing:
            raise InputError(
                f"figure fig3: no {missing[0]} run of {title}; give one beside the others "
                "(a centralized run has one client, as fedml_configs/centralized_digits.yaml)"
            )
    figure, panels = new_figure(1, len(by_title), width=3.2 * len(by_title), height=3.0)
    rows = []
    for (title, found), axes in zip(by_title.items(), panels, strict=True):
        own = [_row(setting, found[setting]) for setting in SETTINGS]
        _draw_panel(axes, own)
        axes.set_title(title)
        rows += own
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS, tuple(rows))


def _row(setting: str, runs: Sequence[FinishedRun]) -> dict[str, Any]:
    (joined,) = join_runs(runs)
    results = [row for row in joined.results if row.method == GLOBAL]
    if not results:
        raise InputError(
            f"{runs[0].path}: has no row of the global model; add global to experiment_args.methods"
        )
    values = average(results, "mean")
    row: dict[str, Any] = {"dataset": joined.dataset, "setting": setting}
    row["fl_seeds"] = len({result.fl_seed for result in results})
    for name in ("acc_b", "acc_bc", "disparity"):
        value = values[name]
        row |= {name: value and value.mean, f"{name}_std": value and value.std}
    return {name: row[name] for name in COLUMNS}


def _draw_panel(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    for offset, (name, label, look, hatch) in enumerate(
        (("acc_b", "Acc_B", BIASED, ""), ("acc_bc", "Acc_BC", CONFLICTING, "//"))
    ):
        places = [index + 0.38 * (offset - 0.5) for index in range(len(rows))]
        heights = [row[name] or 0 for row in rows]
        deviations = [row[f"{name}_std"] or 0 for row in rows]
        bars = axes.bar(
            places, heights, width=0.36, yerr=deviations, capsize=2, label=label, color=look.color,
            hatch=hatch, edgecolor="white", ecolor="black",
        )  # fmt: skip
        axes.bar_label(bars, fmt="%.3f", fontsize=7, padding=2)
    axes.set(xticks=range(len(rows)), xticklabels=[row["setting"] for row in rows], ylim=(0, 1.08))
    axes.grid(visible=False, axis="x")
