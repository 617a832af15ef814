"""Training modes of a model, changed for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Classifier = Callable[[Tensor], Tensor]


@contextmanager
def frozen(model: Classifier) -> Iterator[None]:
    """Evaluate ``model`` as a constant: eval mode and no gradient into its parameters.

    Training modes and ``requires_grad`` come back as they were, also after an exception. BatchNorm
    buffers do not move in eval mode. A plain function is left alone.
    """
    module = model if isinstance(model, nn.Module) else nn.Module()
    # Only what changes is set: attributes of modules take long to set, and this is done for every batch.
    training = [part for part in module.modules() if part.training]
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for part in training:
            part.training = False
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for part in training:
            part.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def batchnorm_to_eval_mode(model: nn.Module) -> None:
    """Let BatchNorm layers use their running statistics and leave these as they are, until ``train()``."""
    for layer in _batchnorm_layers(model):
        layer.training = False


@contextmanager
def batchnorm_in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The same for the length of a block; the rest of the model trains on."""
    modes = [(layer, layer.training) for layer in _batchnorm_layers(model)]
    try:
        batchnorm_to_eval_mode(model)
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def _batchnorm_layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
