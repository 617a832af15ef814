"""What a training step and a measurement ask of the device: on a GPU each answer would make the host wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from client_views import make, network, samples, view
from torch.utils._python_dispatch import TorchDispatchMode

from fedml_spurious.learning import metrics
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.personalization import METHODS

# What gives a number, or a shape that depends on numbers, to the host.
ASKING = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "unique"}
# Leaves out samples whose gradient has no direction.
NEEDS = {"grad_align": {"nonzero"}}


class Asked(TorchDispatchMode):
    """Counts the operators that give something to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        bools = [index for index in (args[1] if name == "index" else ()) if index is not None]
        if name in ASKING or any(index.dtype == torch.bool for index in bools):
            self.count["nonzero" if name == "index" else name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_training_step_asks_the_device_for_nothing_but_what_the_method_needs(
    name: str,
) -> None:
    method, counts = make(name), []

    def observe(model: torch.nn.Module, epoch: int, batch: int) -> None:
        counts.append(Counter(asked.count))

    with Asked() as asked:
        method.personalize(view(epochs=1), observe)
    steps = [dict(after - before) for before, after in pairwise(counts[1:-1])]
    assert steps  # the first makes the adversarial examples, the last is followed by a measurement
    for step in steps:
        assert step.keys() == NEEDS.get(name, set())


def test_a_measurement_brings_all_its_numbers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "EVALUATION_BATCH", 7)
    model, data = network(), samples(20, seed=3)
    lists, tolist = [], torch.Tensor.tolist

    def spy(tensor: torch.Tensor) -> Any:
        lists.append(tensor.shape)
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", spy)
    with Asked() as asked:
        found = evaluate(model, data.x, data.y)
    assert not asked.count
    assert lists == [(3, 3)]
    logits = model.eval()(data.x)
    assert found.correct == int((logits.argmax(dim=1) == data.y).sum())
    assert found.loss_sum == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, data.y, reduction="sum")), rel=1e-5
    )
    assert found.count == 20
