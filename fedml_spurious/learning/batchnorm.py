"""Running statistics of BatchNorm layers, replaced by exact statistics of data.

In training mode a BatchNorm layer normalises by the statistics of its batch, so the running statistics of
the global model never influence the weights that FedAvg finds. They matter where a model is evaluated, where
it is fine-tuned with frozen statistics, and as the start of a personal model's own. A policy about them is
therefore applied to the finished global model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedml_spurious.common.errors import DivergedError, InputError
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.metrics import EVALUATION_BATCH
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import copy_model


@travels
@dataclass(frozen=True)
class LayerSums:
    """What a BatchNorm layer sees of some samples, as plain numbers that can be pooled.

    Attributes:
        count: values per channel: samples times positions.
        total: sum of the values of every channel, in double precision, length C.
        squares: sum of their squares, likewise.
    """

    count: int
    total: tuple[float, ...]
    squares: tuple[float, ...]


def layers_in_forward_order(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Names of the BatchNorm layers with running statistics, in the order in which a forward pass meets them.

    Args:
        model: left as it was.
        image_shape: height, width and channels of the images. No image is needed: a black one is passed.

    Returns:
        Names as in ``model.named_modules()``; empty for a network without such layers.
    """
    met: list[str] = []
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
    hooks = [
        layer.register_forward_pre_hook(lambda _module, _inputs, name=name: met.append(name))
        for name, layer in layers.items()
    ]
    height, width, channels = image_shape
    black = torch.zeros(1, channels, height, width)
    like = next(iter(model.parameters()), black)
    try:
        with frozen(model), torch.no_grad():
            model(black.to(like.device, like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(dict.fromkeys(met))


def layer_sums(model: nn.Module, layer: str, x: Tensor) -> LayerSums:
    """Sum what reaches a BatchNorm layer when the model evaluates samples in eval mode.

    Args:
        model: left as it was; the layers before ``layer`` normalise by their running statistics.
        layer: name of the layer; where a forward pass meets it more than once, all its inputs count.
        x: images, shape (N, 3, H, W), values in [0, 1].

    Returns:
        Sums over samples and positions.
    """
    module = _batchnorm(model, layer)
    sums = torch.zeros(2, module.num_features, dtype=torch.float64, device=x.device)
    count = 0

    def see(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count
        values = inputs[0].double().transpose(0, 1).flatten(start_dim=1)  # (C, values per channel)
        sums[0] += values.sum(dim=1)
        sums[1] += values.square().sum(dim=1)
        count += values.shape[1]

    hook = module.register_forward_pre_hook(see)
    try:
        with frozen(model), torch.no_grad():
            for images in torch.split(x, EVALUATION_BATCH):
                model(images)
    finally:
        hook.remove()
    return LayerSums(count, tuple(sums[0].tolist()), tuple(sums[1].tolist()))


def pooled(parts: Sequence[LayerSums]) -> LayerSums:
    """Sums over all parts, added in the order given.

    Args:
        parts: of one layer, at least one.
    """
    return LayerSums(
        sum(part.count for part in parts),
        tuple(sum(values) for values in zip(*(part.total for part in parts), strict=True)),
        tuple(sum(values) for values in zip(*(part.squares for part in parts), strict=True)),
    )


def replace_statistics(model: nn.Module, layer: str, sums: LayerSums) -> None:
    """Set a layer's running mean and its running variance, which is unbiased as torch keeps it.

    Args:
        model: changed in place.
        layer: name of the layer.
        sums: of all samples that the statistics are to be of.

    Raises:
        InputError: there is one value per channel, which has no variance.
        DivergedError: the sums are not finite.
    """
    if sums.count < 2:
        raise InputError(
            f"personalization_args.batchnorm: layer {layer} sees {sums.count} value per channel of the "
            "training samples, which has no variance; use batchnorm: aggregate"
        )
    if not all(map(math.isfinite, (*sums.total, *sums.squares))):
        raise DivergedError(f"what reaches the BatchNorm layer {layer} is not finite")
    module = _batchnorm(model, layer)
    total = torch.tensor(sums.total, dtype=torch.float64)
    squares = torch.tensor(sums.squares, dtype=torch.float64)
    mean = total / sums.count
    # The difference of a constant channel can come out below 0 by rounding.
    variance = (squares - total * mean).clamp(min=0) / (sums.count - 1)
    with torch.no_grad():
        module.running_mean.copy_(mean)  # type: ignore[union-attr]
        module.running_var.copy_(variance)  # type: ignore[union-attr]


def _batchnorm(model: nn.Module, layer: str) -> _BatchNorm:
    module = model.get_submodule(layer)
    if not isinstance(module, _BatchNorm):
        raise ValueError(f"{layer}: expected a BatchNorm layer, got {type(module).__name__}")
    return module


def recalibrated(model: nn.Module, data: Sequence[Tensor]) -> nn.Module:
    """A copy of a model whose running statistics are those of the given data under its own weights.

    Layer by layer in forward order: the exact mean and unbiased variance of everything that reaches the
    layer, with the layers before it replaced already and in eval mode.

    Args:
        model: left as it was.
        data: images of every client, each of shape (N, 3, H, W); pooled in this order.

    Returns:
        The copy. A network without running statistics comes back as an equal copy.

    Raises:
        InputError: a layer sees one value per channel.
    """
    copied = copy_model(model)
    channels, height, width = data[0].shape[1:]
    for layer in layers_in_forward_order(copied, (height, width, channels)):
        replace_statistics(copied, layer, pooled([layer_sums(copied, layer, x) for x in data]))
    return copied
