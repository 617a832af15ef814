"""Figures 4 and 5: what fine-tuning does batch by batch, and how Acc_Adv tells of the disparity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, load_runs
from fedml_spurious.figures.style import ADVERSARIAL, BIASED, CONFLICTING, DISPARITY, Look
from fedml_spurious.figures.trajectories import (
    FloatArray,
    clients_over_batches,
    correlation,
    joined_trajectories,
)
from fedml_spurious.results.dataset_runs import DatasetRuns, join_runs
from fedml_spurious.results.method_names import BASELINE

COLUMNS_4 = ("dataset", "batch", "clients", "acc_b", "acc_bc")
COLUMNS_5 = ("dataset", "of", "client", "batch", "disparity", "acc_adv", "correlation")


def draw_figure_4(runs: Sequence[Path]) -> Drawing:
    """A panel per data set: Acc_B and Acc_BC of fine-tuning, the middle half of the clients shaded."""
    joined = join_runs(load_runs(runs))
    figure, panels = new_figure(1, len(joined), width=3.4 * len(joined), height=3.0)
    rows: list[dict[str, Any]] = []
    for found, axes in zip(joined, panels, strict=True):
        recorded = joined_trajectories(found, [BASELINE])
        means = {}
        for name, label, look in (("acc_b", "Acc_B", BIASED), ("acc_bc", "Acc_BC", CONFLICTING)):
            batches, lines = clients_over_batches(recorded, name)
            means[name] = dict(zip(batches, lines.mean(axis=0).tolist(), strict=True))
            _draw_lines(axes, batches, lines, label, look)
        axes.set(title=data_title(found.runs[0]), xlabel="fine-tuning batches", ylabel="accuracy")
        lines_of = {row["client"] for row in recorded}
        rows += [
            {"dataset": found.dataset, "batch": batch, "clients": len(lines_of), "acc_b": value,
             "acc_bc": means["acc_bc"].get(batch)}
            for batch, value in means["acc_b"].items()
        ]  # fmt: skip
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS_4, tuple(rows))


def _draw_lines(axes: Axes, batches: Sequence[int], lines: FloatArray, label: str, look: Look) -> None:
    low, high = np.quantile(lines, (0.25, 0.75), axis=0)
    axes.fill_between(batches, low, high, color=look.color, alpha=0.15, linewidth=0)
    style = look.line_style()
    axes.plot(batches, lines.mean(axis=0), label=label, markevery=max(1, len(batches) // 8), **style)


def draw_figure_5(runs: Sequence[Path]) -> Drawing:
    """A row per data set: disparity and Acc_Adv over batches, and client by client at the end."""
    joined = join_runs(load_runs(runs))
    figure, panels = new_figure(len(joined), 2, width=7.2, height=3.0 * len(joined))
    rows: list[dict[str, Any]] = []
    for found, left, right in zip(joined, panels[::2], panels[1::2], strict=True):
        rows += _figure_5_of(found, left, right)
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS_5, tuple(rows))


def _figure_5_of(runs: DatasetRuns, left: Axes, right: Axes) -> list[dict[str, Any]]:
    recorded = [row for row in joined_trajectories(runs, [BASELINE]) if row["disparity"] is not None]
    batches, gaps = clients_over_batches(recorded, "disparity")
    _, adversarial = clients_over_batches(recorded, "acc_adv")
    over_batches = correlation(gaps.mean(axis=0), adversarial.mean(axis=0))
    over_clients = correlation(gaps[:, -1], adversarial[:, -1])
    for lines, label, look in ((gaps, "Acc_B - Acc_BC", DISPARITY), (adversarial, "Acc_Adv", ADVERSARIAL)):
        _draw_lines(left, batches, lines, label, look)
    title = data_title(runs.runs[0])
    left.set(title=f"{title}: mean over clients, {_r(over_batches)}", xlabel="fine-tuning batches")
    right.scatter(adversarial[:, -1], gaps[:, -1], color=DISPARITY.color, marker="o", s=18)
    right.set(
        title=f"clients at the last batch, {_r(over_clients)}", xlabel="Acc_Adv", ylabel="Acc_B - Acc_BC"
    )
    base = {"dataset": runs.dataset}
    rows = [
        base | {"of": "batch", "batch": batch, "disparity": gap, "acc_adv": value}
        for batch, gap, value in zip(
            batches, gaps.mean(axis=0).tolist(), adversarial.mean(axis=0).tolist(), strict=True
        )
    ]
    clients = list(dict.fromkeys((row["fl_seed"], row["p_seed"], row["client"]) for row in recorded))
    rows += [
        base | {"of": "client", "client": key[2], "batch": batches[-1], "disparity": gap, "acc_adv": value}
        for key, gap, value in zip(clients, gaps[:, -1].tolist(), adversarial[:, -1].tolist(), strict=True)
    ]
    return [
        *rows,
        base | {"of": "correlation over batches", "correlation": over_batches},
        base | {"of": "correlation over clients", "correlation": over_clients},
    ]


def _r(value: float | None) -> str:
    return "r unknown" if value is None else f"r = {value:.2f}"
