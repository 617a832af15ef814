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
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    flags = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


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
