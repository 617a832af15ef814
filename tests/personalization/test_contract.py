"""One contract for all methods, and the oracles of ours and its ablations."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from client_views import batch_of, make, view
from torch import nn

from fedml_spurious.config.sections import ExperimentArgs
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.losses import adversarial_disagreement
from fedml_spurious.learning.metrics import Evaluation, evaluate
from fedml_spurious.learning.modes import batchnorm_to_eval_mode
from fedml_spurious.learning.state_dicts import load_state
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import AdversarialReference, Candidate, ClientView, Personalizer
from fedml_spurious.personalization.options import BUILT_IN
from fedml_spurious.results.method_names import SELECTED_BY

ALL = sorted(METHODS)
TABLE = ("global", "ft", "ditto", "uw", "jtt", "adv", "l2", "ours")
MODES = ("frozen", "batch")
EXTRAS = ("head", "bn", "group_dro", "grad_align", "local")


def test_the_default_is_the_table_of_the_paper_and_the_extras_are_opt_in() -> None:
    assert ExperimentArgs().methods == TABLE
    assert ("global", *METHODS) == TABLE + EXTRAS
    assert tuple(SELECTED_BY) == tuple(METHODS)


@pytest.mark.parametrize("name", ALL)
def test_what_a_configuration_knows_of_a_method_is_what_its_class_says(name: str) -> None:
    known, method = BUILT_IN[name], METHODS[name]
    assert (method.name, method.settings_type, method.tuning_rule) == (
        name,
        known.settings_type,
        known.tuning_rule,
    )


def test_a_method_is_given_no_test_set() -> None:
    """Every tensor of a task is of the training or the validation split, or an attack on one of them."""
    assert {field.name for field in fields(ClientView)} == {
        "client", "fl_seed", "p_seed", "train", "aligned", "val", "adversarial", "global_model", "training",
        "initial", "selection_ties",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_the_global_model_and_the_data_are_left_untouched(name: str) -> None:
    given = view()
    before = copy.deepcopy(given)
    make(name).personalize(given)
    for key, value in given.global_model.state_dict().items():
        assert torch.equal(value, before.global_model.state_dict()[key]), key
    for parameter in given.global_model.parameters():
        assert parameter.requires_grad
        assert parameter.grad is None
    assert torch.equal(given.train.x, before.train.x)
    assert torch.equal(given.train.y, before.train.y)
    assert torch.equal(given.aligned, before.aligned)
    assert torch.equal(given.adversarial.train_x, before.adversarial.train_x)
    assert given.global_model.training == before.global_model.training


FROM_SCRATCH = {"local"}  # by definition it never sees the global model; see test_local_training.py


@pytest.mark.parametrize("name", sorted(set(ALL) - FROM_SCRATCH))
def test_it_starts_at_the_global_model(name: str) -> None:
    given = view()
    starts: list[bool] = []

    def observe(model: nn.Module, epoch: int, batch: int) -> None:
        if batch == 0:
            weights = given.global_model.state_dict()
            starts.append(all(torch.equal(value, weights[key]) for key, value in model.state_dict().items()))

    make(name).personalize(given, observe)
    assert starts
    assert all(starts)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_model_and_another_seed_another(name: str, mode: str) -> None:
    first, again = (make(name).personalize(view(mode=mode)).state for _ in range(2))
    other = make(name).personalize(view(p_seed=1, mode=mode)).state
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ALL)
def test_one_object_serves_client_after_client(name: str) -> None:
    method = make(name)
    method.personalize(view(client=1))
    again, expected = method.personalize(view()).state, make(name).personalize(view()).state
    assert all(torch.equal(again[key], expected[key]) for key in expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("count", "classes"), [(2, 2), (2, 1), (8, 1), (9, 3)])
def test_small_and_one_sided_clients_work(name: str, mode: str, count: int, classes: int) -> None:
    """9 samples leave a single one for the second batch; one of each client is bias-conflicting."""
    given = view(count, classes=classes, conflicting=1, mode=mode)
    assert not make(name).not_applicable(given)
    state = make(name).personalize(given).state
    assert all(torch.isfinite(value).all() for value in state.values())


NEED_CONFLICTING = {"uw", "jtt", "group_dro"}
NEED_ALIGNED = {"uw", "group_dro"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("conflicting", "missing", "methods"),
    [(0, "bias-conflicting", NEED_CONFLICTING), (8, "bias-aligned", NEED_ALIGNED)],
)
def test_it_is_not_applicable_where_it_must_be_and_never_plain_fine_tuning(
    name: str, conflicting: int, missing: str, methods: set[str]
) -> None:
    given = view(8, conflicting=conflicting)
    reason = make(name).not_applicable(given)
    if name not in methods:
        assert not reason
        return
    assert reason == f"no {missing} training sample"
    with pytest.raises(ValueError, match=f"client 0: {name} is not applicable: {reason}"):
        make(name).personalize(given)


@pytest.mark.parametrize("name", ALL)
def test_the_global_generators_are_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    make(name).personalize(view())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ditto", {"lam": 0.0}),
        ("adv", {"lam_adv": 0.0}),
        ("l2", {"lam_l2": 0.0}),
        ("ours", {"lam_adv": 0.0, "lam_l2": 0.0}),
        ("grad_align", {"lam": 0.0}),
    ],
)
def test_without_its_terms_a_method_is_fine_tuning_bit_for_bit(name: str, options: dict[str, float]) -> None:
    given = view(epochs=1)  # one candidate, so that the score cannot differ
    expected = make("ft").personalize(given).state
    actual = make(name, **options).personalize(given).state
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


@pytest.mark.parametrize("mode", MODES)
def test_the_objective_is_the_sum_of_its_terms(mode: str) -> None:
    """CE + lam_adv * BCE + lam_l2 * ||w_g - w_p||^2, every term computed apart, in double precision."""
    given = view()
    model = copy.deepcopy(given.global_model).double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    if mode == "frozen":
        model.eval()
    batch = batch_of(given)
    batch = replace(
        batch,
        x=batch.x.double(),
        w_g=tuple(w.double() for w in batch.w_g),
        adversarial=SimpleNamespace(train_x=batch.x_adv.double(), train_z=batch.z_g.double()),
    )
    # Under batch statistics those of both sets of images together: the same model may not see one alone.
    logits = copy.deepcopy(model)(torch.cat([batch.x, batch.x_adv]))
    cross_entropy = nn.functional.cross_entropy(logits[:20], batch.y)
    probabilities = logits[20:].softmax(dim=1)
    disagreement = nn.functional.binary_cross_entropy(probabilities, batch.z_g, reduction="sum") / len(
        batch.y
    )
    distance = sum(((v - w) ** 2).sum() for v, w in zip(model.parameters(), batch.w_g, strict=True))
    expected = cross_entropy + 0.7 * disagreement + 0.3 * distance
    actual = make("ours", lam_adv=0.7, lam_l2=0.3).loss(model, batch)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def adversarial_gradient(model: nn.Module, given: ClientView) -> float:
    """Norm of the adversarial term's gradient in all weights: of the whole loss minus the cross-entropy."""
    gradients = []
    for lam in (1.0, 0.0):
        trained = copy.deepcopy(model)
        make("adv", lam_adv=lam).loss(trained, batch_of(given)).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in trained.parameters()]))
    return float((gradients[0] - gradients[1]).norm())


