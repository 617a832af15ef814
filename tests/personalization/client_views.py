"""Clients that personalize within milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.training import BatchNormMode, LocalTraining
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import AdversarialReference, Batch, ClientView, Personalizer


def initial_network() -> nn.Module:
    """A small network with BatchNorm, as training would begin with it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 3)
        )


def network() -> nn.Module:
    """The same network with other weights, whose running statistics have moved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 3)
        )
        for _ in range(5):
            model(torch.rand(16, 3, 6, 6))
    return model


def samples(count: int, seed: int, classes: int = 3) -> Labelled:
    """Samples whose red channel tells the class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, 6, 6, generator=generator)
    y = torch.arange(count) % classes
    x[:, 0] = (x[:, 0] + y.view(-1, 1, 1)) / 3  # something to learn
    return Labelled(x, y)


def view(
    count: int = 20,
    *,
    classes: int = 3,
    p_seed: int = 0,
    epochs: int = 3,
    rate: float = 0.01,
    conflicting: int | None = None,
    client: int = 0,
    model: nn.Module | None = None,
    mode: BatchNormMode = "frozen",
) -> ClientView:
    """A client of ``count`` samples; a fifth of them, the first ones, are bias-conflicting by default."""
    model = model or network()
    train, val = samples(count, 1 + 10 * client, classes), samples(6, 2, classes)
    adversarial = AdversarialReference(model, train, val, Attack("linf", 0.05))
    aligned = torch.ones(count, dtype=torch.bool)
    aligned[: count // 5 if conflicting is None else conflicting] = False
    training = LocalTraining(epochs, 8, rate, batchnorm_mode=mode)
    return ClientView(client, 0, p_seed, train, aligned, val, adversarial, model, training, initial_network)


def make(name: str, **options: Any) -> Personalizer[Any]:
    """A built-in method with options."""
    return METHODS[name](METHODS[name].settings_type(**options))


def batch_of(given: ClientView) -> Batch:
    """All training samples of a client as one batch."""
    weights = tuple(parameter.detach() for parameter in given.global_model.parameters())
    return Batch(
        given.train.x,
        given.train.y,
        weights,
        given.aligned,
        given.global_model,
        torch.arange(len(given.train)),
        given.adversarial,
    )
