"""What travels: nothing is lost, and nothing else can come in."""

from __future__ import annotations

import io
import pickle
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from fedml.core.distributed.communication.message import Message

from fedml_spurious.common.travelling import travelling_types
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import Personalize
from fedml_spurious.fedml_adapter.processes.grpc_transport import _MessageUnpickler
from fedml_spurious.fedml_adapter.processes.wire import (
    digest,
    from_plain,
    sum_from_plain,
    sum_to_plain,
    to_plain,
)
from fedml_spurious.learning.weighted_sum import WeightedSum
from fedml_spurious.personalization import make_method


def states(count: int) -> list[dict[str, torch.Tensor]]:
    """Weights over 40 binary orders of magnitude, so that tails are needed."""
    generator = torch.Generator().manual_seed(3)
    scales = 2.0 ** torch.randint(-20, 20, (count, 50, 4), generator=generator)
    return [
        {"w": torch.randn(50, 4, generator=generator) * scales[index], "n": torch.tensor(index)}
        for index in range(count)
    ]


def through_pickle(content: Any) -> Any:
    message = Message("answer", 1, 0)
    message.add_params("content", content)
    return _MessageUnpickler(io.BytesIO(pickle.dumps(message))).load().get("content")


def test_partial_sums_that_travelled_give_the_same_bits_as_one_sum() -> None:
    clients = list(zip((700, 31, 5, 999_983, 12), states(5), strict=True))
    whole = WeightedSum()
    for count, state in clients:
        whole.add(count, state)
    merged = WeightedSum()
    for share in (clients[3:], clients[:3]):
        partial = WeightedSum()
        for count, state in share:
            partial.add(count, state)
        assert partial.tail["w"].any(), "without tails this test shows nothing"
        arrived = sum_from_plain(through_pickle(sum_to_plain(partial)))
        assert torch.equal(arrived.head["w"], partial.head["w"])
        assert torch.equal(arrived.tail["w"], partial.tail["w"])
        merged.merge(arrived)
    expected, found = whole.mean(), merged.mean()
    assert torch.equal(found["w"], expected["w"])
    assert found["n"] == 4
    assert found["n"].dtype == torch.int64


def test_a_task_travels_as_plain_data() -> None:
    options = make_method("ours", lam_adv=0.1).settings
    task = Personalize(ResultKey("ours", 1, None, "0003", options), 0.031)
    plain = to_plain(task)
    assert isinstance(plain, dict)
    assert from_plain(through_pickle(plain)) == task
    with pytest.raises(ValueError, match="'Path', which is not known here"):
        from_plain({"@type": "Path"})
    with pytest.raises(TypeError, match="set cannot travel"):
        to_plain({1, 2})


def test_numbers_of_numpy_travel_as_numbers() -> None:
    """A method of a user may answer with a mean that NumPy made, which is a float and yet an object."""
    answer = through_pickle(
        to_plain({"val_acc": np.mean([0.25, 0.5]), "count": np.int64(3), "ok": np.bool_(1)})
    )
    assert answer == {"val_acc": 0.375, "count": 3, "ok": True}
    assert [type(value) for value in answer.values()] == [float, int, bool]


def test_every_kind_of_task_is_known_to_the_equality_of_processes() -> None:
    """Whoever adds a task adds it to ``test_equality.py``; all that a run does is imported with it."""
    import_module("fedml_spurious.experiment.run")
    kinds = {
        name
        for name, item in travelling_types().items()
        if item.__module__.startswith("fedml_spurious.") and hasattr(item, "run")
    }
    assert kinds == {"BatchNormSums", "CountFooled", "MeasureGlobal", "Personalize"}


def test_a_message_cannot_run_code() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, ("1 + 1",)

    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.eval"):
        through_pickle({"answer": Evil()})


def test_the_digest_tells_weights_apart() -> None:
    (state,) = states(1)
    copy = {name: value.clone() for name, value in state.items()}
    assert digest(copy) == digest(state)
    copy["w"][7, 2] = torch.nextafter(copy["w"][7, 2], torch.tensor(1e9))
    assert digest(copy) != digest(state)
    assert digest({"w": state["w"].view(4, 50), "n": state["n"]}) != digest(state)
