"""Accuracy, loss and disparity of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedml_spurious.common.errors import DivergedError
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.modes import Classifier, frozen

EVALUATION_BATCH = 1024


@travels
@dataclass(frozen=True)
class Evaluation:
    """Counts of one model on one set of samples; rates are derived, so that sets can be pooled.

    Attributes:
        count: number of samples.
        correct: correctly classified samples.
        loss_sum: sum of the samples' cross-entropies, in nats.
    """

    count: int
    correct: int
    loss_sum: float

    def __add__(self, other: Evaluation) -> Evaluation:
        return Evaluation(
            self.count + other.count, self.correct + other.correct, self.loss_sum + other.loss_sum
        )

    @property
    def accuracy(self) -> float | None:
        """Share of correct samples in [0, 1]; None where there are no samples."""
        return self.correct / self.count if self.count else None

    @property
    def loss(self) -> float | None:
        """Mean cross-entropy in nats; None where there are no samples."""
        return self.loss_sum / self.count if self.count else None


EMPTY = Evaluation(0, 0, 0.0)


def evaluate(model: Classifier, x: Tensor, y: Tensor) -> Evaluation:
    """Classify ``x`` (N, ...) with labels ``y`` (N,) in eval mode; the model is left as it was.

    Raises:
        DivergedError: logits or losses are not finite.
    """
    if not len(y):  # not every network takes no images
        return EMPTY
    found = []
    with frozen(model), torch.no_grad():
        for images, labels in zip(
            torch.split(x, EVALUATION_BATCH), torch.split(y, EVALUATION_BATCH), strict=True
        ):
            logits = model(images)
            correct = (logits.argmax(dim=1) == labels).sum()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            finite = logits.isfinite().all()
            found.append(torch.stack([value.double() for value in (correct, loss, finite)]))
    # All numbers in one transfer, so that the device is waited for once.
    correct_counts, losses, finites = torch.stack(found, dim=1).tolist()
    if not all(finites) or not all(map(math.isfinite, losses)):
        raise DivergedError("the network's outputs are not finite")
    return Evaluation(len(y), int(sum(correct_counts)), sum(losses))
