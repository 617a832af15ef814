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
    """The rule shrinks 4.0, with which every attack succeeds, more than once."""
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
