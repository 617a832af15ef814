"""How the attack's budget is found in a run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from running import invoke

from fedml_spurious.common import progress

CLIENTS = 4


def test_the_choice_of_the_budgets_is_shown_before_the_time_of_what_needs_them(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule shrinks 4.0, with which nearly every attack succeeds, more than once."""
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    tiny["attack_args"] |= {"eps": 4.0, "shrink": 0.25}
    tiny["experiment_args"] |= {"methods": ["global"], "fl_seeds": [0, 1]}
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 0, result.output
    expected = []
    for seed in (0, 1):
        trail = json.loads((tmp_path / f"run/global/fl{seed}/budget.json").read_text())["trail"]
        assert len(trail) > 2
        for tried, (eps, _) in enumerate(trail):
            first, total = tried * CLIENTS + 1, (tried + 1) * CLIENTS
            eps_shown = f"fl{seed} eps {eps:.4g}"
            expected += [(str(done), str(total), eps_shown) for done in range(first, total + 1)]
    line = re.compile(r"Budget of the attack: (\d+)/(\d+), \d+ s left  (fl\d eps .*)")
    before, after = result.output.split("Personal models: ", 1)
    assert line.findall(before) == expected
    assert "Budget of the attack" not in after


@pytest.mark.parametrize(
    ("eps", "low", "high", "in_range"),
    [(4.0, 0.3, 0.5, False), (1e-6, 0.3, 0.5, False), (4.0, 0.3, 1.0, True), (1e-6, 0.0, 0.5, True)],
)
def test_a_fixed_budget_is_taken_and_told_where_it_is_outside_of_the_range(
    eps: float, low: float, high: float, in_range: bool, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """With 4.0 nearly every attack succeeds, with 1e-6 none does."""
    tiny["attack_args"] |= {"budget": "fixed", "eps": eps, "success_low": low, "success_high": high}
    tiny["experiment_args"] |= {"methods": ["global"]}
    tiny["train_args"]["comm_round"] = 1
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "run/global/fl0/budget.json").read_text())
    assert stored["eps"] == eps
    ((tried, rate),) = stored["trail"]
    assert tried == eps
    assert rate > 0.9 if eps > 1 else rate == 0
    assert stored["in_range"] == in_range
    told = "success rate is outside the wanted range" in (tmp_path / "run/run.log").read_text()
    assert told != in_range
