"""Fine-tuning of a part of the network: the classifier head, or the BatchNorm layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.last_layer import last_layer, layers_with_weights
from fedml_spurious.learning.modes import batchnorm_in_eval_mode
from fedml_spurious.learning.state_dicts import without_compile
from fedml_spurious.personalization.base import Batch, ClientView, MethodSettings, Personalizer
from fedml_spurious.personalization.options import HeadSettings

_LAYER = "personalization_args.head.layer"


def batchnorm_layers(model: nn.Module) -> list[_BatchNorm]:
    """BatchNorm layers with weights of their own."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and [*module.parameters()]]


def _freeze_but(model: nn.Module, kept: Iterable[nn.Module]) -> None:
    """Freeze all but what trains already in these modules: what a user froze stays frozen."""
    train = [weight for module in kept for weight in module.parameters() if weight.requires_grad]
    model.requires_grad_(False)
    for weight in train:
        weight.requires_grad_(True)


class HeadOnly(Personalizer[HeadSettings]):
    """Cross-entropy with the last layer as the only one that trains; not a method of the paper.

    The body stays the global one to the last bit, the running statistics of its BatchNorm layers included,
    so the personal model can reweight the features of the global model and learn no new ones. For that
    BatchNorm is frozen whatever ``batchnorm_mode`` is.
    """

    name = "head"
    settings_type = HeadSettings

    def check_network(self, model: nn.Module, images: Tensor) -> None:
        """Refuse a network whose last layer is not clear, or frozen."""
        self._head(model, images)

    def start(self, view: ClientView) -> nn.Module:
        """A copy of the global model with all but the last layer frozen."""
        model = super().start(view)
        _freeze_but(model, [self._head(model, view.train.x[:2])])
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y)`` on the features as the global model computes them in eval mode."""
        with batchnorm_in_eval_mode(model):
            return F.cross_entropy(model(batch.x), batch.y)

    def _head(self, model: nn.Module, images: Tensor) -> nn.Module:
        name: str | None = self.settings.layer
        if name is None:
            name = last_layer(model, images)
        layers: dict[str, nn.Module] = {without_compile(key): module for key, module in model.named_modules()}
        layer = layers.get(name)
        if layer is None:
            raise InputError(
                f"{_LAYER}: the network has no layer {name!r}; it has {', '.join(layers_with_weights(model))}"
            )
        if not any(weight.requires_grad for weight in layer.parameters()):
            raise InputError(
                f"{_LAYER}: the layer {name!r} has nothing to train; name another one, or thaw it"
            )
        return layer


class BatchNormOnly(Personalizer[MethodSettings]):
    """Cross-entropy with the BatchNorm layers as the only ones that train; not a method of the paper.

    Under ``batchnorm_mode: frozen`` their scales and shifts train and nothing else moves; under ``batch``
    their running statistics move to the client's images too. In FedBN (Li et al. 2021, arXiv:2102.07623) the
    same layers, statistics included, are personal from the first round on.
    """

    name = "bn"

    def not_applicable(self, view: ClientView) -> str:
        """A network without BatchNorm weights that train has nothing to train."""
        layers = batchnorm_layers(view.global_model)
        if not layers:
            return "the network has no BatchNorm weights"
        trains = any(weight.requires_grad for layer in layers for weight in layer.parameters())
        return "" if trains else "the network's BatchNorm weights are frozen"

    def prepare(self, model: nn.Module) -> None:
        """Freeze all but the BatchNorm layers."""
        _freeze_but(model, batchnorm_layers(model))
