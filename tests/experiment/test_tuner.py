"""What tuning reads of the rows of its trials, in runs that are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finished_folders import client_row
from quick_runs import quick_config, quick_splits

from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tuning import Tuner
from fedml_spurious.results.decisions import TuningStep

CLIENTS = ("0000", "0001", "0002")
SIZES = dict(zip(CLIENTS, (10, 20, 40), strict=True))
"""Validation samples."""

Correct = dict[str, tuple[int | None, int | None, int | None]]
"""Validation samples of each client that are right, by method or value; None: not applicable, or diverged."""


def decide(
    correct: Correct, folder: Path, *, diverged: tuple[str, ...] = (), last: int = 0, **experiment: Any
) -> TuningStep:
    """The step of ``lam_adv`` of ``ours``, from stored rows of these trials.

    Args:
        correct: of ``global``, ``ft`` and each value of the grid.
        folder: of the run.
        diverged: of which of these a None is a model that diverged.
        last: validation samples that every model gets right after its last epoch.
        experiment: of the configuration.
    """
    values = [float(name) for name in correct if name not in ("global", "ft")]
    config = quick_config(quick_splits(folder / "splits"))
    config["experiment_args"] = {
        "methods": ["global", "ft", "ours"], "grids": {"ours": {"lam_adv": values}}, **experiment,
    }  # fmt: skip
    settings = check_settings(config, source="a test")
    store = ResultStore(RunFolder(folder / "run"))
    tuner = Tuner(settings, store, CLIENTS)
    for key in (*tuner.references(), *tuner.wanted()):
        name = key.method if key.method != "ours" else str(key.values()["lam_adv"])
        found = correct[name][CLIENTS.index(key.client)]
        store.add(key, outcome(key, found, last, diverged=name in diverged))
    tuner.decide()
    assert not tuner.wanted()
    return tuner.write()["ours"].steps()["lam_adv"]["all"]


def outcome(key: ResultKey, correct: int | None, last: int, *, diverged: bool) -> Outcome:
    size = SIZES[key.client]
    row = client_row(
        key.method, key.client, None, None, p_seed=key.p_seed, n_val=size,
        val_acc=None if correct is None else correct / size,
        selected_epoch=0 if diverged and correct is None else 1,
    )  # fmt: skip
    after = client_row(key.method, key.client, None, None, p_seed=key.p_seed, n_val=size, val_acc=last / size)
    return Outcome(row, after)


BASE: Correct = {"global": (4, 10, 20), "ft": (8, 20, 30), "0.1": (9, 20, 33), "1.0": (8, 18, 26)}


@pytest.mark.parametrize(
    ("share", "chosen"),
    [
        (0.75, 1.0),  # 34 and three quarters of the gain of 24 are 52, which 1.0 has
        (0.76, 0.1),
    ],
)
def test_samples_are_pooled_over_the_clients(share: float, chosen: float, tmp_path: Path) -> None:
    """By counts of samples, not the mean of the clients' accuracies; of the selected epochs."""
    step = decide(BASE, tmp_path, last=2, tuning_share=share)
    assert step.chosen == chosen
    assert [(trial.correct, trial.count) for trial in step.values] == [(62, 70), (52, 70)]


def test_where_fine_tuning_loses_the_bar_is_the_global_model(tmp_path: Path) -> None:
    """Not below it: 34 of the global model, 20 of fine-tuning, and 1.0 has 33."""
    correct: Correct = {**BASE, "ft": (4, 6, 10), "1.0": (3, 10, 20)}
    assert decide(correct, tmp_path, tuning_share=1.0).chosen == 0.1


def test_clients_to_which_the_method_does_not_apply_have_no_part_in_the_bar(tmp_path: Path) -> None:
    """Of the first two clients: 14 and the gain of 14 are 28, which 0.1 and 1.0 have."""
    correct: Correct = {**BASE, "0.1": (9, 20, None), "1.0": (8, 20, None)}
    step = decide(correct, tmp_path, tuning_share=1.0)
    assert (step.chosen, step.values[1].count) == (1.0, 30)
    assert "0.9333 of the global model and 100% of what fine-tuning gains over it" in step.reason


def test_a_value_that_diverged_on_one_client_diverged(tmp_path: Path) -> None:
    correct: Correct = {**BASE, "1.0": (10, 20, None)}
    step = decide(correct, tmp_path, diverged=("1.0",), tuning_share=0.0)
    assert (step.chosen, step.reason) == (0.1, "the training diverges with 1")
    assert (step.values[1].count, step.values[1].val_acc) == (70, None)
