"""The local training loop, which FedAvg and every personalization method share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.learning.finite import (
    require_finite_losses,
    require_finite_optimizer,
    require_finite_weights,
)
from fedml_spurious.learning.modes import batchnorm_to_eval_mode
from fedml_spurious.learning.options import BatchNormMode as BatchNormMode
from fedml_spurious.learning.options import LocalTraining as LocalTraining

_SequenceT = TypeVar("_SequenceT", IndexArray, Tensor)


def minibatches(sequence: _SequenceT, batch_size: int) -> list[_SequenceT]:
    """Cut a sequence of sample rows into batches.

    The last, smaller batch is kept. A last batch of one sample is joined to its neighbour, because
    BatchNorm cannot normalise over a single value.

    Args:
        sequence: sample rows in training order, shape (N,); rows may repeat.
        batch_size: rows per batch, at least 1.

    Returns:
        Batches that concatenate to ``sequence``.
    """
    starts: list[int] = list(range(0, len(sequence), batch_size))
    if len(starts) > 1 and batch_size > 1 and len(sequence) - starts[-1] == 1:
        starts.pop()
    return [sequence[start:end] for start, end in zip(starts, [*starts[1:], len(sequence)], strict=True)]


@dataclass(frozen=True)
class Step:
    """Where training stands after a batch.

    Attributes:
        epoch: epochs begun so far, from 1.
        batch: batches done so far over all epochs, from 1.
        epoch_ends: whether this batch is the last of its epoch.
        loss: value of the objective on this batch before the update.
    """

    epoch: int
    batch: int
    epoch_ends: bool
    loss: Tensor


def train_locally(
    model: nn.Module,
    settings: LocalTraining,
    *,
    sequence: Callable[[int], IndexArray],
    loss: Callable[[nn.Module, Tensor], Tensor],
    noise: Callable[[int], int],
    device: torch.device,
) -> Iterator[Step]:
    """Train ``model`` in place with a fresh Adam and yield after every batch.

    The caller may evaluate the model between batches: it is set to training mode before each one, except
    BatchNorm layers that are frozen. Torch's global generators are as they were at every yield.

    Args:
        model: on ``device``.
        settings: epochs, batch size, optimiser and mode of BatchNorm layers.
        sequence: sample rows, shape (N,), in the order in which epoch ``e`` (from 0) visits them.
        loss: objective of a batch, given the model and the batch's rows as an index tensor (B,).
        noise: seed of what the network itself draws (dropout) in a batch, given the number of batches done.
        device: where the index tensors go.

    Yields:
        A step per batch.

    Raises:
        DivergedError: at the end of an epoch, where a loss is not finite; and at the end of the last one,
            where a weight or Adam's state is not.
    """
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    parameters = list(named.values())
    optimizer = torch.optim.Adam(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    done = 0
    for epoch in range(settings.epochs):
        # The order of an epoch goes to the device at once: a copy in every batch would wait for the device.
        order = torch.from_numpy(sequence(epoch)).to(device)
        batches = minibatches(order, settings.batch_size)
        losses: list[Tensor] = []
        for number, rows in enumerate(batches, start=1):
            model.train()
            if settings.batchnorm_mode == "frozen":
                batchnorm_to_eval_mode(model)
            optimizer.zero_grad(set_to_none=True)
            with _seeded(noise(done), device):
                value = loss(model, rows)
            value.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
            optimizer.step()
            done += 1
            losses.append(value.detach())
            if number == len(batches):
                require_finite_losses(losses, first=done - number + 1, epoch=epoch + 1)
            if number == len(batches) and epoch + 1 == settings.epochs:
                # What is not finite stays so: a look at each weight in every epoch would cost a tenth of it.
                require_finite_weights(model, f"after epoch {epoch + 1}")
                require_finite_optimizer(optimizer, named, f"in epoch {epoch + 1}")
            yield Step(epoch + 1, done, number == len(batches), value.detach())


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, from which alone layers can draw, and restore them afterwards."""
    # Directly, because torch.manual_seed costs as much as training on a small batch.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