def test_under_frozen_the_adversarial_term_is_flat_at_the_global_model() -> None:
    """(z_p - z_g) / (z_p (1 - z_p)) vanishes where z_p = z_g; under batch statistics z_p is not z_g there."""
    given = view()
    model = copy.deepcopy(given.global_model)
    assert adversarial_gradient(model.train(), given) > 0.01
    batchnorm_to_eval_mode(model)
    assert adversarial_gradient(model, given) < 1e-6
    with torch.no_grad():
        model[4].weight.mul_(1.5)
    assert adversarial_gradient(model, given) > 0.01  # and it is not flat everywhere


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
MOVES_STATISTICS = {"frozen": {"local"}, "batch": set(ALL) - {"head"}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALL)
def test_statistics_stay_the_global_ones_to_the_bit_where_they_are_frozen(name: str, mode: str) -> None:
    given = view(mode=mode)
    before, after = given.global_model.state_dict(), make(name).personalize(given).state
    same = [torch.equal(after[f"1.{key}"], before[f"1.{key}"]) for key in STATISTICS]
    assert same == [name not in MOVES_STATISTICS[mode]] * len(STATISTICS)
    if name != "head":
        assert not torch.equal(after["1.weight"], before["1.weight"])


@pytest.mark.parametrize("name", sorted(set(ALL) - {"bn", "local"}))
def test_a_network_without_batchnorm_is_the_same_in_both_modes(name: str) -> None:
    states = []
    for mode in MODES:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.Tanh(), nn.Linear(8, 3))
        states.append(make(name).personalize(view(model=model, mode=mode)).state)
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", ["adv", "ours"])
def test_the_adversarial_term_keeps_predictions_on_x_adv_near_the_global_ones(name: str) -> None:
    given = view(rate=0.02)

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
    given = view()

    def distance(state: dict[str, torch.Tensor]) -> float:
        return sum(
            float((state[key] - value.detach()).square().sum())
            for key, value in given.global_model.named_parameters()
        )

    options = {"lam_l2": 10.0} | ({"lam_adv": 0.0} if name == "ours" else {})
    assert distance(make(name, **options).personalize(given).state) < 0.25 * distance(
        make("ft").personalize(given).state
    )


def counted(val: Evaluation, val_adv: Evaluation, global_val_adv: float) -> Any:
    """A candidate whose counts are known."""
    return SimpleNamespace(val=val, val_adv=val_adv, global_val_adv_accuracy=global_val_adv)


