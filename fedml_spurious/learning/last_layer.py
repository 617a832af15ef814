"""The last layer of a network: the one that makes the logits, wherever it is registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.state_dicts import without_compile

_NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def layers_with_weights(model: nn.Module) -> list[str]:
    """Names of the modules that have parameters of their own."""
    return [name for name, module in model.named_modules() if list(module.parameters(recurse=False))]


def last_layer(model: nn.Module, images: Tensor) -> str:
    """Name of the layer that alone stands between the rest of a network and its logits.

    It is the last one of those with weights of their own that a pass meets. Its output is cut off from the
    graph in a second pass: where the logits still depend on an image or another weight, another way leads
    around it, and it is not the last layer alone.

    Args:
        model: left as it was.
        images: shape (B, C, H, W), at least one.

    Returns:
        Its name in ``named_modules()`` of the network as it is without ``torch.compile``.

    Raises:
        InputError: it is not clear which layer it is; the configuration can name it.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile made calls no hooks
    layers = dict(model.named_modules())
    candidates = {name: layers[name] for name in layers_with_weights(model)}
    met: list[str] = []
    with torch.random.fork_rng():
        modes = [(module, module.training) for module in model.modules()]
        flags = [(weight, weight.requires_grad) for weight in model.parameters()]
        try:
            model.eval()
            model.requires_grad_(True)
            _pass(model, images, [(candidates[name], _note(met, name)) for name in candidates])
            name = met[-1] if met else ""
            unclear = _unclear(model, images, name, candidates) if met else "a pass meets none with weights"
        finally:
            for module, mode in modes:
                module.training = mode
            for weight, flag in flags:
                weight.requires_grad_(flag)
    if unclear:
        raise InputError(
            "personalization_args.head.layer: it is not clear which is the last layer of the network: "
            f"{unclear}. Name the one that trains; there are {', '.join(filter(None, candidates))}"
        )
    return without_compile(name)


def _note(met: list[str], name: str) -> Any:
    def hook(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        met.append(name)

    return hook


def _cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output.detach()


def _pass(model: nn.Module, images: Tensor, hooks: Sequence[tuple[nn.Module, Any]]) -> tuple[Tensor, Tensor]:
    """Logits, and the images that they were made of, as the start of a graph."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    x = images.detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            return model(x), x
    finally:
        for handle in handles:
            handle.remove()


def _unclear(model: nn.Module, images: Tensor, name: str, candidates: dict[str, nn.Module]) -> str:
    """Why this layer is not the last one alone; empty where it is."""
    if isinstance(candidates[name], _NORMALISATIONS):
        return f"{name}, the last one that a pass meets, normalises"
    if any(True for _ in candidates[name].children()):
        return f"{name or 'the network itself'} has weights beside those of its layers"
    logits, _ = _pass(model, images, [(candidates[name], _cut)])
    if logits.requires_grad:
        return f"the logits depend on more than {name}, the last one that a pass meets"
    return ""
