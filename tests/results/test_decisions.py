"""``decision.json`` is read as it was written, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_json
from fedml_spurious.results.decisions import (
    ClientDecision,
    Decision,
    SeedPair,
    Trial,
    TuningStep,
    read_decisions,
)

STORED = """{
  "method": "jtt",
  "rule": "the value with the highest validation accuracy; of equals the smallest",
  "seeds": {
    "fl_seed": 3,
    "p_seed": 7
  },
  "tolerance": 0.0,
  "scope": "client",
  "chosen": null,
  "trail": null,
  "clients": {
    "0004": {
      "chosen": {
        "multiplicity": 50
      },
      "trail": [
        {
          "coefficient": "multiplicity",
          "fixed": {
            "threshold": 1.0
          },
          "values": [
            {
              "value": 20,
              "correct": 0,
              "count": 0,
              "val_acc": null
            },
            {
              "value": 50,
              "correct": 1,
              "count": 3,
              "val_acc": 0.3333333333333333
            }
          ],
          "chosen": 50,
          "reason": "the highest validation accuracy, 0.3333"
        }
      ]
    }
  }
}
"""
"""A file as tuning has always written it. 20 and 50 are whole numbers, 1.0 is none."""


def test_what_is_written_and_what_is_read(tmp_path: Path) -> None:
    step = TuningStep(
        coefficient="multiplicity",
        fixed={"threshold": 1.0},
        values=(Trial.counted(20, 0, 0), Trial.counted(50, 1, 3)),
        chosen=50,
        reason="the highest validation accuracy, 0.3333",
    )
    decision = Decision(
        method="jtt",
        rule="the value with the highest validation accuracy; of equals the smallest",
        seeds=SeedPair(fl_seed=3, p_seed=7),
        tolerance=0.0,
        scope="client",
        chosen=None,
        trail=None,
        clients={"0004": ClientDecision(chosen={"multiplicity": 50}, trail=(step,))},
    )
    path = tmp_path / "tuning/jtt/decision.json"
    write_json(path, decision.model_dump(mode="json"))
    assert path.read_text() == STORED
    assert read_decisions(tmp_path, ["jtt"]) == {"jtt": decision}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scope": "all"}, r"scope: expected 'shared' or 'client'"),
        ({"tolerance": "0"}, r"tolerance: expected a number"),
        ({"why": "so"}, r"why: unknown key"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    write_json(tmp_path / "tuning/jtt/decision.json", json.loads(STORED) | change)
    with pytest.raises(InputError, match=problem):
        read_decisions(tmp_path, ["jtt"])
