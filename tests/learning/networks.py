"""A small network with every kind of buffer, for tests of state dictionaries and their averages."""

from __future__ import annotations

import torch
from torch import nn


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(2))


def trained(seed: int, batches: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = model()
        for _ in range(batches):
            net(torch.rand(4, 3, 5, 5))
    return net
