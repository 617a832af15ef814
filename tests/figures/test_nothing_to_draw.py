"""Runs that recorded what a figure needs, and have nothing that it could draw."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_folders import write_run

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_csv
from fedml_spurious.figures.drawing import draw_figure
from fedml_spurious.figures.registry import FIGURES

_ACCURACIES = {"acc_b": 0.5, "loss_b": 0.7, "acc_adv": 0.2, "loss_adv": 1.0}
_CONFLICTING = ("acc_bc", "loss_bc", "disparity")


def test_one_client_a_round_has_no_pairs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda *_: (0.5, 0.4))
    write_csv(run / "divergence.csv", ["kind", "layer", "overlap", "round", "pairs", "cosine"], [])
    with pytest.raises(InputError, match=r"^nothing to draw: .*client_num_per_round"):
        draw_figure(FIGURES["fig1b"], [run])


@pytest.mark.parametrize("name", ["fig4", "fig5", "fig6a", "fig6b"])
def test_no_client_has_bias_conflicting_samples(name: str, tmp_path: Path) -> None:
    methods = ("global", "ft", "adv", "l2", "ours")
    run = write_run(tmp_path / "run", lambda *_: (0.5, 0.4), methods=methods)
    rows = [
        {"client": "0000", "batch": batch} | _ACCURACIES | dict.fromkeys(_CONFLICTING) for batch in (0, 1)
    ]
    for method in methods[1:]:
        write_csv(run / f"personal/{method}/fl0_p0/trajectory.csv", list(rows[0]), rows)
    with pytest.raises(InputError, match=r"^nothing to draw: no client has \w+ in its trajectory"):
        draw_figure(FIGURES[name], [run])
