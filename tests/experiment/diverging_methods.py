"""Methods of a user's own whose models diverge, each in another place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fedml_spurious.personalization.base import (
    Batch,
    ClientView,
    MethodSettings,
    Observer,
    Personalized,
    Personalizer,
)


class NanLoss(Personalizer[MethodSettings]):
    """Diverges on the client with index 1 alone."""

    name = "nan_loss"

    def start(self, view: ClientView) -> nn.Module:
        self.client = view.client
        return super().start(view)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return super().loss(model, batch) * (torch.nan if self.client == 1 else 1.0)


class InfiniteWeight(Personalizer[MethodSettings]):
    """Has a loop of its own, whose last epoch has a weight that is infinite."""

    name = "infinite_weight"

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        found = super().personalize(view, observe)
        state = {name: value.clone() for name, value in found.state.items()}
        state["classifier.bias"][0] = torch.inf
        return replace(found, last=replace(found, state=state, last=None))


class HugeWeights(Personalizer[MethodSettings]):
    """Has finite weights, with which the outputs overflow."""

    name = "huge_weights"

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        found = super().personalize(view, observe)
        state = {name: value.clone() for name, value in found.state.items()}
        for name in ("features.7.weight", "features.7.bias", "classifier.weight"):
            state[name].fill_(1e38)
        return replace(found, state=state, last=None)
