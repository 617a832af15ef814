"""One contract for all methods, and the oracles of ours and its ablations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from fedml_spurious.attacks import Attack
from fedml_spurious.fedavg import load_state
from fedml_spurious.losses import adversarial_disagreement
from fedml_spurious.metrics import Evaluation, evaluate
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import (
    Batch,
    Candidate,
    ClientTask,
    Labelled,
    Personalizer,
    make_adversarial_reference,
)
from fedml_spurious.training import LocalTraining

ALL = sorted(METHODS)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 3)
        )
        for _ in range(5):
            model(torch.rand(16, 3, 6, 6))
    return model


def samples(count: int, seed: int, classes: int = 3) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 6, 6, generator=generator)
    y = torch.arange(count) % classes
    x[:, 0] = (x[:, 0] + y.view(-1, 1, 1)) / 3  # something to learn
    return Labelled(x, y)


def task(
    count: int = 20, *, classes: int = 3, p_seed: int = 0, epochs: int = 3, rate: float = 0.01
) -> ClientTask:
    model = network()
    train, val = samples(count, 1, classes), samples(6, 2, classes)
    adversarial = make_adversarial_reference(model, train, val, Attack("linf", 0.05))
    aligned = torch.ones(count, dtype=torch.bool)
    aligned[: count // 5] = False
    return ClientTask(0, 0, p_seed, train, aligned, val, adversarial, model, LocalTraining(epochs, 8, rate))


def make(name: str, **options: Any) -> Personalizer[Any]:
    return METHODS[name](METHODS[name].settings_type(**options))


@pytest.mark.parametrize("name", ALL)
def test_the_global_model_and_the_data_are_left_untouched(name: str) -> None:
    given = task()
    before = copy.deepcopy(given)
    make(name).personalize(given)
    for key, value in given.global_model.state_dict().items():
        assert torch.equal(value, before.global_model.state_dict()[key]), key
    assert torch.equal(given.train.x, before.train.x)
    assert torch.equal(given.adversarial.train_x, before.adversarial.train_x)
    assert given.global_model.training == before.global_model.training


@pytest.mark.parametrize("name", ALL)
def test_it_starts_at_the_global_model(name: str) -> None:
    given = task()
    starts: list[bool] = []

    def observe(model: nn.Module, epoch: int, batch: int) -> None:
        if batch == 0:
            weights = given.global_model.state_dict()
            starts.append(all(torch.equal(value, weights[key]) for key, value in model.state_dict().items()))

    make(name).personalize(given, observe)
    assert starts
    assert all(starts)


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_model_and_another_seed_another(name: str) -> None:
    first, again = (make(name).personalize(task()).state for _ in range(2))
    other = make(name).personalize(task(p_seed=1)).state
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("count", "classes"), [(2, 2), (8, 1), (9, 3)])
def test_small_and_one_sided_clients_work(name: str, count: int, classes: int) -> None:
    method = make(name)
    given = task(count, classes=classes)
    if not method.not_applicable(given):
        state = method.personalize(given).state
        assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("name", ALL)
def test_the_global_generators_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    make(name).personalize(task())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adv", {"lam_adv": 0.0}), ("l2", {"lam_l2": 0.0}), ("ours", {"lam_adv": 0.0, "lam_l2": 0.0})],
)
def test_without_its_terms_a_method_is_fine_tuning_bit_for_bit(name: str, options: dict[str, float]) -> None:
    given = task(epochs=1)  # one candidate, so that the score cannot differ
    expected = make("ft").personalize(given).state
    actual = make(name, **options).personalize(given).state
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def batch_of(given: ClientTask) -> Batch:
    weights = tuple(parameter.detach() for parameter in given.global_model.parameters())
    reference = given.adversarial
    return Batch(given.train.x, given.train.y, reference.train_x, reference.train_z, weights)


def test_the_objective_is_the_sum_of_its_terms() -> None:
    """CE + lam_adv * BCE + lam_l2 * ||w_g - w_p||^2, every term computed apart, in double precision."""
    given = task()
    model = copy.deepcopy(given.global_model).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    batch = batch_of(given)
    batch = Batch(
        batch.x.double(),
        batch.y,
        batch.x_adv.double(),
        batch.z_g.double(),
        tuple(w.double() for w in batch.w_g),
    )
    evaluated = copy.deepcopy(model).eval()  # before training mode moves the statistics
    cross_entropy = nn.functional.cross_entropy(copy.deepcopy(model)(batch.x), batch.y)
    moved = copy.deepcopy(model)
    moved(batch.x)  # the clean images move the statistics, with which x_adv is normalised then
    evaluated.load_state_dict(moved.state_dict())
    probabilities = evaluated(batch.x_adv).softmax(dim=1)
    disagreement = nn.functional.binary_cross_entropy(probabilities, batch.z_g, reduction="sum") / len(
        batch.y
    )
    distance = sum(((v - w) ** 2).sum() for v, w in zip(model.parameters(), batch.w_g, strict=True))
    expected = cross_entropy + 0.7 * disagreement + 0.3 * distance
    actual = make("ours", lam_adv=0.7, lam_l2=0.3).loss(model, batch)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_adversarial_images_do_not_move_batchnorm_statistics() -> None:
    given = task()
    with_term, without = copy.deepcopy(given.global_model).train(), copy.deepcopy(given.global_model).train()
    make("adv", lam_adv=1.0).loss(with_term, batch_of(given))
    make("ft").loss(without, batch_of(given))
    assert torch.equal(with_term[1].running_mean, without[1].running_mean)
    assert with_term[1].num_batches_tracked == without[1].num_batches_tracked


@pytest.mark.parametrize("name", ["adv", "ours"])
def test_the_adversarial_term_keeps_predictions_on_x_adv_near_the_global_ones(name: str) -> None:
    given = task(rate=0.02)

    reference = given.adversarial
    certain = reference.train_z.log()  # logits whose softmax is z_g: the least possible disagreement

    def excess(state: dict[str, torch.Tensor]) -> float:
        model = copy.deepcopy(given.global_model)
        load_state(model, state)
        with torch.no_grad():
            value = adversarial_disagreement(model.eval()(reference.train_x), reference.train_z)
        return float(value - adversarial_disagreement(certain, reference.train_z))

    plain = excess(make("ft").personalize(given).state)
    options = {"lam_adv": 10.0} | ({"lam_l2": 0.0} if name == "ours" else {})
    assert 0 <= excess(make(name, **options).personalize(given).state) < 0.25 * plain


@pytest.mark.parametrize("name", ["l2", "ours"])
def test_the_l2_term_keeps_the_weights_near(name: str) -> None:
    given = task()

    def distance(state: dict[str, torch.Tensor]) -> float:
        return sum(
            float((state[key] - value.detach()).square().sum())
            for key, value in given.global_model.named_parameters()
        )

    options = {"lam_l2": 10.0} | ({"lam_adv": 0.0} if name == "ours" else {})
    assert distance(make(name, **options).personalize(given).state) < 0.25 * distance(
        make("ft").personalize(given).state
    )


@pytest.mark.parametrize(
    ("val", "val_adv", "global_adv", "expected"),
    [(8, 6, 0.4, 0.8 - 0.2), (8, 3, 0.4, 0.8), (10, 10, 0.1, 1.0 - 0.9)],
)
def test_ours_selects_by_accuracy_minus_lost_transferability(
    val: int, val_adv: int, global_adv: float, expected: float
) -> None:
    """Readings 6: validation accuracy minus what Acc_Adv of the personal model has over the global one's."""
    candidate = Candidate(Evaluation(10, val, 0.0), Evaluation(10, val_adv, 0.0), global_adv)
    assert make("ours").score(candidate) == pytest.approx(expected)
    for name in ("ft", "adv", "l2"):
        assert make(name).score(candidate) == pytest.approx(val / 10)


