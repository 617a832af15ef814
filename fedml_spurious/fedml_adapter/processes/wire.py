"""What travels between processes: plain data and arrays, never objects of ours.

Dataclasses and settings travel as their fields under their name, tensors as NumPy arrays. What comes in is
made by name from the closed list of types that are registered in :mod:`fedml_spurious.common.travelling`:
tasks, answers and what they are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from fedml_spurious.common.travelling import name_of, travelling_types
from fedml_spurious.learning.state_dicts import State
from fedml_spurious.learning.weighted_sum import WeightedSum

_TYPE, _TUPLE = "@type", "@tuple"


def to_plain(value: Any) -> Any:
    """A task or an answer as lists, dictionaries, numbers, text and arrays.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, np.generic):
        return value.item()  # NumPy's float is a float too, and travels as an object of NumPy's
    if value is None or isinstance(value, (bool, int, float, str, np.ndarray)):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    name = name_of(type(value))
    if name is not None and travelling_types().get(name) is type(value):
        content = dict(value) if isinstance(value, BaseModel) else vars(value)
        return {_TYPE: name, **{item: to_plain(inner) for item, inner in content.items()}}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    raise TypeError(
        f"{type(value).__name__} cannot travel between processes; expected plain data, "
        "tensors, or dataclasses with @travels"
    )


def from_plain(value: Any) -> Any:
    """The task or answer that :func:`to_plain` took apart; arrays become tensors.

    Raises:
        ValueError: it names a type that is not known here.
    """
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TUPLE in value:
        return tuple(from_plain(item) for item in value[_TUPLE])
    content = {key: from_plain(item) for key, item in value.items() if key != _TYPE}
    if _TYPE not in value:
        return content
    kind = travelling_types().get(value[_TYPE])
    if kind is None:
        raise ValueError(f"a message holds a {value[_TYPE]!r}, which is not known here")
    # Settings were checked where they were read.
    return kind.model_construct(**content) if issubclass(kind, BaseModel) else kind(**content)


def sum_to_plain(partial: WeightedSum) -> dict[str, Any]:
    """A partial sum of client models; of the tails, which are nearly all zero, what is not."""
    types = {name: str(kind).removeprefix("torch.") for name, kind in partial.types.items()}
    tail = {name: _sparse(value.view(-1)) for name, value in partial.tail.items()}
    return {"count": partial.count, "head": to_plain(partial.head), "tail": tail, "types": types}


def _sparse(values: Tensor) -> dict[str, Any]:
    places = values.nonzero().view(-1)
    return {"places": to_plain(places), "values": to_plain(values[places])}


def sum_from_plain(content: Mapping[str, Any]) -> WeightedSum:
    """The partial sum that :func:`sum_to_plain` took apart."""
    partial = WeightedSum()
    partial.count = content["count"]
    partial.head = from_plain(content["head"])
    for name, sparse in from_plain(content["tail"]).items():
        partial.tail[name] = torch.zeros_like(partial.head[name])
        partial.tail[name].view(-1)[sparse["places"]] = sparse["values"]
    partial.types = {name: getattr(torch, kind) for name, kind in content["types"].items()}
    return partial


def digest(state: State) -> str:
    """SHA-256 of weights: the same digest means the same weights, which need not travel again."""
    sha = hashlib.sha256()
    for name, value in state.items():
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.contiguous().numpy().data)
    return sha.hexdigest()


def array_bytes(content: Any) -> int:
    """Bytes of all arrays in a message; the rest is small beside them."""
    if isinstance(content, np.ndarray):
        return content.nbytes
    if isinstance(content, dict):
        return sum(array_bytes(item) for item in content.values())
    if isinstance(content, list):
        return sum(array_bytes(item) for item in content)
    return 0
