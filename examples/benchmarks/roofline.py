"""What the machine can do at most: products of matrices, copies of memory, and a step made of both."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Over the weights in a step: gradients written; weights, gradients, two averages read; three written.
_PASSES = 8


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])


def peaks(*, size: int = 1536, megabytes: int = 256) -> dict[str, float]:
    """Floating-point operations per second of a large product, and bytes per second of a copy."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    product = _best(lambda: torch.mm(a, b, out=out))
    source = torch.ones(megabytes * 250_000)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source))
    return {"GFLOP/s": 2 * size**3 / product / 1e9, "GB/s": 2 * source.nbytes / copy / 1e9}


def step_bound(model: nn.Module, x: torch.Tensor, y: torch.Tensor, found: dict[str, float]) -> float:
    """Seconds below which no step of this network with Adam can be, one kind of work after the other."""
    counter = FlopCounterMode(display=False)
    with counter:
        F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
    model.zero_grad()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return counter.get_total_flops() / found["GFLOP/s"] / 1e9 + _PASSES * weights / found["GB/s"] / 1e9
