"""Figure 8: up-weighting where fewer different bias-conflicting samples stand for the same weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, load_runs, partition_options
from fedml_spurious.figures.style import BIASED, CONFLICTING
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.rows import ClientResult, average

METHOD = "uw"
OPTION = "bias_conflicting_fraction"
COLUMNS = ("dataset", "sampling_factor", "seed_pairs", "acc_b", "acc_b_std", "acc_bc", "acc_bc_std")


def draw(runs: Sequence[Path]) -> Drawing:
    """Acc_B and Acc_BC of up-weighting over the share of training samples that are bias-conflicting.

    The share is the option of coloured data; elsewhere it is counted on the clients that were personalized.
    Both groups are drawn equally often whatever the share, which is the paper's up-weighting by its inverse.
    """
    rows: list[dict[str, Any]] = []
    loaded = load_runs(runs)
    for run in loaded:
        measured = [row for row in run.results if row.method == METHOD and row.acc_b is not None]
        values = average(measured, "mean")
        acc_b, acc_bc = values["acc_b"], values["acc_bc"]
        if acc_b is None or acc_bc is None:
            raise InputError(
                f"{run.path}: figure fig8 needs runs of {METHOD}; it has none, or up-weighting applies to "
                "none of its clients"
            )
        factor = partition_options(run).get(OPTION)
        if factor is None:
            factor = _measured_share(run, measured)
        rows.append({
            "dataset": run.dataset, "sampling_factor": float(factor), "seed_pairs": acc_b.count,
            "acc_b": acc_b.mean, "acc_b_std": acc_b.std, "acc_bc": acc_bc.mean, "acc_bc_std": acc_bc.std,
        })  # fmt: skip
    if len({row["sampling_factor"] for row in rows}) < 2 or len({run.dataset for run in loaded}) > 1:
        raise InputError(
            "figure fig8: give runs of one data set with two or more shares of bias-conflicting training "
            f"samples; coloured data have data_args.partition.{OPTION} for it, such as 0.02, 0.025, 0.033, "
            "0.05 and 0.1"
        )
    rows.sort(key=lambda row: row["sampling_factor"])
    figure, (axes,) = new_figure(width=4.0, height=3.0)
    for name, label, look in (("acc_b", "Acc_B", BIASED), ("acc_bc", "Acc_BC", CONFLICTING)):
        axes.errorbar(
            [row["sampling_factor"] for row in rows], [row[name] for row in rows],
            yerr=[row[f"{name}_std"] or 0 for row in rows], capsize=2, label=label, **look.line_style(),
        )  # fmt: skip
    axes.set(title=f"{data_title(loaded[0])}: {METHOD}", xlabel="sampling factor", ylabel="accuracy")
    shared_legend(figure, [axes])
    return Drawing(figure, COLUMNS, tuple(rows))


def _measured_share(run: FinishedRun, rows: Sequence[ClientResult]) -> float:
    """Mean share of bias-conflicting training samples, over the clients of these rows."""
    # Late: they need h5py, which the other figures and their list do without.
    from data_partition.split_files.diagnostics import client_shortcuts
    from fedml_spurious.figures.run_splits import metas_of, open_splits

    metas = metas_of(open_splits([run]))
    shortcuts = {fl_seed: client_shortcuts(meta) for fl_seed, meta in metas.items()}
    clients = sorted({(row.fl_seed, row.client) for row in rows})
    if not all(client in shortcuts.get(fl_seed, {}) for fl_seed, client in clients):
        raise InputError(
            f"{run.path}: figure fig8 needs the share of bias-conflicting training samples; the run has no "
            f"data_args.partition.{OPTION}, and its split files, which tell the share, are gone or are others"
        )
    return fmean(1 - shortcuts[fl_seed][client].aligned for fl_seed, client in clients)
