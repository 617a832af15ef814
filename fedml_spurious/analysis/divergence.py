"""How far clients pull the global model apart, and which part of it is due to colour (figure 1b)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.local_update import update_locally
from fedml_spurious.learning.options import LocalTraining
from fedml_spurious.learning.state_dicts import State

WHOLE = "all"
"""All layers together."""


@travels
@dataclass(frozen=True)
class Directions:
    """Where one client pulls the global model, as vectors by parameter.

    Attributes:
        pseudo: the pseudo-gradient of section 3: global weights minus the client's after its local update.
        gradient: gradient of the client's loss at the global weights.
        shape: the same on its images in random colours, which leave the shape alone as a hint; None where
            images cannot be recoloured.
    """

    pseudo: State
    gradient: State
    shape: State | None

    def parts(self) -> dict[str, State]:
        """By kind: ``pseudo``, ``gradient``, and where known ``shape`` and ``color``, the difference."""
        found = {"pseudo": self.pseudo, "gradient": self.gradient}
        if self.shape is not None:
            shape = self.shape
            color = {name: value - shape[name] for name, value in self.gradient.items()}
            found |= {"shape": shape, "color": color}
        return found


def pseudo_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    training: LocalTraining,
    *,
    seed: int,
    round_index: int,
    client: int,
) -> State:
    """Weights before minus weights after a client's local update; see :func:`update_locally`.

    ``model`` is left as it was.
    """
    trained = copy.deepcopy(model)
    for _ in update_locally(trained, x, y, training, seed=seed, round_index=round_index, client=client):
        pass
    after = dict(trained.named_parameters())
    return {name: (before.detach() - after[name].detach()).cpu() for name, before in model.named_parameters()}


def weight_gradient(model: nn.Module, x: Tensor, y: Tensor) -> State:
    """Gradient of the mean cross-entropy in the weights, BatchNorm under the statistics of ``x``.

    ``model`` is left as it was.
    """
    copied = copy.deepcopy(model).train()
    names, parameters = zip(*copied.named_parameters(), strict=True)
    found = torch.autograd.grad(F.cross_entropy(copied(x), y), parameters)
    return {name: gradient.cpu() for name, gradient in zip(names, found, strict=True)}


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to: ``features.0`` of ``features.0.weight``."""
    return parameter.rpartition(".")[0] or parameter


def cosines(vectors: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Cosines between all clients' vectors, layer by layer and of all layers together.

    Args:
        vectors: one per client, tensors by parameter.

    Returns:
        By layer, and under ``WHOLE``, shape (clients, clients) in double precision; NaN beside a vector of
        length 0.
    """
    products: dict[str, Tensor] = {}
    for name in vectors[0]:
        rows = torch.stack([vector[name].double().flatten() for vector in vectors])
        for layer in (layer_of(name), WHOLE):
            products[layer] = products.get(layer, 0) + rows @ rows.T
    return {layer: _normalised(product) for layer, product in products.items()}


def _normalised(products: Tensor) -> Tensor:
    lengths = products.diagonal().sqrt()
    return products / (lengths[:, None] * lengths[None])
