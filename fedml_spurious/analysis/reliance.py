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


def measure_reliance(
    global_model: Classifier,
    personal_model: Classifier,
    x: Tensor,
    probed: Tensor,
    y: Tensor,
    donor_classes: Tensor,
) -> Reliance:
    """Compare both models on images and on the same images with another attribute.

    Args:
        global_model: takes (B, C, H, W) and returns logits (B, K); a module is used in eval mode.
        personal_model: the same.
        x: images, shape (N, C, H, W), N at least 1.
        probed: what the probe made of them, shape (N, D, C, H, W).
        y: classes, shape (N,).
        donor_classes: classes of the donors, shape (N, D).
    """
    found = [_answers(model, x, probed, y) for model in (global_model, personal_model)]
    (right_g, probed_g, flips_g), (right_p, probed_p, flips_p) = found
    change, probed_change = right_p - right_g, probed_p - probed_g
    rise = change - probed_change.mean(axis=1)
    between = attribute_variance(probed_change, y.cpu().numpy(), donor_classes.cpu().numpy())
    return Reliance(
        images=len(y),
        classes=len(torch.unique(y)),
        acc_global=float(right_g.mean()),
        acc_personal=float(right_p.mean()),
        change=Estimate.of(change),
        probed_global=float(probed_g.mean()),
        probed_personal=float(probed_p.mean()),
        flips_global=float(flips_g.mean()),
        flips_personal=float(flips_p.mean()),
        disparity_global=Estimate.of(right_g - probed_g.mean(axis=1)),
        disparity_personal=Estimate.of(right_p - probed_p.mean(axis=1)),
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


def _answers(
    model: Classifier, x: Tensor, probed: Tensor, y: Tensor
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Whether an image is right (N,), whether its probed forms are, and which of them change (N, D)."""
    own = predict(model, x)  # (N,)
    other = predict(model, probed.flatten(0, 1)).reshape(probed.shape[:2])  # (N, D)
    right, still_right, flipped = (own == y), (other == y[:, None]), (other != own[:, None])
    return right.double().cpu().numpy(), still_right.double().cpu().numpy(), flipped.double().cpu().numpy()


def predict(model: Classifier, x: Tensor) -> Tensor:
    """Classes of images, shape (N,); a module is used in eval mode and left as it was."""
    with frozen(model), torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in torch.split(x, ATTACK_BATCH)])
