"""State dictionaries that are copied, loaded and compared."""

from __future__ import annotations

import pytest
import torch
from networks import trained

from fedml_spurious.learning.state_dicts import copy_state, load_state, state_mismatch


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


def test_another_architecture_is_named() -> None:
    net = trained(0, batches=1)
    state = copy_state(net)
    state["0.weight"] = torch.zeros(2, 3, 4, 4)
    state["extra"] = state.pop("0.bias")
    problems = state_mismatch(net, state)
    assert "0.bias is missing" in problems
    assert "extra is not known" in problems
    assert "expected (2, 3, 2, 2)" in problems
    with pytest.raises(ValueError, match="another architecture"):
        load_state(net, state)
