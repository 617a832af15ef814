"""Every figure by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures import (
    centralized,
    divergence,
    fine_tuning,
    frontier,
    gamma,
    phase_diagram,
    table1,
    twins,
    two_terms,
    upweighting,
)
from fedml_spurious.figures.drawing import FigureKind
from fedml_spurious.results.recordings import recording_option

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
            "fig1b",
            "Figure 1b: cosines between the clients' gradients, split into shape and colour",
            "the divergence; best of one run with a shared colour map and one with a map for each client",
            divergence.draw,
            recording_option("divergence"),
        ),
        FigureKind(
            "fig3",
            "Figure 3: the global model, trained in one place and in a federation",
            "a centralized and a federated run of every data set",
            centralized.draw,
        ),
        FigureKind(
            "fig4",
            "Figure 4: accuracy on both test sets over fine-tuning batches",
            "trajectories of ft",
            fine_tuning.draw_figure_4,
            recording_option("trajectories"),
        ),
        FigureKind(
            "fig5",
            "Figure 5: disparity and Acc_Adv over fine-tuning batches, with their correlation",
            "trajectories of ft",
            fine_tuning.draw_figure_5,
            recording_option("trajectories"),
        ),
        *two_terms.kinds(),
        FigureKind(
            "fig7",
            "Figure 7: the distribution of gamma with and without the L2 term",
            "gamma of ft and l2, or of adv and ours",
            gamma.draw_figure_7,
            recording_option("gamma"),
        ),
        FigureKind(
            "figd1",
            "Appendix D.1: the error of the first-order transferability loss",
            "gamma of any method",
            gamma.draw_first_order,
            recording_option("gamma"),
        ),
        FigureKind(
            "fig8",
            "Figure 8: up-weighting over the share of bias-conflicting samples",
            "runs of uw that differ in the share of bias-conflicting training samples",
            upweighting.draw,
        ),
        FigureKind(
            "twins",
            "Colour twins: do models follow the colour or the shape where the two disagree",
            "twins",
            twins.draw,
            recording_option("twins"),
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
