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


@contextmanager
def batchnorm_in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers use their running statistics and leave them as they are; the rest trains on."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    modes = [(layer, layer.training) for layer in layers]
    try:
        for layer in layers:
            layer.training = False
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode
