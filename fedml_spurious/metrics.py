"""Accuracy, loss and disparity, and their averages over clients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedml_spurious.attacks import Classifier, frozen

EVALUATION_BATCH = 1024


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
    """Classify ``x`` (N, ...) with labels ``y`` (N,) in eval mode; the model is left as it was."""
    total = EMPTY
    with frozen(model), torch.no_grad():
        for images, labels in zip(
            torch.split(x, EVALUATION_BATCH), torch.split(y, EVALUATION_BATCH), strict=True
        ):
            logits = model(images)
            correct = int((logits.argmax(dim=1) == labels).sum())
            loss_sum = float(F.cross_entropy(logits, labels, reduction="sum"))
            total += Evaluation(len(labels), correct, loss_sum)
    return total


def disparity(acc_b: float | None, acc_bc: float | None) -> float | None:
    """Accuracy disparity ``Acc_B - Acc_BC``, signed (section 4); None where one of the two is missing."""
    return None if acc_b is None or acc_bc is None else acc_b - acc_bc


def accuracy_cells(biased: Evaluation, conflicting: Evaluation) -> dict[str, float | None]:
    """Cells of a row that both test sets determine."""
    return {
        "acc_b": biased.accuracy,
        "acc_bc": conflicting.accuracy,
        "disparity": disparity(biased.accuracy, conflicting.accuracy),
        "loss_b": biased.loss,
        "loss_bc": conflicting.loss,
    }


def client_mean(values: Sequence[float | None]) -> float | None:
    """Mean over the clients that have a value; None where none has one."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def weighted_mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Mean over the clients that have a value, weighted by their numbers of samples."""
    present = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None and w > 0]
    total = sum(weight for _, weight in present)
    return sum(value * weight for value, weight in present) / total if total else None
