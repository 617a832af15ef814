"""Figure 7 and appendix D.1: the distribution of gamma, and the error of the first order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FormatStrFormatter, LogFormatterMathtext, LogLocator, NullLocator

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, load_runs
from fedml_spurious.figures.style import method_look
from fedml_spurious.results.dataset_runs import DatasetRuns, join_runs
from fedml_spurious.results.recordings import Row, read_recording

PAIRS = (("ft", "l2"), ("adv", "ours"))
"""Methods without and with the L2 term."""

COLUMNS_7 = (
    "dataset", "method", "samples", "min", "quantile_05", "median", "quantile_95", "bin_low", "bin_high",
    "share",
)  # fmt: skip
COLUMNS_D1 = ("dataset", "method", "samples", "mean_error", "median_error", "pooled_error", "paper")
PAPER_ERRORS = {
    "colored_mnist": 0.019,
    "celeba_real": 0.058,
    "celeba_synthetic": 0.058,
    "colored_coil20": 0.084,
}
"""What appendix D.1 states for MNIST, CelebA and Coil20."""

BINS = 40


def draw_figure_7(runs: Sequence[Path]) -> Drawing:
    """A row per data set: gamma after the first epoch, without and with the L2 term, and both with adv."""
    joined = join_runs(load_runs(runs))
    figure, panels = new_figure(len(joined), 2, width=7.0, height=2.8 * len(joined))
    rows: list[dict[str, Any]] = []
    for place, found in enumerate(joined):
        values = {method: value for method, value in _gammas(found).items() if len(value)}
        pairs = [pair for pair in PAIRS if all(method in values for method in pair)]
        if not pairs:
            raise InputError(
                f"{found.runs[0].path}: figure fig7 compares ft with l2, or adv with ours; add both to "
                "experiment_args.methods and continue with --resume"
            )
        for axes, pair in zip(panels[2 * place : 2 * place + 2], PAIRS, strict=True):
            if pair in pairs:
                rows += _draw_distributions(axes, found.dataset, {name: values[name] for name in pair})
                axes.set_title(f"{pair[0]}, and {pair[1]} with the L2 term")
                axes.set_ylabel(f"{data_title(found.runs[0])}\nshare of samples")
            else:
                axes.set_axis_off()
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS_7, tuple(rows))


def _recorded(runs: DatasetRuns) -> list[dict[str, Any]]:
    return [row for run in runs.runs for row in read_recording(run, "gamma")]


def _gammas(runs: DatasetRuns) -> dict[str, npt.NDArray[np.float64]]:
    rows = [row for row in _recorded(runs) if row["epoch"] == 1 and row["gamma"]]
    methods = dict.fromkeys(method for pair in PAIRS for method in pair)
    return {name: np.array([row["gamma"] for row in rows if row["method"] == name]) for name in methods}


def _draw_distributions(
    axes: Axes, dataset: str, values: dict[str, npt.NDArray[np.float64]]
) -> list[dict[str, Any]]:
    # Ratios are symmetric around 1 on a logarithmic scale.
    largest = max(float(np.quantile(np.abs(np.log10(found)), 0.99)) for found in values.values())
    edges = np.logspace(-largest, largest, BINS + 1)
    rows = []
    for method, found in values.items():
        look = method_look(method)
        shares = np.histogram(np.clip(found, edges[0], edges[-1]), bins=edges)[0] / len(found)
        axes.stairs(shares, edges, color=look.color, linestyle=look.line, linewidth=1.4, label=method)
        low, median, high = np.quantile(found, (0.05, 0.5, 0.95)).tolist()
        about = {
            "dataset": dataset, "method": method, "samples": len(found), "min": float(found.min()),
            "quantile_05": low, "median": median, "quantile_95": high,
        }  # fmt: skip
        rows += [
            about | {"bin_low": left, "bin_high": right, "share": share}
            for left, right, share in zip(
                edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True
            )
        ]
    axes.axvline(1, color="#7F7F7F", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="gamma after one epoch")
    if largest > 1:
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_major_formatter(LogFormatterMathtext())
    else:
        _plain_ticks(axes.xaxis)
    axes.xaxis.set_minor_locator(NullLocator())
    return rows


def draw_first_order(runs: Sequence[Path]) -> Drawing:
    """A panel per data set: the relative error of the first order at the selected epoch, and the paper's."""
    joined = join_runs(load_runs(runs))
    figure, panels = new_figure(1, len(joined), width=3.6 * len(joined), height=3.0)
    rows: list[dict[str, Any]] = []
    for found, axes in zip(joined, panels, strict=True):
        recorded = [row for row in _recorded(found) if row["selected"] and row["transferability"]]
        own = [
            _errors(found.dataset, method, [row for row in recorded if row["method"] == method])
            for method in dict.fromkeys(row["method"] for row in recorded)
        ]
        _draw_errors(axes, own, PAPER_ERRORS.get(found.dataset))
        axes.set_title(data_title(found.runs[0]))
        rows += own
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS_D1, tuple(rows))


def _errors(dataset: str, method: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The mean of the samples' relative errors, as printed, their median, and that of the sums.

    The mean is ruled by samples whose transferability loss happens to be near 0.
    """
    exact, first = (np.array([row[name] for row in rows]) for name in ("transferability", "first_order"))
    errors = np.abs((exact - first) / exact)
    return {
        "dataset": dataset,
        "method": method,
        "samples": len(rows),
        "mean_error": float(errors.mean()),
        "median_error": float(np.median(errors)),
        "pooled_error": float(np.abs(exact - first).sum() / np.abs(exact).sum()),
        "paper": PAPER_ERRORS.get(dataset),
    }


def _draw_errors(axes: Axes, rows: Sequence[Row], paper: float | None) -> None:
    for name, label, marker in (
        ("mean_error", "mean over samples", "o"),
        ("median_error", "median", "s"),
        ("pooled_error", "of the sums", "^"),
    ):
        inside = {"o": "black", "s": "none", "^": "#7F7F7F"}[marker]
        methods, errors = [row["method"] for row in rows], [row[name] for row in rows]
        axes.plot(methods, errors, marker, color="black", label=label, markerfacecolor=inside)
    if paper is not None:
        axes.axhline(paper, color="#7F7F7F", linestyle="--", label="the paper")
    axes.set(yscale="log", ylabel="relative error of the first order")
    _plain_ticks(axes.yaxis)
    axes.yaxis.set_minor_locator(NullLocator())


def _plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis of less than about two decades."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
