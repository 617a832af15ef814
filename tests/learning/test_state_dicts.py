"""State dictionaries that are copied, loaded and compared."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch
from networks import trained
from torch import Tensor, nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.checkpoints import require_state
from fedml_spurious.learning.state_dicts import copy_model, copy_state, load_state, state_mismatch
from fedml_spurious.learning.weighted_sum import WeightedSum, average


def test_float_counters_from_fedml_become_integers_again() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    state["1.num_batches_tracked"] = torch.tensor(79.99999)
    load_state(net, state)
    assert net.state_dict()["1.num_batches_tracked"].dtype == torch.int64
    assert net.state_dict()["1.num_batches_tracked"].item() == 80


def test_a_copied_state_does_not_follow_the_model() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    with torch.no_grad():
        net[0].weight.add_(1.0)
    assert not torch.equal(state["0.weight"], net[0].weight)


def test_a_copied_model_shares_with_the_model_what_a_deep_copy_shares_and_no_more() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.register_buffer("seen", torch.zeros(2))
            self.notes: dict[str, int] = {}
            self.same_notes = self.notes
            self.kept: list[set[int]] = [set()]
            self.counts = Counter[str]()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    model = Own()
    model.first.register_forward_hook(lambda module, x, y: y + 1)
    model.first.bias.requires_grad_(False)
    model.second.eval()
    copied, expected = copy_model(model), copy.deepcopy(model)
    x = torch.ones(2, 3)
    assert torch.equal(copied(x), expected(x))
    assert torch.equal(copied(x), model(x))
    assert copied.second.weight is copied.first.weight
    assert copied.same_notes is copied.notes
    assert type(copied.counts) is Counter
    for mine, its in zip(copied.modules(), expected.modules(), strict=True):
        assert vars(mine).keys() == vars(its).keys()
        assert {name: type(value) for name, value in vars(mine).items()} == {
            name: type(value) for name, value in vars(its).items()
        }
        assert mine.training == its.training
    assert [parameter.requires_grad for parameter in copied.parameters()] == [True, False, True]
    # Whatever happens to the copy, the model does not notice.
    before = model(x)
    copied.notes["a"] = copied.counts["b"] = 1
    copied.kept[0].add(1)
    copied.second.register_forward_hook(lambda module, x, y: y * 2)
    copied.second.register_forward_pre_hook(lambda module, x: (x[0] * 2,))
    copied.register_buffer("late", torch.zeros(1), persistent=False)
    with torch.no_grad():
        copied.first.weight.zero_()
        copied.seen += 1
    assert torch.equal(model(x), before)
    assert not model.notes
    assert not model.counts
    assert model.kept == [set()]
    assert not model.seen.any()
    assert "late" not in dict(model.named_buffers())
    assert not model._non_persistent_buffers_set


def test_another_architecture_is_named() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    state["0.weight"] = torch.zeros(2, 3, 4, 4)
    state["extra"] = state.pop("0.bias")
    problems = state_mismatch(net, state)
    assert "0.bias is missing" in problems
    assert "extra is not known" in problems
    assert "expected (2, 3, 2, 2)" in problems
    assert " more" not in problems
    with pytest.raises(ValueError, match="another architecture"):
        load_state(net, state)
    del state["0.weight"], state["1.weight"]
    assert (
        state_mismatch(net, state) == "0.weight is missing; 0.bias is missing; 1.weight is missing and 1 more"
    )


def test_stored_weights_of_another_type_are_refused() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    require_state(net, state, Path("model.pt"))
    state["0.weight"] = state["0.weight"].double()
    with pytest.raises(
        InputError, match=r"0\.weight is torch\.float64, expected torch\.float32\. Use the model_arg"
    ):
        require_state(net, state, Path("model.pt"))


def test_a_compiled_network_stores_the_names_of_the_plain_one() -> None:
    plain = trained(0, batches=1)
    inner = nn.Sequential(torch.compile(copy.deepcopy(plain[:2]), backend="eager"), plain[2], plain[3])
    outer = torch.compile(copy.deepcopy(plain), backend="eager")
    assert list(copy_state(outer)) == list(plain.state_dict())
    assert not any("_orig_mod" in name for name in copy_state(inner))
    other = trained(1, batches=1)
    load_state(other, outer.state_dict())  # with the names of older files
    load_state(outer, other.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
        assert torch.equal(copy_state(outer)[name], value)


def test_buffers_of_every_type_are_averaged_and_loaded() -> None:
    """Flags and counters: the largest; complex numbers by their parts, here (1 + 3 * 3) / 4 and so on."""
    kinds = {"flag": torch.bool, "small": torch.uint8, "brief": torch.bfloat16, "wave": torch.complex64}

    def net(values: dict[str, list[complex]]) -> nn.Module:
        module = nn.Module()
        for name, kind in kinds.items():
            module.register_buffer(name, torch.tensor(values[name], dtype=kind))
        return module

    first = net({"flag": [0, 0, 1], "small": [3, 250, 0], "brief": [1, 2, 3], "wave": [1 + 2j, 0, 1j]})
    second = net({"flag": [0, 1, 1], "small": [9, 1, 0], "brief": [3, 6, 3], "wave": [3 - 2j, 4, 1j]})
    expected = {"flag": [0, 1, 1], "small": [9, 250, 0], "brief": [2.5, 5, 3], "wave": [2.5 - 1j, 3, 1j]}
    parts = WeightedSum(), WeightedSum()
    parts[0].add(1, copy_state(first))
    parts[1].add(3, copy_state(second))
    parts[0].merge(parts[1])
    for mean in (parts[0].mean(), average([(1, copy_state(first)), (3, copy_state(second))])):
        load_state(first, mean)
        for name, kind in kinds.items():
            assert mean[name].dtype == kind
            assert torch.equal(first.get_buffer(name), torch.tensor(expected[name], dtype=kind))
