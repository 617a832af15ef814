"""What may be chosen of the training and of the attack. No torch: a configuration is checked before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Norm = Literal["linf", "l2"]
BatchNormPolicy = Literal["aggregate", "local", "recalibrate"]
BatchNormMode = Literal["frozen", "batch"]


@dataclass(frozen=True)
class LocalTraining:
    """How a client trains (appendix C.2).

    Attributes:
        epochs: passes over the client's sequence of samples; 0 trains nothing.
        batch_size: samples per batch, at least 1.
        learning_rate: of Adam, which is fresh in every call.
        weight_decay: of Adam; 0 in the paper.
        batchnorm_mode: by what BatchNorm layers normalise: ``batch`` is the statistics of the batch, which
            move the running ones; ``frozen`` is the running statistics, which stay what they are. Scales
            and shifts train in both.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    batchnorm_mode: BatchNormMode = "batch"
