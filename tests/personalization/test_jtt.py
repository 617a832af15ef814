"""JTT against a written-out second stage and hand-counted error sets."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from client_views import make, network, samples, view
from torch import Tensor, nn

from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.training import LocalTraining
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import Batch, ClientView, Personalizer
from fedml_spurious.personalization.jtt import JustTrainTwice, error_set, upsampled


class Recording(JustTrainTwice):
    """Notes the rows that it trains on, which it knows by their first pixel, and the model before each."""

    def __init__(self, given: ClientView, **options: Any) -> None:
        super().__init__(self.settings_type(**options))
        self.pixels = given.train.x[:, 1, 0, 0].tolist()
        assert len(set(self.pixels)) == len(self.pixels)
        self.rows: list[int] = []
        self.models: dict[int, dict[str, Tensor]] = {}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.models[len(self.rows)] = copy.deepcopy(model.state_dict())
        self.rows += [self.pixels.index(pixel) for pixel in batch.x[:, 1, 0, 0].tolist()]
        return super().loss(model, batch)


class Given(Personalizer[Any]):
    """Fine-tuning on a fixed multiset of rows, shuffled in every epoch."""

    name = "given"

    def __init__(self, rows: list[int]) -> None:
        super().__init__(METHODS["ft"].settings_type())
        self.rows_of_an_epoch = np.array(rows)

    def sequence(self, view: ClientView, rng: np.random.Generator) -> Any:
        return rng.permutation(self.rows_of_an_epoch)


def test_the_error_set_is_found_in_eval_mode_and_the_model_is_left_as_it_was() -> None:
    model, given = network().train(), samples(30, 7)
    before = copy.deepcopy(model.state_dict())
    actual = error_set(model, given)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.eval()
    one_by_one = [int(model(given.x[i : i + 1]).argmax()) != int(given.y[i]) for i in range(30)]
    assert actual.tolist() == one_by_one
    assert 0 < sum(one_by_one) < 30


@pytest.mark.parametrize("multiplicity", [1, 2, 50])
def test_errors_stand_in_an_epoch_exactly_so_often(multiplicity: int) -> None:
    rows = upsampled(torch.tensor([False, True, False, True]), multiplicity)
    assert Counter(rows.tolist()) == {0: 1, 1: multiplicity, 2: 1, 3: multiplicity}


@pytest.mark.parametrize(("epochs", "mode"), [(0, "frozen"), (1, "frozen"), (2, "frozen"), (1, "batch")])
def test_both_stages_train_on_what_they_should(epochs: int, mode: str) -> None:
    """Stage 1: T passes over all samples. Stage 2: in every epoch the correct once, the errors 50 times.

    With T = 0 the errors are those of the global model itself.
    """
    given = view(21, rate=0.002, mode=mode)
    method = Recording(given, identification_epochs=epochs)
    method.personalize(given)
    first, second = method.rows[: 21 * epochs], method.rows[21 * epochs :]
    for epoch in range(epochs):
        assert sorted(first[21 * epoch : 21 * (epoch + 1)]) == list(range(21))

    identifier = copy.deepcopy(given.global_model)
    identifier.load_state_dict(_after_stage_one(given, first))
    identifier.eval()
    errors = (identifier(given.train.x).argmax(dim=1) != given.train.y).tolist()
    assert 0 < sum(errors) < 21
    length = 21 + 49 * sum(errors)
    assert len(second) == 3 * length
    for epoch in range(3):
        counts = Counter(second[length * epoch : length * (epoch + 1)])
        assert counts == {row: 50 if wrong else 1 for row, wrong in enumerate(errors)}


def _after_stage_one(given: ClientView, rows: list[int]) -> dict[str, Tensor]:
    """Adam on the recorded rows in batches of 8, the last one of an epoch smaller, written out."""
    model = copy.deepcopy(given.global_model).train()
    model[1].train(given.training.batchnorm_mode == "batch")
    optimizer = torch.optim.Adam(model.parameters(), lr=given.training.learning_rate, fused=True)
    for start in range(0, len(rows), 21):
        for batch in torch.tensor(rows[start : start + 21]).split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(given.train.x[batch]), given.train.y[batch]).backward()
            optimizer.step()
    return model.state_dict()


def test_stage_two_starts_anew_from_the_global_model() -> None:
    """Neither weights, statistics nor the optimiser's moments remember stage 1."""
    given = view(21, rate=0.002)
    method = Recording(given)
    actual = method.personalize(given).state
    start = method.models[21]
    assert all(torch.equal(value, start[key]) for key, value in given.global_model.state_dict().items())
    rows = method.rows[21 : 21 + (len(method.rows) - 21) // 3]  # the multiset of the first epoch
    expected = Given(sorted(rows)).personalize(given).state
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_the_two_stages_visit_the_samples_in_other_orders() -> None:
    given = view(21, rate=0.002)
    method = Recording(given, multiplicity=1)
    method.personalize(given)
    assert method.rows[:21] != method.rows[21:42]


def _thirds(wrong: set[int], conflicting: set[int]) -> ClientView:
    """Ten samples that a linear model classifies by their brightest channel, some labels of them wrong.

    The learning rate is too small to change a prediction.
    """
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        model[2].weight.copy_(100 * torch.eye(3))
        model[2].bias.zero_()
    given = view(10, model=model)
    x = torch.zeros(10, 3, 6, 6)
    y = torch.arange(10) % 3
    x[torch.arange(10), y] = 1.0
    y = torch.tensor([(int(label) + 1) % 3 if row in wrong else int(label) for row, label in enumerate(y)])
    aligned = torch.tensor([row not in conflicting for row in range(10)])
    return replace(given, train=Labelled(x, y), aligned=aligned, training=LocalTraining(2, 4, 1e-6))


def test_precision_and_recall_of_the_error_set_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Wrong: 0 1 2; conflicting: 1 2 3 4. Two of three found are conflicting, two of four are found."""
    given = _thirds({0, 1, 2}, {1, 2, 3, 4})
    with caplog.at_level(logging.INFO):
        personal = make("jtt").personalize(given)
    assert caplog.messages == [
        "jtt, client 0 (fl0 p0): error set of 3 of 10 samples, precision 0.667, recall 0.500"
    ]
    assert personal.details == {
        "samples": 10, "error_set": 3, "conflicting": 4, "hits": 2, "precision": 2 / 3, "recall": 0.5,
    }  # fmt: skip


def test_an_empty_error_set_is_fine_tuning_bit_for_bit_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    given = _thirds(set(), {1})
    with caplog.at_level(logging.INFO):
        actual = make("jtt").personalize(given)
    assert caplog.messages == ["jtt, client 0 (fl0 p0): the error set is empty; stage 2 is plain FT"]
    assert (actual.details["precision"], actual.details["recall"]) == (None, 0.0)
    expected = make("ft").personalize(given).state
    assert all(torch.equal(actual.state[key], expected[key]) for key in expected)


def test_only_the_second_stage_is_observed() -> None:
    given = view(21, rate=0.002)
    epochs: list[int] = []
    make("jtt").personalize(given, lambda model, epoch, batch: epochs.append(epoch))
    assert epochs == sorted(epochs)
    assert set(epochs) == {0, 1, 2, 3}


def test_the_defaults_are_one_epoch_and_fifty() -> None:
    settings = make("jtt").settings
    assert (settings.identification_epochs, settings.multiplicity) == (1, 50)
