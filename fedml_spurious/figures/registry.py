"""Every figure by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures import frontier, phase_diagram, table1
from fedml_spurious.figures.drawing import FigureKind

FIGURES: Mapping[str, FigureKind] = {
    kind.name: kind
    for kind in (
        FigureKind(
            "table1",
            "Table 1: Acc_B against Acc_BC, a point per method, the paper's beside ours",
            "finished runs, of one data set or several",
            table1.draw,
        ),
        FigureKind(
            "phase_diagram",
            "Disparity over the share of conflicting samples, the divergence of colour maps and the classes",
            "a sweep over these, such as that of fedml_configs/phase_diagram.yaml",
            phase_diagram.draw,
        ),
        FigureKind(
            "frontier",
            "What is kept of fine-tuning's gain against what is taken back of its rise, over coefficients",
            "a sweep or runs with grids",
            frontier.draw,
            "experiment_args.trials: all",
        ),
    )
}


def find_figure(name: str) -> FigureKind:
    """A figure by its name, or by the paper's number.

    Raises:
        InputError: there is no such figure.
    """
    number = name.lower().removeprefix("figure").removeprefix("fig").strip(" _-.")
    for candidate in (name, name.lower(), f"fig{number}"):
        if candidate in FIGURES:
            return FIGURES[candidate]
    close = difflib.get_close_matches(name, FIGURES, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise InputError(
        f"no figure {name!r}.{meant} There are {', '.join(FIGURES)}; see fedml-spurious figure --list"
    )
