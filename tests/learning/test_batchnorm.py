"""Exact BatchNorm statistics against torch's own, and the policies against each other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.batchnorm import (
    LayerSums,
    layer_sums,
    layers_in_forward_order,
    pooled,
    recalibrated,
    replace_statistics,
)

SHAPE = (8, 8, 3)


class Backwards(nn.Module):
    """Registers its layers in another order than it calls them, and one that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm1d(5)
        self.unused = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 36, 5)
        self.untracked = nn.BatchNorm2d(4, track_running_stats=False)
        self.first = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.untracked(self.first(self.conv(x)).relu())
        logits: Tensor = self.last(self.linear(hidden.flatten(start_dim=1)))
        return logits


def backwards() -> Backwards:
    """With running statistics that are of no data, scales and shifts that matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Backwards()
        for norm in (model.first, model.last):
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.uniform_(-1, 1)
            norm.running_mean.uniform_(3, 4)  # type: ignore[union-attr]
            norm.running_var.uniform_(5, 6)  # type: ignore[union-attr]
    return model.double()


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return seed + torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64)


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if "running" in name}


def test_layers_come_in_the_order_of_the_forward_pass() -> None:
    model = backwards().train()
    before = copy.deepcopy(model.state_dict())
    assert layers_in_forward_order(model, SHAPE) == ("first", "last")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert layers_in_forward_order(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), SHAPE) == ()


def test_one_layer_gets_what_torch_s_cumulative_average_of_one_full_batch_is() -> None:
    """``momentum=None`` is torch's exact average; one batch of all samples makes it the exact statistics."""
    layer, x = nn.BatchNorm2d(3).double(), images(1500, 2)  # more samples than one evaluation batch
    reference = nn.BatchNorm2d(3, momentum=None).double().train()
    reference(x)
    actual = recalibrated(nn.Sequential(layer), [x])[0]
    torch.testing.assert_close(actual.running_mean, reference.running_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(actual.running_var, reference.running_var, rtol=1e-9, atol=0)
    assert layer.running_mean is not None
    assert torch.equal(layer.running_mean, torch.zeros(3, dtype=torch.float64))


def test_statistics_of_single_precision_are_summed_in_double() -> None:
    """Far from 0 the difference of two sums of squares has no digit left in single precision."""
    x = (images(40, 0) + 300).float()
    actual = recalibrated(nn.Sequential(nn.BatchNorm2d(3)), [x])[0]
    torch.testing.assert_close(actual.running_mean, x.double().mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(actual.running_var, x.double().var(dim=(0, 2, 3)).float(), rtol=1e-5, atol=0)


def test_a_constant_channel_has_no_variance_below_zero() -> None:
    """Sums of a tenth, added one by one: for some counts the rounded difference is below 0."""
    model, below = nn.Sequential(nn.BatchNorm1d(1)).double(), 0
    for count in range(2, 60):
        total, squares = sum([0.1] * count), sum([0.1 * 0.1] * count)
        below += squares - total * (total / count) < 0
        replace_statistics(model, "0", LayerSums(count, (total,), (squares,)))
        assert 0 <= model[0].running_var.item() < 1e-15
    assert below


def test_a_later_layer_sees_the_earlier_ones_replaced_and_in_eval_mode() -> None:
    """Written out: the first layer's statistics, its output by its formula, the second layer's of that."""
    model, x = backwards(), images(40, 1)
    hidden = model.conv(x)
    mean, var = hidden.mean(dim=(0, 2, 3)), hidden.var(dim=(0, 2, 3), unbiased=True)
    shape = (1, 4, 1, 1)
    normal = (hidden - mean.view(shape)) / (var + model.first.eps).sqrt().view(shape)
    active = (normal * model.first.weight.view(shape) + model.first.bias.view(shape)).relu()
    flat = model.linear(model.untracked(active).flatten(start_dim=1))
    actual = recalibrated(model, [x])
    expected = {
        "first.running_mean": mean, "first.running_var": var,
        "last.running_mean": flat.mean(dim=0), "last.running_var": flat.var(dim=0, unbiased=True),
    }  # fmt: skip
    for name, value in expected.items():
        torch.testing.assert_close(actual.state_dict()[name], value, rtol=1e-9, atol=1e-12)
    kept = [name for name in model.state_dict() if name not in expected]
    assert all(torch.equal(actual.state_dict()[name], model.state_dict()[name]) for name in kept)


def test_pooling_sums_is_having_all_samples_in_one_place() -> None:
    model = tracked_chain()
    parts = [images(count, seed) for seed, count in enumerate((3, 40, 17))]
    apart, together = recalibrated(model, parts), recalibrated(model, [torch.cat(parts)])
    for name, value in statistics(together).items():
        torch.testing.assert_close(statistics(apart)[name], value, rtol=1e-9, atol=1e-12)
    different = recalibrated(model, parts[:1])
    assert not torch.allclose(different[1].running_mean, together[1].running_mean, rtol=0.05)


def tracked_chain() -> nn.Sequential:
    """The shape of the paper's networks: two convolutions, each with BatchNorm."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2),
            nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(80, 3),
        ).double()  # fmt: skip


def test_where_all_clients_have_the_same_data_local_is_recalibrate() -> None:
    """Up to the unbiased variance: three copies of n values have 3n / (3n - 1) of it, not n / (n - 1)."""
    model, x = tracked_chain(), images(20, 4)
    local, everybody = recalibrated(model, [x]), recalibrated(model, [x, x, x])
    n = 20 * 36
    expected = local[1].running_var * (n - 1) / n * (3 * n) / (3 * n - 1)
    torch.testing.assert_close(everybody[1].running_var, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(everybody[1].running_mean, local[1].running_mean, rtol=1e-12, atol=0)
    for name, value in statistics(local).items():
        torch.testing.assert_close(statistics(everybody)[name], value, rtol=1 / (20 * 16), atol=1e-9)


def test_running_statistics_never_reach_weights_in_training() -> None:
    """Why a policy about them can wait for the finished global model: the same steps, bit for bit."""
    trained = []
    for start in (tracked_chain(), recalibrated(tracked_chain(), [images(30, 5)])):
        optimizer = torch.optim.Adam(start.train().parameters(), lr=0.01)
        for seed in range(3):
            optimizer.zero_grad()
            logits = start(images(16, seed))
            nn.functional.cross_entropy(logits, torch.arange(16) % 3).backward()
            optimizer.step()
        trained.append(start)
    first, second = ([parameter.detach() for parameter in model.parameters()] for model in trained)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(trained[0][1].running_mean, trained[1][1].running_mean)


def test_the_sums_of_a_layer_are_counted_by_hand() -> None:
    """Two images of one position; channels see 1, 3 and 2, 4."""
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 2, 1, 1)
    sums = layer_sums(nn.Sequential(nn.BatchNorm2d(2)).train(), "0", x)
    assert sums == LayerSums(2, (4.0, 6.0), (10.0, 20.0))
    assert pooled([sums, LayerSums(1, (1.0, -1.0), (1.0, 1.0))]) == LayerSums(3, (5.0, 5.0), (11.0, 21.0))


def test_a_single_value_has_no_variance_and_a_constant_channel_has_zero() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1))
    with pytest.raises(InputError, match=r"layer 0 sees 1 value per channel .* use batchnorm: aggregate"):
        replace_statistics(model, "0", LayerSums(1, (1.0,), (1.0,)))
    x = torch.full((7, 1, 3, 3), 0.1)
    assert recalibrated(model, [x]).state_dict()["0.running_var"].tolist() == [0.0]
