"""The networks of the paper (Table 6)."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fedml_spurious.common.blame import describe_with_place
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.imports import import_object
from fedml_spurious.common.seeds import Purpose, integer_seed

IMAGE_SIZES = {"cnn_28x28": 28, "cnn_64x64": 64}
_TRAINING_BYTES = 16  # of a weight in single precision, its gradient, and the two averages of Adam
_CHANNELS = {"cnn_28x28": (64, 128), "cnn_64x64": (64, 64)}


class SpuriousCNN(nn.Module):
    """Two strided convolutions and two fully connected layers (Table 6).

    Conv 4x4 stride 2, BatchNorm, LeakyReLU(0.2), twice; a fully connected layer with ReLU; the logits.
    Table 6 prints neither the padding nor the slope; padding 1 and slope 0.2 are our reading. It prints 10
    outputs for both networks; here it is the number of classes.

    Args:
        channels: output channels of the two convolutions.
        image_size: height and width of the input in pixels, divisible by 4.
        fc_width: width of the hidden fully connected layer; the paper has 4096.
        num_classes: number of logits.
    """

    def __init__(self, channels: tuple[int, int], image_size: int, fc_width: int, num_classes: int) -> None:
        super().__init__()
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(3, first, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(first),
            nn.LeakyReLU(0.2),
            nn.Conv2d(first, second, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(second),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(second * (image_size // 4) ** 2, fc_width),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(fc_width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of images (B, 3, H, W) with values in [0, 1]."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


def build_model(
    name: str, *, num_classes: int, image_shape: tuple[int, int, int], fc_width: int, seed: int
) -> nn.Module:
    """Build a network with seeded initial weights.

    Args:
        name: ``cnn_28x28``, ``cnn_64x64``, or ``module:factory``, a callable of your own that takes
            ``num_classes``, ``image_shape`` and ``fc_width`` by keyword and returns a module.
        num_classes: number of logits, at least 2.
        image_shape: height, width and channels of the images.
        fc_width: width of the hidden fully connected layer.
        seed: the federated seed; the global generators of torch are left as they were.

    Returns:
        The module, on the CPU, in training mode.

    Raises:
        InputError: the name is unknown or the network does not fit the images.
    """
    options: dict[str, Any] = {"num_classes": num_classes, "image_shape": image_shape, "fc_width": fc_width}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer_seed(seed, Purpose.MODEL_INIT))
        own = name not in IMAGE_SIZES
        model = _own_network(name, _factory(name), options) if own else _paper_network(name, **options)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model_args.model: {name} returned {type(model).__name__}, expected a torch.nn.Module"
        )
    return model


def _factory(name: str) -> Callable[..., nn.Module]:
    if ":" not in name:
        raise InputError(
            f"model_args.model: unknown network {name!r}; expected one of {', '.join(IMAGE_SIZES)} "
            "or module:factory of your own"
        )
    found = import_object(name, where="model_args.model")
    if isinstance(found, nn.Module):
        raise InputError(
            f"model_args.model: {name} is a module, expected a function or class that makes a new one in "
            "every call; every federated seed has initial weights of its own"
        )
    if not callable(found):
        raise InputError(
            f"model_args.model: {name} is a {type(found).__name__}, expected a callable that returns a module"
        )
    return found


def _own_network(name: str, factory: Callable[..., nn.Module], options: dict[str, Any]) -> nn.Module:
    """What a factory of the user's own makes."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some written in C have none
        signature = None
    if signature is not None:
        try:
            signature.bind(**options)
        except TypeError as error:
            raise InputError(
                f"model_args.model: {name} cannot be called with {', '.join(options)} by keyword ({error}); "
                "give it these parameters, or **options for those that it does not use"
            ) from None
    try:
        return factory(**options)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"model_args.model: {name} fails with {describe_with_place(error)}; mend the factory"
        ) from error


def _paper_network(
    name: str, *, num_classes: int, image_shape: tuple[int, int, int], fc_width: int
) -> SpuriousCNN:
    size = IMAGE_SIZES[name]
    if image_shape != (size, size, 3):
        height, width, channels = image_shape
        fitting = [other for other, pixels in IMAGE_SIZES.items() if image_shape == (pixels, pixels, 3)]
        advice = f"use model: {fitting[0]}" if fitting else "use a network of your own (module:factory)"
        raise InputError(
            f"model_args.model: {name} takes {size}x{size} images with 3 channels, the data set has "
            f"{height}x{width} with {channels}; {advice}"
        )
    _require_memory(_CHANNELS[name], size, fc_width, num_classes)
    return SpuriousCNN(_CHANNELS[name], size, fc_width, num_classes)


def _require_memory(channels: tuple[int, int], size: int, fc_width: int, num_classes: int) -> None:
    """Make sure that this machine has the memory that the network needs.

    Raises:
        InputError: it has not.
    """
    with torch.device("meta"):  # sizes without memory
        weights = sum(w.numel() for w in SpuriousCNN(channels, size, fc_width, num_classes).parameters())
    needed, there = weights * _TRAINING_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"model_args.fc_width: {fc_width} makes {weights:,} weights, whose training takes "
            f"{needed / 2**30:,.1f} GiB, and this machine has {there / 2**30:,.1f}; lower it"
        )
