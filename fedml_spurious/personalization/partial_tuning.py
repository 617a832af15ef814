"""Fine-tuning of a part of the network: the classifier head, or the BatchNorm layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedml_spurious.learning.modes import batchnorm_in_eval_mode
from fedml_spurious.personalization.base import Batch, ClientView, MethodSettings, Personalizer


def last_layer(model: nn.Module) -> nn.Module:
    """The last module, in order of registration, that has weights of its own: the head of a classifier."""
    return [module for module in model.modules() if list(module.parameters(recurse=False))][-1]


def batchnorm_layers(model: nn.Module) -> list[_BatchNorm]:
    """BatchNorm layers with weights of their own."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine]


def _freeze_but(model: nn.Module, kept: list[nn.Module]) -> None:
    model.requires_grad_(False)
    for module in kept:
        module.requires_grad_(True)


class HeadOnly(Personalizer[MethodSettings]):
    """Cross-entropy with the last layer as the only one that trains; not a method of the paper.

    The body stays the global one to the last bit, the running statistics of its BatchNorm layers included,
    so the personal model can reweight the features of the global model and learn no new ones. For that
    BatchNorm is frozen whatever ``batchnorm_mode`` is.
    """

    name = "head"

    def prepare(self, model: nn.Module) -> None:
        """Freeze all but the last layer."""
        _freeze_but(model, [last_layer(model)])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y)`` on the features as the global model computes them in eval mode."""
        with batchnorm_in_eval_mode(model):
            return F.cross_entropy(model(batch.x), batch.y)


class BatchNormOnly(Personalizer[MethodSettings]):
    """Cross-entropy with the BatchNorm layers as the only ones that train; not a method of the paper.

    Under ``batchnorm_mode: frozen`` their scales and shifts train and nothing else moves; under ``batch``
    their running statistics move to the client's images too. In FedBN (Li et al. 2021, arXiv:2102.07623) the
    same layers, statistics included, are personal from the first round on.
    """

    name = "bn"

    def not_applicable(self, view: ClientView) -> str:
        """A network without BatchNorm weights has nothing to train."""
        return "" if batchnorm_layers(view.global_model) else "the network has no BatchNorm weights"

    def prepare(self, model: nn.Module) -> None:
        """Freeze all but the BatchNorm layers."""
        _freeze_but(model, [*batchnorm_layers(model)])
