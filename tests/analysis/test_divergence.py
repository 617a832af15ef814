"""Directions of clients: against differences of losses, FedAvg's own update, and cosines by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.analysis.divergence import (
    WHOLE,
    Directions,
    cosines,
    layer_of,
    pseudo_gradient,
    weight_gradient,
)
from fedml_spurious.analysis.gradient_terms import gradient_terms
from fedml_spurious.experiment.divergence_step import compare
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.models import build_model
from fedml_spurious.learning.options import LocalTraining

RNG = torch.Generator().manual_seed(5)


def test_the_gradient_is_the_difference_of_the_training_loss() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
    ).double()
    x, y = torch.rand(5, 3, 4, 4, generator=RNG, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    before = copy.deepcopy(model.state_dict())
    found = weight_gradient(model, x, y)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    step, moved = 1e-6, []
    for sign in (1, -1):
        other = copy.deepcopy(model).train()
        with torch.no_grad():
            other.get_parameter("0.weight")[1, 2, 0, 1] += sign * step
        moved.append(F.cross_entropy(other(x), y).item())
    assert found["0.weight"][1, 2, 0, 1].item() == pytest.approx(
        (moved[0] - moved[1]) / (2 * step), rel=1e-6, abs=1e-9
    )


def test_the_pseudo_gradient_is_what_the_round_moved(splits: Path) -> None:
    """One epoch of one batch of Adam moves every weight with a gradient by the learning rate."""
    data = SplitFolder(splits).load("0000", "train")
    x, y = to_tensors(data.image, data.label, "cpu")
    model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
    found = pseudo_gradient(model, x, y, LocalTraining(1, len(y), 0.5), seed=0, round_index=1, client=0)
    gradient = weight_gradient(model, x, y)
    assert found.keys() == gradient.keys()
    last = [name for name in found if name.endswith("weight")][-1]
    sure = gradient[last].abs() > 1e-4
    torch.testing.assert_close(found[last][sure], 0.5 * gradient[last][sure].sign(), rtol=1e-3, atol=0)


def test_cosines_by_layer_and_of_the_whole() -> None:
    """By hand: clients agree in ``a``, are orthogonal in ``b``, and the third has no ``b`` at all."""
    vectors = [
        {
            "a.weight": torch.tensor([[3.0]]),
            "a.bias": torch.tensor([0.0]),
            "b.weight": torch.tensor([4.0, 0.0]),
        },
        {
            "a.weight": torch.tensor([[3.0]]),
            "a.bias": torch.tensor([0.0]),
            "b.weight": torch.tensor([0.0, 4.0]),
        },
        {
            "a.weight": torch.tensor([[0.0]]),
            "a.bias": torch.tensor([2.0]),
            "b.weight": torch.tensor([0.0, 0.0]),
        },
    ]
    found = cosines(vectors)
    assert list(found) == ["a", WHOLE, "b"]
    assert [found[name][0, 1].item() for name in found] == pytest.approx([1.0, 9 / 25, 0.0])
    assert [found[name][0, 2].item() for name in ("a", WHOLE)] == [0.0, 0.0]
    assert math.isnan(found["b"][0, 2].item())
    assert layer_of("features.0.weight") == "features.0"
    assert layer_of("scale") == "scale"


def test_colour_is_the_rest_and_pairs_are_compared_at_equal_overlap() -> None:
    def client(gradient: list[float], shape: list[float]) -> Directions:
        return Directions({"w": torch.ones(2)}, {"w": torch.tensor(gradient)}, {"w": torch.tensor(shape)})

    clients = [client([1, 1], [1, 0]), client([1, -1], [1, 0]), client([2, 1], [1, 1])]
    classes = [frozenset({1, 2}), frozenset({2, 3}), frozenset({1, 2})]
    rows = {
        (row["kind"], row["overlap"]): (row["pairs"], row["cosine"])
        for row in compare(clients, classes)
        if row["layer"] == WHOLE
    }
    assert {overlap for _, overlap in rows} == {1, 2}
    assert rows["gradient", 1] == (2, pytest.approx((0 + 1 / 10**0.5) / 2))
    assert rows["gradient", 2] == (1, pytest.approx(3 / 10**0.5))
    assert rows["shape", 1] == (2, pytest.approx((1 + 0.5**0.5) / 2))
    assert rows["color", 1] == (2, pytest.approx((-1 + 0) / 2))  # (0, 1), (0, -1) and (1, 0)
    assert rows["pseudo", 2] == (1, pytest.approx(1))
    without = [Directions(one.pseudo, one.gradient, None) for one in clients]
    assert {row["kind"] for row in compare(without, classes)} == {"pseudo", "gradient"}
    still = [client([0, 0], [0, 0]), client([1, 0], [1, 0])]
    assert {row["kind"] for row in compare(still, classes[:2])} == {"pseudo"}  # a zero vector has no angle
    still.append(client([1, 0], [1, 0]))
    (row,) = (
        row for row in compare(still, [classes[0]] * 3) if (row["kind"], row["layer"]) == ("gradient", WHOLE)
    )
    assert (row["overlap"], row["pairs"], row["cosine"]) == (2, 1, pytest.approx(1))


def test_the_gradient_is_under_the_statistics_of_the_images_whatever_mode_the_model_is_in() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)).double()
    x, y = torch.rand(5, 3, 4, 4, generator=RNG, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    torch.testing.assert_close(weight_gradient(model.eval(), x, y), weight_gradient(model.train(), x, y))


def test_the_terms_of_two_models_by_their_definitions() -> None:
    """Section 5.1, sample by sample: gradients by autograd, angles by the arc cosine, losses by torch."""
    models = [
        build_model("cnn_28x28", num_classes=4, image_shape=(28, 28, 3), fc_width=8, seed=seed).eval()
        for seed in (0, 1)
    ]
    x, y, eps = torch.rand(3, 3, 28, 28, generator=RNG), torch.tensor([0, 1, 3]), 0.5
    rows = gradient_terms(*models, x, y, eps=eps, colored=True)
    exact = [copy.deepcopy(model).double() for model in models]
    for row, image, label in zip(rows, x.double(), y, strict=True):

        def losses(at: torch.Tensor, label: torch.Tensor = label) -> list[torch.Tensor]:
            return [F.cross_entropy(model(at[None]), label[None]) for model in exact]

        start = image.clone().requires_grad_(True)
        g, p = (torch.autograd.grad(loss, start)[0] for loss in losses(start))
        size_g, size_p, dot = g.norm().item(), p.norm().item(), (g * p).sum().item()
        grey = g.sum(dim=0).div(3**0.5).norm().item()  # along (1, 1, 1) / sqrt(3) in every pixel
        before, after = losses(image), losses(image + eps * g / size_g)
        moved = [(late - early).item() for late, early in zip(after, before, strict=True)]
        expected = {
            "norm_g": size_g, "norm_p": size_p, "gamma": size_g / size_p,
            "theta": math.acos(dot / size_g / size_p), "theta_g": math.acos(grey / size_g),
            "transferability": moved[0] - moved[1], "first_order": eps * (size_g - dot / size_g),
        }  # fmt: skip
        assert row == pytest.approx(expected, rel=1e-7)


def test_the_terms_of_equal_models_are_those_of_no_personalization() -> None:
    model = build_model("cnn_28x28", num_classes=4, image_shape=(28, 28, 3), fc_width=8, seed=0)
    x, y = torch.rand(3, 3, 28, 28, generator=RNG), torch.tensor([0, 1, 3])
    rows = gradient_terms(model, copy.deepcopy(model), x, y, eps=0.1, colored=False)
    assert next(model.parameters()).dtype == torch.float32
    for row in rows:
        assert row["gamma"] == 1
        assert row["theta"] == row["transferability"] == 0
        assert row["first_order"] == pytest.approx(0, abs=1e-12)
        assert row["theta_g"] is None
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    angles = [row["theta_g"] for row in gradient_terms(model, model, grey, y, eps=0.1, colored=True)]
    assert all(angle is not None and 0 < angle < np.pi / 2 for angle in angles)
