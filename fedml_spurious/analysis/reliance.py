"""What a probe tells of a global and of a personal model: estimates of their disparities, and of the rise.

The disparity ``Acc_B - Acc_BC`` needs bias-conflicting samples. With a probe, the client's own images with
the attribute of an image of another class take their place. Everything is paired: both models see the same
images, and an image is compared with itself.

Donors bring the attributes of all other classes, and the estimates are means over these. A bias-conflicting
test set may have each class with one of them alone, as that of coloured data has. How far the attributes
differ then adds to what the rise on that set can be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedml_spurious.common.arrays import FloatArray, IndexArray
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.attacks import ATTACK_BATCH
from fedml_spurious.learning.modes import Classifier, frozen
from fedml_spurious.results.proportions import paired_interval


@travels
@dataclass(frozen=True)
class Estimate:
    """A mean of paired values over images, with its 95 % interval.

    Attributes:
        value: the mean.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray, more_variance: float = 0.0) -> Estimate:
        """The mean of values in [-2, 2], one per image, shape (N,), N at least 1."""
        low, high = paired_interval(values, more_variance=more_variance)
        return cls(float(values.mean()), low, high)


@travels
@dataclass(frozen=True)
class Reliance:
    """What a probe found on one client.

    Attributes:
        images: number of images, N.
        classes: number of their classes.
        acc_global: accuracy of the global model on them.
        acc_personal: that of the personal model.
        change: personal minus global accuracy on the images as they are.
        probed_global: accuracy of the global model on the probed images.
        probed_personal: that of the personal model.
        flips_global: share of the probed images that the global model gives another class than the image.
        flips_personal: the same of the personal model.
        disparity_global: estimate of the global model's disparity.
        disparity_personal: that of the personal model's.
        delta: estimate of the rise of the disparity, personal minus global.
        delta_of_set: the same, with limits for a test set that has each class with one other attribute.
    """

    images: int
    classes: int
    acc_global: float
    acc_personal: float
    change: Estimate
    probed_global: float
    probed_personal: float
    flips_global: float
    flips_personal: float
    disparity_global: Estimate
    disparity_personal: Estimate
    delta: Estimate
    delta_of_set: Estimate


@dataclass(frozen=True)
class Answers:
    """What a model answers on images and on the same images with another attribute.

    Attributes:
        right: 1 where an image is classified correctly, else 0, shape (N,).
        still_right: the same of its probed forms, shape (N, D).
        flipped: 1 where a probed form gets another class than the image, shape (N, D).
    """

    right: FloatArray
    still_right: FloatArray
    flipped: FloatArray


def answer(model: Classifier, x: Tensor, probed: Tensor, y: Tensor) -> Answers:
    """Let a model classify images and what a probe made of them.

    Args:
        model: takes (B, C, H, W) and returns logits (B, K); a module is used in eval mode.
        x: images, shape (N, C, H, W), N at least 1.
        probed: what the probe made of them, shape (N, D, C, H, W).
        y: classes, shape (N,).
    """
    own = predict(model, x)  # (N,)
    other = predict(model, probed.flatten(0, 1)).reshape(probed.shape[:2])  # (N, D)
    found = (own == y), (other == y[:, None]), (other != own[:, None])
    return Answers(*(part.double().cpu().numpy() for part in found))


def compare_answers(reference: Answers, personal: Answers, y: Tensor, donor_classes: Tensor) -> Reliance:
    """Compare what both models answer on the same images.

    Args:
        reference: of the global model.
        personal: of the personal model.
        y: classes of the images, shape (N,).
        donor_classes: classes of the donors, shape (N, D).
    """
    change = personal.right - reference.right
    probed_change = personal.still_right - reference.still_right
    rise = change - probed_change.mean(axis=1)
    between = attribute_variance(probed_change, y.cpu().numpy(), donor_classes.cpu().numpy())
    return Reliance(
        images=len(y),
        classes=len(torch.unique(y)),
        acc_global=float(reference.right.mean()),
        acc_personal=float(personal.right.mean()),
        change=Estimate.of(change),
        probed_global=float(reference.still_right.mean()),
        probed_personal=float(personal.still_right.mean()),
        flips_global=float(reference.flipped.mean()),
        flips_personal=float(personal.flipped.mean()),
        disparity_global=Estimate.of(reference.right - reference.still_right.mean(axis=1)),
        disparity_personal=Estimate.of(personal.right - personal.still_right.mean(axis=1)),
        delta=Estimate.of(rise),
        delta_of_set=Estimate.of(rise, between),
    )


def attribute_variance(answers: FloatArray, labels: IndexArray, donors: IndexArray) -> float:
    """Variance of a mean over images of which each class has the attribute of one other class.

    A one-way analysis of variance per class: what the means by donor class vary beyond what a finite number
    of answers explains, at least 0. Classes count with the squares of their shares of the images.

    Args:
        answers: of the probed images, shape (N, D).
        labels: classes of the images, shape (N,).
        donors: classes of the donors, shape (N, D).
    """
    found = 0.0
    for label in np.unique(labels):
        own = labels == label
        cells = [answers[own][donors[own] == donor] for donor in np.unique(donors[own])]
        free = answers[own].size - len(cells)
        if len(cells) > 1 and free > 0:
            within = sum(float(((cell - cell.mean()) ** 2).sum()) for cell in cells) / free
            explained = within * float(np.mean([1 / len(cell) for cell in cells]))
            means = float(np.var([cell.mean() for cell in cells], ddof=1))
            found += float(own.mean()) ** 2 * max(0.0, means - explained)
    return found


def predict(model: Classifier, x: Tensor) -> Tensor:
    """Classes of images, shape (N,); a module is used in eval mode and left as it was."""
    with frozen(model), torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in torch.split(x, ATTACK_BATCH)])
