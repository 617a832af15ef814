"""Copies of what FedML's trainers and aggregators give and take.

FedML's own give their live weights (``self.model.cpu().state_dict()``): with the next client's training these
change under whoever keeps them. FedML itself is saved by its transports, which send copies.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import Any

from torch import Tensor


def snapshot(params: Any) -> Any:
    """A copy of model parameters that shares no memory with them.

    Args:
        params: what a trainer's ``get_model_params`` gives: a state dictionary, or anything else; tensors in
            dictionaries, lists and tuples may be part of a graph, which the copy is not.

    Returns:
        The same in the same types, on the same device.
    """
    if isinstance(params, Tensor):
        return params.detach().clone()
    if isinstance(params, MutableMapping):
        copied = copy.copy(params)  # keeps the type, and with it the order
        for name, value in params.items():
            copied[name] = snapshot(value)
        return copied
    if type(params) in (list, tuple):
        return type(params)(map(snapshot, params))
    return copy.deepcopy(params)
