"""What the parts of a run take, as timed steps tell."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class MethodSpeed:
    """Seconds that a method takes on one client.

    Attributes:
        start: until its first batch, without adversarial examples.
        batch: a full batch.
        epoch: the end of an epoch: the score, and a copy of the model.
        attacks_train: whether it reads adversarial examples of the training samples.
        attacks_val: the same of the validation samples.
    """

    start: float
    batch: float
    epoch: float
    attacks_train: bool
    attacks_val: bool


@dataclass(frozen=True)
class Speeds:
    """Seconds that the parts of a run take in this process.

    Attributes:
        batch: a full batch of the federated step.
        fixed: share of that which a batch takes however small it is, in [0, 1].
        client: of a round, what each of its clients takes besides its batches.
        average: of a round, what the average of its clients takes.
        evaluation: an image that is classified.
        attack: a step of PGD on one image.
        save: a model that is stored.
        row: a result that is kept.
        message: weights on their way to another process and a sum of them back; 0 with one process.
        methods: the methods that apply, by name.
        weights: bytes of the network's state.
        norms: number of BatchNorm layers with running statistics.
        row_bytes: what a kept result takes of the disk.
        unseen_bytes: what a training pass on the largest batch keeps beyond one on the batch that was timed.
        gpu_bytes: the most memory of the GPU.
    """

    batch: float
    fixed: float
    client: float
    average: float
    evaluation: float
    attack: float
    save: float
    row: float
    message: float
    methods: Mapping[str, MethodSpeed]
    weights: int
    norms: int = 0
    row_bytes: int = 0
    unseen_bytes: int = 0
    gpu_bytes: int = 0


@dataclass(frozen=True)
class Machine:
    """What is used of the machine.

    Attributes:
        workers: processes that compute.
        size: all processes.
        side_by_side: how many workers find cores of their own.
        start: seconds until a process is ready: its imports.
        end: seconds of table and report.
        base: bytes of a process before it has a network.
        peak: bytes of a process that did the timed steps.
    """

    workers: int
    size: int
    side_by_side: int
    start: float
    end: float
    base: int
    peak: int


def middle(times: Sequence[float]) -> float:
    """Of the steps between some times the median, the first step left out where there are others."""
    steps = [after - before for before, after in pairwise(times)]
    return statistics.median(steps[1:] or steps)