@pytest.mark.parametrize(
    ("val", "val_adv", "global_adv", "expected"),
    [(8, 6, 0.4, 0.8 - 0.2), (8, 3, 0.4, 0.8), (10, 10, 0.1, 1.0 - 0.9)],
)
def test_ours_selects_by_accuracy_minus_lost_transferability(
    val: int, val_adv: int, global_adv: float, expected: float
) -> None:
    """Readings 6: validation accuracy minus what Acc_Adv of the personal model has over the global one's."""
    candidate = counted(Evaluation(10, val, 0.0), Evaluation(10, val_adv, 0.0), global_adv)
    assert make("ours").score(candidate) == pytest.approx(expected)
    for name in set(METHODS) - {"ours"}:
        assert make(name).score(candidate) == pytest.approx(val / 10)


@pytest.mark.parametrize("count", [7, 10, 20, 280])
def test_epochs_that_tie_have_equal_scores(count: int) -> None:
    """One more right and one more transfer lost: the same score, to the last bit."""
    for global_correct in range(1, count - 1):
        adv = global_correct / count
        scores = {
            make("ours").score(
                counted(
                    Evaluation(count, count - 2 + more, 0.0),
                    Evaluation(count, global_correct + more, 0.0),
                    adv,
                )
            )
            for more in (0, 1)
        }
        assert scores == {(count - 2) / count}


class Scripted(Personalizer[Any]):
    """Gives the epochs scores from a list."""

    name = "scripted"

    def __init__(self, scores: list[float]) -> None:
        super().__init__(METHODS["ft"].settings_type())
        self.scores = iter(scores)

    def score(self, candidate: Candidate) -> float:
        return next(self.scores)


@pytest.mark.parametrize(
    ("scores", "ties", "epoch"),
    [
        ([0.1, 0.9, 0.3], "latest", 2),
        ([0.5, 0.5, 0.5], "latest", 3),
        ([0.4, 0.4, 0.1], "latest", 2),
        ([0.5, 0.5, 0.5], "earliest", 1),
        ([0.1, 0.4, 0.4], "earliest", 2),
        ([0.1, 0.4, 0.5], "earliest", 3),
        ([-0.2, -0.1, -0.3], "latest", 2),  # lost transferability may outweigh the accuracy
    ],
)
def test_the_best_epoch_is_kept_and_the_last_one_with_it(scores: list[float], ties: Any, epoch: int) -> None:
    given = replace(view(), selection_ties=ties)
    at_the_end: dict[int, dict[str, torch.Tensor]] = {}

    def observe(model: nn.Module, number: int, batch: int) -> None:
        at_the_end[number] = {key: value.clone() for key, value in model.state_dict().items()}

    chosen = Scripted(scores).personalize(given, observe)
    assert (chosen.last is None) == (epoch == 3)
    for found, number in ((chosen, epoch), (chosen.last or chosen, 3)):
        assert found.selected_epoch == number
        assert all(torch.equal(value, at_the_end[number][key]) for key, value in found.state.items())
        model = copy.deepcopy(given.global_model)
        load_state(model, found.state)
        assert found.val_acc == evaluate(model, given.val.x, given.val.y).accuracy


def test_observing_does_not_change_the_result() -> None:
    given = view()
    quiet = make("ours").personalize(given).state
    watched = make("ours").personalize(given, lambda model, epoch, batch: model.eval()).state
    assert all(torch.equal(quiet[key], watched[key]) for key in quiet)


def test_the_reference_is_of_the_frozen_global_model() -> None:
    given = view()
    model = given.global_model.eval()
    reference = given.adversarial
    expected = Attack("linf", 0.05)(model, given.train.x, given.train.y)
    torch.testing.assert_close(reference.train_x, expected, rtol=0.0, atol=0.0)
    torch.testing.assert_close(reference.train_z, model(expected).softmax(dim=1))
    attacked = Attack("linf", 0.05)(model, given.val.x, given.val.y)
    assert torch.equal(reference.val.x, attacked)
    assert torch.equal(reference.val.y, given.val.y)
    assert reference.global_val_accuracy == evaluate(model, attacked, given.val.y).accuracy


def test_a_candidate_is_measured_on_the_validation_split_and_on_its_adversarial_examples() -> None:
    given = view()
    other = make("ft").personalize(given).state
    model = copy.deepcopy(given.global_model)
    load_state(model, other)
    found = Candidate(model, given.val, given.adversarial)
    attacked = Attack("linf", 0.05)(given.global_model, given.val.x, given.val.y)
    assert found.val == evaluate(model, given.val.x, given.val.y)
    assert found.val_adv == evaluate(model, attacked, given.val.y)
    assert found.val.loss_sum < found.val_adv.loss_sum
    assert found.global_val_adv_accuracy == evaluate(given.global_model, attacked, given.val.y).accuracy


NEED_ADVERSARIAL = {"adv": {"train"}, "ours": {"train", "val"}}


@pytest.mark.parametrize("name", ALL)
def test_only_what_a_method_reads_is_attacked_and_once(name: str) -> None:
    given, attacked = view(), []

    def attack(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        attacked.append("train" if x is given.train.x else "val" if x is given.val.x else "else")
        return x.clone()

    reference = AdversarialReference(given.global_model, given.train, given.val, attack)
    for p_seed in range(2):
        make(name).personalize(replace(given, adversarial=reference, p_seed=p_seed))
    assert sorted(attacked) == sorted(NEED_ADVERSARIAL.get(name, set()))
