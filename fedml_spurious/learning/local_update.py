"""The local update of one client in one round of FedAvg (appendix C.2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.learning.options import LocalTraining
from fedml_spurious.learning.training import Step, train_locally


def update_locally(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    training: LocalTraining,
    *,
    seed: int,
    round_index: int,
    client: int,
) -> Iterator[Step]:
    """Train ``model`` in place on a client's samples and yield after every batch.

    The order of the samples depends on seed, round and client alone.

    Args:
        model: on the device of the samples.
        x: images, shape (N, 3, H, W).
        y: classes, shape (N,).
        training: epochs, batch size and optimiser.
        seed: of the federated step.
        round_index: from 0.
        client: index of the client, from 0.
    """

    def sequence(epoch: int) -> IndexArray:
        return generator(seed, Purpose.LOCAL_BATCHES, round_index, client, epoch).permutation(len(y))

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(x[rows]), y[rows])

    def noise(batch: int) -> int:
        return integer_seed(seed, Purpose.LOCAL_NOISE, round_index, client, batch)

    return train_locally(model, training, sequence=sequence, loss=loss, noise=noise, device=y.device)
