"""Table 6: shapes and sizes computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.models import build_model


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    # A convolution has outputs * (inputs * 4 * 4 + 1), BatchNorm 2 per channel, a layer out * (inputs + 1).
    [
        ("cnn_28x28", 28, 64 * 49 + 128 + 128 * 1025 + 256 + 4096 * (128 * 7 * 7 + 1) + 10 * 4097),
        ("cnn_64x64", 64, 64 * 49 + 128 + 64 * 1025 + 128 + 4096 * (64 * 16 * 16 + 1) + 10 * 4097),
    ],
)
def test_parameters_of_table_6(name: str, side: int, expected: int) -> None:
    model = build_model(name, num_classes=10, image_shape=(side, side, 3), fc_width=4096, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    if name == "cnn_28x28":
        assert round(expected / 1e6, 1) == 25.9


def test_layers_of_table_6_in_order() -> None:
    model = build_model("cnn_64x64", num_classes=2, image_shape=(64, 64, 3), fc_width=16, seed=0)
    kinds = [type(layer) for layer in model.modules() if not list(layer.children())]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert kinds == [*block, *block, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    shapes = []
    for layer in model.features:
        layer.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[1:])))
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    assert shapes[0] == (64, 32, 32)
    assert shapes[3] == (64, 16, 16)


def test_the_network_computes_what_our_reading_of_table_6_says() -> None:
    """Written out: convolutions of stride 2 and padding 1, running statistics, and slopes of 0.2."""
    model = build_model("cnn_28x28", num_classes=3, image_shape=(28, 28, 3), fc_width=8, seed=0).double()
    x = torch.rand(4, 3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model(x)  # the statistics move away from 0 and 1
    model.eval()
    first, norm_1, _, second, norm_2, _, _, hidden, _ = model.features
    value = x
    for conv, norm in ((first, norm_1), (second, norm_2)):
        value = F.conv2d(F.pad(value, (1, 1, 1, 1)), conv.weight, conv.bias, stride=2)
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        value = (value - norm.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1)
        value = value + norm.bias.view(1, -1, 1, 1)
        value = torch.where(value > 0, value, 0.2 * value)
    value = (value.flatten(1) @ hidden.weight.T + hidden.bias).clamp(min=0)
    expected = value @ model.classifier.weight.T + model.classifier.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-12)


def test_initial_weights_are_what_torch_draws_from_the_published_seed() -> None:
    """MODEL_INIT is 1 in every published result; the first layer is torch's own, made first."""
    model = build_model("cnn_28x28", num_classes=3, image_shape=(28, 28, 3), fc_width=8, seed=6)
    drawn = int(np.random.SeedSequence([6, 1]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng():
        torch.manual_seed(drawn)
        expected = nn.Conv2d(3, 64, 4)
    assert torch.equal(model.features[0].weight, expected.weight)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # whatever was drawn before
        model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=seed)
        return next(model.parameters())

    before = torch.get_rng_state()
    build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_training_takes_sixteen_bytes_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of single precision: the weight, its gradient, and the two averages of Adam."""
    weights = 64 * 49 + 128 + 128 * 1025 + 256 + 8 * (128 * 7 * 7 + 1) + 3 * 9
    options = {"num_classes": 3, "image_shape": (28, 28, 3), "fc_width": 8, "seed": 0}
    memory = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 16 * weights}
    monkeypatch.setattr("os.sysconf", memory.__getitem__)
    build_model("cnn_28x28", **options)
    memory["SC_PHYS_PAGES"] -= 1
    with pytest.raises(InputError, match=f"fc_width: 8 makes {weights:,} weights, whose training takes"):
        build_model("cnn_28x28", **options)


def test_wrong_images_are_refused_with_advice() -> None:
    with pytest.raises(InputError, match="use model: cnn_64x64"):
        build_model("cnn_28x28", num_classes=10, image_shape=(64, 64, 3), fc_width=8, seed=0)


def test_a_factory_must_return_a_module() -> None:
    with pytest.raises(InputError, match="returned dict, expected"):
        build_model("builtins:dict", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