class Scripted(Personalizer[Any]):
    """Gives the epochs scores from a list."""

    name = "scripted"

    def __init__(self, scores: list[float]) -> None:
        super().__init__(METHODS["ft"].settings_type())
        self.scores = iter(scores)

    def score(self, candidate: Candidate) -> float:
        return next(self.scores)


@pytest.mark.parametrize(
    ("scores", "epoch"), [([0.1, 0.9, 0.3], 2), ([0.5, 0.5, 0.5], 1), ([0.1, 0.4, 0.4], 2)]
)
def test_the_best_epoch_is_kept_and_ties_go_to_the_earliest(scores: list[float], epoch: int) -> None:
    given = task()
    at_the_end: dict[int, dict[str, torch.Tensor]] = {}

    def observe(model: nn.Module, number: int, batch: int) -> None:
        at_the_end[number] = {key: value.clone() for key, value in model.state_dict().items()}

    chosen = Scripted(scores).personalize(given, observe)
    assert chosen.selected_epoch == epoch
    assert all(torch.equal(value, at_the_end[epoch][key]) for key, value in chosen.state.items())
    model = copy.deepcopy(given.global_model)
    load_state(model, chosen.state)
    assert chosen.val_acc == evaluate(model, given.val.x, given.val.y).accuracy


def test_observing_does_not_change_the_result() -> None:
    given = task()
    quiet = make("ours").personalize(given).state
    watched = make("ours").personalize(given, lambda model, epoch, batch: model.eval()).state
    assert all(torch.equal(quiet[key], watched[key]) for key in quiet)


def test_the_reference_is_of_the_frozen_global_model() -> None:
    given = task()
    model = given.global_model.eval()
    reference = given.adversarial
    expected = Attack("linf", 0.05)(model, given.train.x, given.train.y)
    torch.testing.assert_close(reference.train_x, expected, rtol=0.0, atol=0.0)
    torch.testing.assert_close(reference.train_z, model(expected).softmax(dim=1))
    assert reference.global_val_accuracy == evaluate(model, reference.val.x, given.val.y).accuracy
