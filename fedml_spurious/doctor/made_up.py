"""What timed steps take in place of what a run has: options of one short pass, and a row."""

from __future__ import annotations

from typing import Any

from fedml_spurious.personalization.options import JTTSettings, LocalSettings, MethodSettings
from fedml_spurious.results.rows import ClientResult


def shortened(options: MethodSettings) -> MethodSettings:
    """Options with which a method does what is timed once."""
    if isinstance(options, JTTSettings):
        return options.model_copy(update={"identification_epochs": 0, "multiplicity": 1})
    return options.model_copy(update={"epochs": 1}) if isinstance(options, LocalSettings) else options


def made_up_row(dataset: str, client: str) -> ClientResult:
    """A row of ``results.csv`` with as many digits as rows have."""
    third: dict[str, Any] = dict.fromkeys(
        (
            "acc_b",
            "acc_bc",
            "disparity",
            "loss_b",
            "loss_bc",
            "acc_adv",
            "loss_adv",
            "val_acc",
            "lam_adv",
            "lam_l2",
        ),
        1 / 3,
    )
    counts = dict.fromkeys(("n_train", "n_val", "n_test", "n_test_bc"), 100)
    return ClientResult(
        dataset=dataset, method="ft", fl_seed=0, p_seed=0, client=client, selected_epoch=1, eps=1 / 3,
        seconds=0.1, **counts, **third,
    )  # fmt: skip
