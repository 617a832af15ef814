"""What travels: nothing is lost, and nothing else can come in."""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedml_spurious.common.travelling import travelling_types
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import Personalize
from fedml_spurious.fedml_adapter.processes.packing import pack, unpack
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


def through_bytes(content: Any) -> Any:
    return unpack(pack({"content": content}))["content"]


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
        arrived = sum_from_plain(through_bytes(sum_to_plain(partial)))
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
    assert from_plain(through_bytes(plain)) == task
    with pytest.raises(ValueError, match="'Path', which is not known here"):
        from_plain({"@type": "Path"})
    with pytest.raises(TypeError, match="set cannot travel"):
        to_plain({1, 2})


def test_numbers_of_numpy_travel_as_numbers() -> None:
    """A method of a user may answer with a mean that NumPy made, which is a float and yet an object."""
    answer = through_bytes(
        to_plain({"val_acc": np.mean([0.25, 0.5]), "count": np.int64(3), "ok": np.bool_(1)})
    )
    assert answer == {"val_acc": 0.375, "count": 3, "ok": True}
    assert [type(value) for value in answer.values()] == [float, int, bool]


def test_every_kind_of_task_is_known_to_the_equality_of_processes() -> None:
    """Whoever adds a task adds it to ``test_equality.py``; all that a run does is imported with it."""
    import_module("fedml_spurious.experiment.run")
    import_module("fedml_spurious.audit.tasks")  # whose tasks are in test_audit.py
    kinds = {
        name
        for name, item in travelling_types().items()
        if item.__module__.startswith("fedml_spurious.") and hasattr(item, "run")
    }
    assert kinds == {
        "BatchNormSums", "ClientDirections", "CountFooled", "MeasureGlobal", "Personalize", "RecordClient",
        "AuditClient", "CountAtPeer", "FindModels",
    }  # fmt: skip


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["b1", "i1", "i8", "u2", "u8", "f2", "f4", ">f8"]).flatmap(
        lambda name: arrays(name, array_shapes(min_dims=0, min_side=0, max_side=3))
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)  # fmt: skip


def require_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected, strict=expected.dtype.isnative)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, item in expected.items():
            require_equal(found[key], item)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            require_equal(one, other)
    else:
        assert (type(found), found) == (type(expected), expected)


@settings(max_examples=150, deadline=None)
@given(content=PLAIN)
def test_plain_data_arrives_as_it_was(content: Any) -> None:
    require_equal(through_bytes(content), content)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    "content",
    [
        Evil(), {1, 2}, object, print, np.array([Evil()]), np.array(["text"]), np.array([1j]),
        np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(1, dtype=[("a", "f4")]), np.zeros(1, np.longdouble),
    ],
)  # fmt: skip
def test_nothing_but_data_can_be_sent(content: Any) -> None:
    with pytest.raises(TypeError, match="cannot travel"):
        pack({"content": content})


def packed_array(name: Any, shape: Any, values: bytes) -> bytes:
    head = msgpack.packb([name, shape])
    return msgpack.packb({"content": msgpack.ExtType(1, bytes([len(head)]) + head + values)})


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"rubbish",
        b"\x93" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        pickle.dumps({"a": 1}),
        pickle.dumps(Evil()),
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": msgpack.ExtType(9, b"")}),
        msgpack.packb({"a": msgpack.ExtType(1, b"")}),
        msgpack.packb({"a": msgpack.ExtType(2, b"1" * 5000)}),
        packed_array("|O", [1], b"A" * 8),
        packed_array("<f8", [2**62, 2**62], b""),
        packed_array("<f8", [0, 2**63], b""),
        packed_array("<f8", [-1], b"A" * 8),
        packed_array("<f8", [2], b"A" * 8),
        packed_array("<f8", 1, b"A" * 8),
        packed_array("<f8", ["1"], b"A" * 8),
        packed_array("<M8[s]", [1], b"A" * 8),
        packed_array([1], [1], b"A"),
        packed_array("<f8", [1] * 40, b"A" * 8),
    ],
)
def test_bytes_that_are_no_message_are_an_error_and_nothing_else(packed: bytes) -> None:
    """Also the array of objects whose pointers the sender chose, which ended rank 0 with SIGSEGV."""
    with pytest.raises(ValueError, match="no message"):
        unpack(packed)


def test_the_digest_tells_weights_apart() -> None:
    (state,) = states(1)
    copy = {name: value.clone() for name, value in state.items()}
    assert digest(copy) == digest(state)
    copy["w"][7, 2] = torch.nextafter(copy["w"][7, 2], torch.tensor(1e9))
    assert digest(copy) != digest(state)
    assert digest({"w": state["w"].view(4, 50), "n": state["n"]}) != digest(state)
