"""The example of a method of one's own: small, right, and in the table by configuration only."""

from __future__ import annotations

import copy
import csv
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from client_views import make, view

from fedml_spurious.cli import main
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.state_dicts import load_state
from fedml_spurious.personalization.base import Personalizer

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_method", EXAMPLES / "own_method.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_under_40_lines() -> None:
    assert len((EXAMPLES / "own_method.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("keep", [0.0, 0.25, 1.0])
def test_it_mixes_fine_tuned_and_global_weights(
    example: ModuleType, keep: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = view()
    w_g = given.global_model.state_dict()
    tuned = make("ft").personalize(given)
    tuned = replace(tuned, last=tuned.last or make("ft").personalize(view(p_seed=1)))  # some other model
    monkeypatch.setattr(Personalizer, "personalize", lambda *_: tuned)
    actual = example.WiseFT(example.WiseFTSettings(keep=keep)).personalize(given)
    for mixture, before in ((actual, tuned), (actual.last, tuned.last)):
        for name, w_p in before.state.items():
            expected = keep * w_g[name].double() + (1 - keep) * w_p.double()
            if not w_p.is_floating_point():
                expected = w_p.double()
            torch.testing.assert_close(mixture.state[name].double(), expected, rtol=1e-6, atol=1e-7)
        model = copy.deepcopy(given.global_model)
        load_state(model, mixture.state)
        assert mixture.val_acc == evaluate(model, given.val.x, given.val.y).accuracy
        assert mixture.selected_epoch == before.selected_epoch


def rows(path: Path) -> list[tuple[str, ...]]:
    """Method, client and what was measured on both test sets."""
    with path.open() as stream:
        return [
            tuple(row[name] for name in ("method", "client", "acc_b", "acc_bc", "loss_b", "loss_bc"))
            for row in csv.DictReader(stream)
        ]


def test_the_example_runs_from_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortened; its module is found beside the file, whatever the working folder is."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    shorter = ("train_args.comm_round=1", "data_args.partition.limit=300", "personalization_args.epochs=1")
    shorter += ("model_args.model=small_network:cnn",)
    sets = [part for change in shorter for part in ("--set", change)]
    run = ["run", "--cf", str(EXAMPLES / "own_method.yaml"), "--output", "run", *sets]
    result = CliRunner().invoke(main, run)
    assert result.exit_code == 0, result.output
    table: dict[str, list[tuple[str, ...]]] = {}
    for method, *measured in rows(tmp_path / "run/results.csv"):
        table.setdefault(method, []).append(tuple(measured))
    assert list(table) == ["global", "ft", "wise_ft", "ours"]
    decision = json.loads((tmp_path / "run/tuning/wise_ft/decision.json").read_text())
    (coefficient,) = decision["trail"]
    assert [trial["value"] for trial in coefficient["values"]] == [0.0, 0.5, 0.75, 0.9]
    (trial,) = (tmp_path / "run/personal/wise_ft").glob("keep=0.0/*/clients.csv")
    assert [tuple(measured) for _, *measured in rows(trial)] == table["ft"]
