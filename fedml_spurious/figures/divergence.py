"""Figure 1b: how far clients pull the global model apart, split into shape and colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, new_figure, shared_legend, whole_numbers
from fedml_spurious.figures.runs import data_title, load_runs, map_title
from fedml_spurious.figures.style import SERIES
from fedml_spurious.results.recordings import Row, read_recording

COLUMNS = ("dataset", "map", "kind", "layer", "overlap", "round", "pairs", "cosine")
WHOLE = "all"
KINDS: Mapping[str, str] = {
    "pseudo": "pseudo-gradient",
    "gradient": "gradient",
    "shape": "its shape part",
    "color": "its colour part",
}


def draw(runs: Sequence[Path]) -> Drawing:
    """A column per run: mean cosine of two clients, by the classes that they share, and over rounds.

    The CSV has both, and every layer by the classes that are shared.
    """
    loaded = load_runs(runs)
    figure, panels = new_figure(2, len(loaded), width=3.7 * len(loaded), height=5.2)
    rows: list[dict[str, Any]] = []
    for run, above, below in zip(loaded, panels[: len(loaded)], panels[len(loaded) :], strict=True):
        recorded = read_recording(run, "divergence")
        about = {"dataset": run.dataset, "map": map_title(run)}
        by_overlap = _averages(recorded, ("kind", "layer", "overlap"))
        by_round = _averages([row for row in recorded if row["layer"] == WHOLE], ("kind", "layer", "round"))
        _draw_lines(above, [row for row in by_overlap if row["layer"] == WHOLE], "overlap")
        _draw_lines(below, by_round, "round")
        above.set(title=f"{data_title(run)}: {about['map']}", xlabel="classes that two clients share")
        below.set(xlabel="round, all pairs")
        rows += [about | row for row in (*by_overlap, *by_round)]
    for axes in panels:
        axes.set(ylim=_limits(rows), ylabel="cosine between clients")
        axes.axhline(0, color="#7F7F7F", linewidth=0.8)
    shared_legend(figure, panels)
    return Drawing(figure, COLUMNS, tuple(rows))


def _averages(rows: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """Mean cosines over pairs, by these columns, in the order in which they appear but for numbers."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    found = []
    for key, group in groups.items():
        pairs = sum(row["pairs"] for row in group)
        cosine = sum(row["pairs"] * row["cosine"] for row in group) / pairs
        found.append({**dict(zip(names, key, strict=True)), "pairs": pairs, "cosine": cosine})
    return sorted(
        found, key=lambda row: (list(KINDS).index(row["kind"]), row["layer"] != WHOLE, row[names[-1]])
    )


def _draw_lines(axes: Axes, rows: Sequence[Row], name: str) -> None:
    for (kind, label), look in zip(KINDS.items(), (SERIES[4], *SERIES[:3]), strict=True):
        own = [row for row in rows if row["kind"] == kind]
        if own:
            every = max(1, len(own) // 8)
            axes.plot(
                [row[name] for row in own], [row["cosine"] for row in own], label=label, markevery=every,
                **look.line_style(),
            )  # fmt: skip
    if name == "overlap":
        axes.set_xticks(sorted({row[name] for row in rows}))  # few, and often one
    else:
        whole_numbers(axes)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    shown = [row["cosine"] for row in rows if row["layer"] == WHOLE]
    if not shown:
        raise InputError(
            "nothing to draw: no round has two clients, and so no pair of them has a cosine; divergence "
            "needs train_args.client_num_per_round of 2 or more"
        )
    return min(-0.1, min(shown) - 0.05), min(1.0, max(shown) + 0.1)
