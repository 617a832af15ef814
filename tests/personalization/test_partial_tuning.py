"""Head-only and BatchNorm-only fine-tuning leave the rest of the network alone."""

from __future__ import annotations

import pytest
import torch
from client_views import batch_of, make, view
from torch import nn

from fedml_spurious.learning.models import build_model
from fedml_spurious.personalization.partial_tuning import last_layer


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
    assert last_layer(model) is model.classifier


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
