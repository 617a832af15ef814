"""Figure 6: the two terms alone and together, in accuracy (a - d) and in loss (e - h)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, FigureKind, new_figure, shared_legend
from fedml_spurious.figures.runs import data_title, load_runs
from fedml_spurious.figures.style import ADVERSARIAL, DISPARITY
from fedml_spurious.figures.trajectories import clients_over_batches, joined_trajectories
from fedml_spurious.results.dataset_runs import join_runs
from fedml_spurious.results.recordings import Row, recording_option

METHODS = {
    "ft": "naive fine-tuning",
    "adv": "enforcing transferability",
    "l2": "aligning gradient norms",
    "ours": "both",
}
PANELS = {letter: (place % 4, place >= 4) for place, letter in enumerate("abcdefgh")}
"""Method and whether it is of the loss, by the letter of the panel."""

COLUMNS = (
    "dataset", "panel", "method", "batch", "disparity", "acc_adv", "loss_disparity", "loss_adv_decrease",
)  # fmt: skip


def kinds() -> list[FigureKind]:
    """Figure 6, and each of its panels by itself."""
    needs = "trajectories of ft, adv, l2 and ours"
    option = recording_option("trajectories")
    several = [
        FigureKind(
            name,
            f"Figure 6: both terms alone and together, {what}",
            needs,
            partial(draw, letters),
            option,
            within,
        )
        for name, what, letters, within in (
            ("fig6", "accuracy and loss", "abcdefgh", ()),
            ("fig6a-d", "accuracy", "abcd", ("fig6",)),
            ("fig6e-h", "loss", "efgh", ("fig6",)),
        )
    ]
    single = []
    for letter, (place, of_loss) in PANELS.items():
        method = list(METHODS)[place]
        title = f"Figure 6{letter}: {'loss' if of_loss else 'accuracy'}, {METHODS[method]}"
        within = ("fig6", "fig6e-h" if of_loss else "fig6a-d")
        needed, draw_it = f"trajectories of {method}", partial(draw, letter)
        single.append(FigureKind(f"fig6{letter}", title, needed, draw_it, option, within))
    return [*several, *single]


def draw(letters: str, runs: Sequence[Path]) -> Drawing:
    """These panels of one data set."""
    joined = join_runs(load_runs(runs))
    if len(joined) > 1:
        named = ", ".join(found.dataset for found in joined)
        raise InputError(f"figure 6 is of one data set; got runs of {named}")
    methods = [list(METHODS)[PANELS[letter][0]] for letter in letters]
    recorded = joined_trajectories(joined[0], list(dict.fromkeys(methods)))
    columns = min(4, len(letters))
    figure, panels = new_figure(
        -(-len(letters) // columns), columns, width=2.5 * columns, height=2.4 * -(-len(letters) // columns)
    )
    rows: list[dict[str, Any]] = []
    for letter, method, axes in zip(letters, methods, panels, strict=True):
        own = [row for row in recorded if row["method"] == method]
        found = _loss_rows(own) if PANELS[letter][1] else _accuracy_rows(own)
        _draw_panel(axes, found)
        axes.set(title=f"({letter}) {METHODS[method]}", xlabel="fine-tuning batches")
        axes.locator_params(nbins=4)
        rows += [{"dataset": joined[0].dataset, "panel": letter, "method": method, **row} for row in found]
    for start in range(0, len(panels), columns):
        for axes in panels[start + 1 : start + columns]:
            axes.sharey(panels[start])
    panels[0].autoscale()
    figure.suptitle(data_title(joined[0].runs[0]), fontsize=9)
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS, tuple(rows))


def _accuracy_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    batches, gaps = clients_over_batches(rows, "disparity")
    other, adversarial = clients_over_batches(rows, "acc_adv")
    adversarial_means = dict(zip(other, adversarial.mean(axis=0).tolist(), strict=True))
    return [
        {"batch": batch, "disparity": gap, "acc_adv": adversarial_means[batch]}
        for batch, gap in zip(batches, gaps.mean(axis=0).tolist(), strict=True)
    ]


def _loss_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """``Loss_BC - Loss_B``, and ``MAX_Loss_Adv - Loss_Adv`` of the mean over clients."""
    both = [
        {**row, "loss_disparity": row["loss_bc"] - row["loss_b"]}
        for row in rows
        if row["loss_bc"] is not None and row["loss_b"] is not None
    ]
    batches, gaps = clients_over_batches(both, "loss_disparity")
    other, adversarial = clients_over_batches(rows, "loss_adv")
    means = dict(zip(other, adversarial.mean(axis=0).tolist(), strict=True))
    largest = max(means.values())
    return [
        {"batch": batch, "loss_disparity": gap, "loss_adv_decrease": largest - means[batch]}
        for batch, gap in zip(batches, gaps.mean(axis=0).tolist(), strict=True)
    ]


def _draw_panel(axes: Axes, rows: Sequence[Row]) -> None:
    batches = [row["batch"] for row in rows]
    shown = (
        ("disparity", "Acc_B - Acc_BC", DISPARITY), ("acc_adv", "Acc_Adv", ADVERSARIAL),
        ("loss_disparity", "Loss_BC - Loss_B", DISPARITY),
        ("loss_adv_decrease", "MAX_Loss_Adv - Loss_Adv", ADVERSARIAL),
    )  # fmt: skip
    for name, label, look in shown:
        if name in rows[0]:
            of_loss = {"linestyle": ":" if look is DISPARITY else "-."} if name.startswith("loss") else {}
            style = look.line_style() | of_loss
            every = max(1, len(batches) // 6)
            axes.plot(batches, [row[name] for row in rows], label=label, markevery=every, **style)
