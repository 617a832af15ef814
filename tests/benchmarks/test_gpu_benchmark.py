"""The GPU benchmark at a small size on the CPU: its checks run and hold, and its losses are the methods'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedml_spurious.personalization import METHODS

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(scope="module")
def found(quick_processes: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("gpu")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(out), "--device", "cpu"]
    path = os.pathsep.join([str(BENCHMARKS.parents[1]), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": path}
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads((out / "gpu.json").read_text())  # type: ignore[no-any-return]


def rows_of(found: dict[str, Any], number: str) -> list[dict[str, Any]]:
    (item,) = (item for title, item in found["items"].items() if title.startswith(f"{number} "))
    return item["rows"]  # type: ignore[no-any-return]


def test_every_item_runs_at_a_small_size_and_says_so(found: dict[str, Any]) -> None:
    assert found["quick"]
    assert found["device"] == "cpu"
    assert len(found["items"]) == 12
    for item in found["items"].values():
        assert item["rows"]
        assert not any({"failed", "skipped"} & row.keys() for row in item["rows"])


@pytest.mark.parametrize(
    ("number", "claim"), [("1a", "equals the CPU"), ("2", "same bits twice"), ("6a", "same bits")]
)
def test_the_checks_hold(found: dict[str, Any], number: str, claim: str) -> None:
    values = [row[claim] for row in rows_of(found, number) if claim in row]
    assert len(values) >= 4
    assert all(values)


def test_a_mean_half_way_between_two_numbers_needs_a_true_division(found: dict[str, Any]) -> None:
    """1 / 105 is off by 0.8 * 2^-53 of itself, and 1 / 5040 by 0.008 * 2^-53, in exact fractions."""
    rows = {row["samples of 5 clients each"]: row for row in rows_of(found, "1b")}
    assert all(row["equals the CPU"] for row in rows.values())
    assert rows[1008]["others by the reciprocal"] == 0
    assert rows[21]["others by the reciprocal"] > 0


def test_the_totals_are_the_sums_of_their_parts(found: dict[str, Any]) -> None:
    seconds = {row["what"]: row["s"] for row in rows_of(found, "8")}
    totals = {what: s for what, s in seconds.items() if what.startswith("TOTAL")}
    kinds = [what.removeprefix("500 rounds, ") for what in seconds if what.startswith("500 rounds, ")]
    assert len(totals) == len(kinds) == 3
    own = {kind: seconds[f"500 rounds, {kind}"] + seconds[f"checkpoints, {kind}"] for kind in kinds}
    rest = sum(seconds.values()) - sum(totals.values()) - sum(own.values())
    for (what, total), kind in zip(totals.items(), kinds, strict=True):
        gain = float(what.split()[-4])
        assert total == pytest.approx(own[kind] + rest / gain, rel=0.02 / gain)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ft", {}),
        ("adv", {"lam_adv": 1.0}),
        ("l2", {"lam_l2": 0.1}),
        ("ours", {"lam_adv": 1.0, "lam_l2": 0.1}),
    ],
)
def test_the_losses_are_those_of_the_methods(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, float]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_work  # found only on the path that is set above

    size, device = gpu_work.QUICK["small"], torch.device("cpu")
    samples = gpu_work.make_samples(size, 0, device)
    model, global_model = size.model(device, seed=1), size.model(device, seed=2)
    method = METHODS[name](METHODS[name].settings_type(**options))
    batch = SimpleNamespace(**vars(samples), w_g=tuple(global_model.parameters()), f_g=global_model)
    expected = method.loss(model, batch)
    model.load_state_dict(size.model(device, seed=1).state_dict())  # the batch moved BatchNorm statistics
    actual = gpu_work.objectives(samples, global_model)[name](model, torch.arange(len(samples.y)))
    assert torch.equal(actual, expected)
