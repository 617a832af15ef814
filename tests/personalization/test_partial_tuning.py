"""Head-only and BatchNorm-only fine-tuning leave the rest of the network alone."""

from __future__ import annotations

import pytest
import torch
from client_views import batch_of, make, view
from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.last_layer import last_layer
from fedml_spurious.learning.models import build_model


def changed(name: str, mode: str) -> set[str]:
    given = view(mode=mode)
    state = make(name).personalize(given).state
    before = given.global_model.state_dict()
    return {key for key in before if not torch.equal(state[key], before[key])}


@pytest.mark.parametrize("mode", ["frozen", "batch"])
def test_head_changes_the_last_layer_alone_and_no_running_statistic(mode: str) -> None:
    assert changed("head", mode) == {"4.weight", "4.bias"}


@pytest.mark.parametrize(
    ("mode", "keys"),
    [
        ("frozen", ("weight", "bias")),
        ("batch", ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")),
    ],
)
def test_bn_changes_batchnorm_alone_and_its_statistics_where_they_are_not_frozen(
    mode: str, keys: tuple[str, ...]
) -> None:
    assert changed("bn", mode) == {f"1.{key}" for key in keys}


@pytest.mark.parametrize(("name", "size"), [("cnn_28x28", 28), ("cnn_64x64", 64)])
def test_the_head_of_the_paper_s_networks_is_their_classifier(name: str, size: int) -> None:
    model = build_model(name, num_classes=4, image_shape=(size, size, 3), fc_width=8, seed=0)
    assert last_layer(model, torch.rand(2, 3, size, size)) == "classifier"


def test_bn_is_not_applicable_to_a_network_without_batchnorm() -> None:
    given = view(model=nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
    assert make("bn").not_applicable(given) == "the network has no BatchNorm weights"
    with pytest.raises(ValueError, match="bn is not applicable"):
        make("bn").personalize(given)


def test_head_trains_on_the_features_of_the_global_model_in_eval_mode() -> None:
    """The first loss is the cross-entropy of the global model in eval mode."""
    given = view()
    actual = make("head").loss(given.global_model.train(), batch_of(given))
    logits = given.global_model.eval()(given.train.x)
    torch.testing.assert_close(actual, nn.functional.cross_entropy(logits, given.train.y))


class Registered(nn.Module):
    """A network whose layers are registered in another order than a pass meets them."""

    def __init__(self, *, scaled: bool = False, skip: bool = False, last_norm: bool = False) -> None:
        super().__init__()
        self.classifier = nn.Linear(64, 3)
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.skip = nn.Linear(108, 3) if skip else None
        self.norm = nn.BatchNorm1d(3) if last_norm else None
        self.scale = nn.Parameter(torch.ones(())) if scaled else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(self.bn(self.conv(x)).relu().flatten(1)) / 2
        if self.skip is not None:
            logits = self.skip(x.flatten(1)) + logits
        if self.norm is not None:
            logits = self.norm(logits)
        return logits if self.scale is None else logits * self.scale


def test_the_head_is_found_by_what_it_does_and_not_where_it_is_registered() -> None:
    model = Registered().train()
    model.conv.requires_grad_(False)
    assert last_layer(model, torch.rand(2, 3, 6, 6)) == "classifier"
    assert model.training
    assert model.classifier.weight.requires_grad
    assert not model.conv.weight.requires_grad
    assert torch.equal(model.bn.running_mean, torch.zeros(4))
    given = view(model=model)
    state, before = make("head").personalize(given).state, model.state_dict()
    changed_keys = {key for key in before if not torch.equal(state[key], before[key])}
    assert changed_keys == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.LayerNorm(3), nn.GroupNorm(1, 3)])
def test_a_normalisation_is_no_head(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), norm)
    with pytest.raises(InputError, match="2, the last one that a pass meets, normalises"):
        last_layer(model, torch.rand(2, 3, 2, 2))


def test_looking_for_the_head_draws_nothing_that_others_draw() -> None:
    class Noisy(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x + 1e-3 * torch.rand_like(x))

    model, before = Noisy(nn.Flatten(), nn.Linear(12, 3)), torch.get_rng_state()
    assert last_layer(model, torch.zeros(2, 3, 2, 2)) == "1"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"skip": True}, "the logits depend on more than skip"),
        ({"scaled": True}, "the network itself has weights beside those of its layers"),
        ({"last_norm": True}, "norm, the last one that a pass meets, normalises"),
    ],
)
def test_where_the_head_is_not_clear_it_has_to_be_named(options: dict[str, bool], reason: str) -> None:
    given = view(model=Registered(**options))
    with pytest.raises(InputError, match=reason):
        make("head").check_network(given.global_model, given.train.x[:2])
    with pytest.raises(InputError, match=r"Name the one that trains; there are .*classifier, conv, bn"):
        make("head").personalize(given)
    state, before = make("head", layer="classifier").personalize(given).state, given.global_model.state_dict()
    changed_keys = {key for key in before if not torch.equal(state[key], before[key])}
    assert changed_keys == {"classifier.weight", "classifier.bias"}


def test_a_layer_that_is_not_there_or_frozen_is_refused() -> None:
    model, images = Registered(), torch.rand(2, 3, 6, 6)
    with pytest.raises(InputError, match="no layer 'fc'; it has classifier, conv, bn"):
        make("head", layer="fc").check_network(model, images)
    model.classifier.requires_grad_(False)
    with pytest.raises(InputError, match="layer 'classifier' has nothing to train"):
        make("head").check_network(model, images)


@pytest.mark.parametrize("frozen", [("weight",), ("weight", "bias")])
def test_batchnorm_weights_that_a_user_froze_stay_frozen(frozen: tuple[str, ...]) -> None:
    model = Registered()
    for name in frozen:
        getattr(model.bn, name).requires_grad_(False)
    given = view(model=model)
    if len(frozen) == 2:
        assert make("bn").not_applicable(given) == "the network's BatchNorm weights are frozen"
        return
    state, before = make("bn").personalize(given).state, given.global_model.state_dict()
    assert {key for key in before if not torch.equal(state[key], before[key])} == {"bn.bias"}
