"""What a method of a user's own returns or raises: an error names the method, never an N/A or a traceback."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from client_views import view

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import MethodError, RunError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import Personalize, TaskRunner
from fedml_spurious.personalization.base import MethodSettings, Personalized, Personalizer
from fedml_spurious.personalization.returned import check_personalized, checked_reason


class Own(Personalizer[MethodSettings]):
    name = "mine"


def own(**functions: Any) -> Own:
    """A method some of whose functions are others."""
    return type("Mine", (Own,), functions)(MethodSettings())


def told(**changes: Any) -> Any:
    """``personalize`` that gives a personal model with other values."""

    def personalize(self: Own, given: Any, observe: Any = None) -> Personalized:
        found = Personalizer.personalize(self, given, observe)
        return dataclasses.replace(found, **changes)

    return personalize


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no loss": ({"loss": lambda self, model, batch: None}, r"loss \(.*\) returned nothing"),
    "a number for a loss": ({"loss": lambda self, model, batch: 0.5}, "returned a float; expected a tensor"),
    "a loss per sample": (
        {"loss": lambda self, model, batch: model(batch.x).sum(dim=1)},
        r"returned a tensor of shape \(8,\)",
    ),
    "a loss of nothing": (
        {"loss": lambda self, model, batch: model(batch.x).sum().detach()},
        "returned a tensor without a gradient",
    ),
    "NaN score": ({"score": lambda self, candidate: float("nan")}, "score .* returned nan; expected a"),
    "infinite score": ({"score": lambda self, candidate: -np.inf}, "score .* returned -inf"),
    "no score": ({"score": lambda self, candidate: None}, "score .* returned nothing; expected a number"),
    "empty sequence": ({"sequence": lambda self, given, rng: np.array([], int)}, r"sequence .* shape \(0,\)"),
    "rows as a list": ({"sequence": lambda self, given, rng: [0, 1]}, "sequence .* returned a list"),
    "rows with decimals": ({"sequence": lambda self, given, rng: np.array([0.0, 1.0])}, "type float64"),
    "rows that are not there": ({"sequence": lambda self, given, rng: np.arange(21)}, "rows from 0 to 20"),
    "negative rows": ({"sequence": lambda self, given, rng: np.array([-1, 2])}, "rows from -1 to 2"),
    "no start": ({"start": lambda self, given: None}, "start .* returned nothing"),
    "nothing": ({"personalize": lambda self, given, observe=None: None}, "personalize .* returned nothing"),
    "a model": (
        {"personalize": lambda self, given, observe=None: given.global_model},
        "personalize .* returned a Sequential",
    ),
    "no state": ({"personalize": told(state=None)}, "the state nothing"),
    "another network": ({"personalize": told(state={"w": torch.ones(1)})}, "a state that does not fit: 0.w"),
    "NaN accuracy": ({"personalize": told(val_acc=float("nan"))}, "val_acc nan"),
    "accuracy in percent": ({"personalize": told(val_acc=97.0)}, "val_acc 97.0; expected .* from 0 to 1"),
    "epoch 0": ({"personalize": told(selected_epoch=0)}, "selected_epoch 0"),
    "half an epoch": ({"personalize": told(selected_epoch=1.5)}, "selected_epoch 1.5"),
    "NaN details": ({"personalize": told(details={"way": float("nan")})}, r"nan in details\['way'\]"),
    "text for details": ({"personalize": told(details={"way": "long"})}, r"'long' in details\['way'\]"),
    "a last one that is none": ({"personalize": told(last=3)}, "returned a int"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_method_returns_wrongly_is_named(kind: str) -> None:
    functions, expected = WRONG[kind]
    method, given = own(**functions), view()
    with pytest.raises(MethodError, match=f"method mine: .*{expected}"):
        check_personalized(method, method.personalize(given), given.global_model)


def test_what_is_right_passes() -> None:
    given, method = (
        view(),
        own(personalize=told(details={"way": np.float32(0.5), "none": None}, val_acc=None)),
    )
    check_personalized(method, method.personalize(given), given.global_model)
    with pytest.raises(MethodError, match=r"not_applicable .* returned nothing; expected text"):
        checked_reason(own(), None)


def divides(self: Own, model: Any, batch: Any) -> Any:
    return 1 / 0


def ends(self: Own, model: Any, batch: Any) -> Any:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        (
            {"loss": divides},
            r"ZeroDivisionError: division by zero \(.*returned.py, line \d+, in divides\)",
        ),
        ({"loss": ends}, r"SystemExit: 3 \(.*test_returned.py, line \d+, in ends\)"),
        ({"score": lambda self, candidate: float("nan")}, r"score \(.*, line \d+\) returned nan"),
        ({"not_applicable": lambda self, given: None}, "not_applicable .* returned nothing"),
    ],
)
def test_an_error_has_the_client_the_method_and_its_line(
    functions: dict[str, Any],
    expected: str,
    federation: SplitFolder,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = check_settings(tiny, source="a test")
    monkeypatch.setattr(Settings, "method_type", lambda *_: lambda _: own(**functions))
    runner = TaskRunner(settings, {0: federation}, torch.device("cpu"))
    runner.use(initial_network(settings, federation, 0), 0)
    where = "personalization, client 0001, method mine, seeds fl0, p0: "
    with pytest.raises(RunError, match=f"{where}.*{expected}.*mend it, then continue with --resume"):
        runner.run(Personalize(ResultKey("mine", 0, 0, "0001", MethodSettings()), eps=0.03))


def test_a_defect_of_this_package_keeps_its_traceback(
    federation: SplitFolder, tiny: dict[str, Any], tmp_path: Path
) -> None:
    settings = check_settings(tiny, source="a test")
    runner = TaskRunner(settings, {0: federation}, torch.device("cpu"))
    runner.use(initial_network(settings, federation, 0), 0)
    with pytest.raises(KeyError, match="nobody"):
        runner.run(Personalize(ResultKey("nobody", 0, 0, "0001", MethodSettings()), eps=0.03))
