"""When the federated step keeps what it goes on from."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quick_runs import quick_config, quick_splits
from running import invoke, read_rows

from fedml_spurious.experiment import federated_step


@pytest.mark.parametrize(("seconds", "rounds"), [(1e4, [3, 6, 8]), (0.0, list(range(9))), (1e6, [8])])
def test_a_checkpoint_is_kept_so_many_seconds_after_the_one_before_and_after_the_last_round(
    seconds: float, rounds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine rounds of 4,000 s; of those until round 3, and from there to round 6, three are over."""
    config = quick_config(quick_splits(tmp_path / "splits"))
    config["train_args"] |= {"comm_round": 9, "epochs": 1}
    config["validation_args"] = {"frequency_of_the_test": 5, "checkpoint_seconds": seconds}
    config["experiment_args"] = {"methods": ["global"]}
    # Beside rounds that long it does not matter when exactly the real clock was looked at first.
    now, kept = [time.monotonic() + 1000], list[int]()
    append, save = federated_step.append_csv, federated_step.save_tensors

    def appended(*given: Any) -> None:
        append(*given)
        now[0] += 4000

    def saved(path: Path, content: Any) -> None:
        save(path, content)
        if path.name == "checkpoint.pt":
            kept.append(content["rounds"] - 1)

    clock = SimpleNamespace(monotonic=lambda: now[0])
    for name, patched in (("time", clock), ("append_csv", appended), ("save_tensors", saved)):
        monkeypatch.setattr(federated_step, name, patched)
    result = invoke(config, tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert kept == rounds
    measured = [bool(row["acc_b"]) for row in read_rows(tmp_path / "run/global/fl0/rounds.csv")]
    assert measured == [index in (0, 5, 8) for index in range(9)]
