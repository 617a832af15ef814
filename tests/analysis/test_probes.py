"""Probes against images and models whose answers can be written down."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn

from data_partition.colored.coloring import PALETTE, tint
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.analysis.probes import (
    Probe,
    choose_donors,
    color,
    find_probe,
    require_image,
    transfer_all,
)
from fedml_spurious.analysis.reliance import Answers, answer, attribute_variance, compare_answers
from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.results.proportions import paired_interval

RNG = np.random.default_rng(0)


def tinted(grey: np.ndarray, name: str) -> torch.Tensor:
    """A digit as the data partition colours it, shape (3, H, W)."""
    image = tint(grey[None], np.array([PALETTE[name]], dtype=np.uint8))
    return to_tensors(image, np.zeros(1), "cpu")[0][0]


@pytest.mark.parametrize("own", ["red", "salmon", "white"])
@pytest.mark.parametrize("other", ["blue", "amber", "violet"])
def test_the_colour_probe_tints_as_the_data_are_tinted(own: str, other: str) -> None:
    """A digit in the colour of another is the digit that the partition would have made in that colour."""
    first, second = (
        np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8) for seed in (1, 2)
    )
    found = color(tinted(first, own), tinted(second, other), RNG)
    torch.testing.assert_close(found, tinted(first, other), rtol=0, atol=1.5 / 255)


@given(seed=st.integers(0, 2**20))
def test_the_colour_probe_keeps_the_range_and_the_grey_image(seed: int) -> None:
    image, donor = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    found = color(image, donor, RNG)
    assert found.shape == image.shape
    assert bool(((found >= 0) & (found <= 1)).all())
    # All channels are one image, brighter or darker.
    grey = image.amax(dim=0)
    for channel in found:
        assert torch.allclose(channel * grey.sum(), grey * channel.sum(), atol=1e-5)


def test_a_black_donor_leaves_a_grey_image() -> None:
    image = torch.rand(3, 4, 4)
    found = color(image, torch.zeros(3, 4, 4), RNG)
    torch.testing.assert_close(found, image.amax(dim=0).expand(3, 4, 4))


def test_a_region_comes_from_the_donor_and_nothing_else_does() -> None:
    image, donor = torch.zeros(3, 4, 5), torch.ones(3, 4, 5)
    found = find_probe("region:1,3,2,5")(image, donor, RNG)
    expected = torch.zeros(4, 5)
    expected[1:3, 2:5] = 1
    assert torch.equal(found, expected.expand(3, 4, 5))
    assert torch.equal(image, torch.zeros(3, 4, 5))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("texture", "unknown probe 'texture'; expected colour, region:T,B,L,R or module:function"),
        ("region:1,2,3", "expected region:TOP,BOTTOM,LEFT,RIGHT"),
        ("region:0,x,0,4", "expected region:TOP,BOTTOM,LEFT,RIGHT"),
        ("region:3,3,0,4", "the box is empty"),
        ("nowhere_at_all:probe", "cannot import"),
        ("math:pi", "math:pi is a float, expected a function"),
    ],
)
def test_a_probe_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        find_probe(name)


def test_a_region_beyond_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="which have 4 rows and 5 columns"):
        find_probe("region:0,5,0,2")(torch.zeros(3, 4, 5), torch.zeros(3, 4, 5), RNG)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda image: image.numpy(), "gave a ndarray"),
        (lambda image: image[:, 1:], "gave torch.float32 of shape (3, 3, 4)"),
        (lambda image: image.double(), "gave torch.float64 of shape (3, 4, 4)"),
        (lambda image: image * 255, "gave values from 255 to 255"),
        (lambda image: image * math.nan, "gave values from nan to nan"),
    ],
)
def test_what_an_own_probe_gives_is_checked(spoil: Callable[[torch.Tensor], object], message: str) -> None:
    image = torch.ones(3, 4, 4)
    with pytest.raises(InputError, match=re.escape(f"--probe mine:probe: {message}; expected torch.float32")):
        require_image("mine:probe", spoil(image), image)


def test_donors_are_of_another_class_and_do_not_depend_on_other_clients(splits: Path) -> None:
    labels = torch.from_numpy(SplitFolder(splits).load("0001", "train").label)
    donors = choose_donors(labels, seed=0, client=1)
    assert donors.shape == (len(labels), 3)
    assert bool((labels[donors] != labels[:, None]).all())
    assert torch.equal(donors, choose_donors(labels, seed=0, client=1))
    assert not torch.equal(donors, choose_donors(labels, seed=0, client=2))
    assert not torch.equal(donors, choose_donors(labels, seed=1, client=1))
    # Of the images of other classes each is as likely.
    many = choose_donors(torch.tensor([0, 1, 1, 1, 2]), seed=0, client=0, donors=3000)[0]
    shares = torch.bincount(many, minlength=5) / 3000
    assert shares[0] == 0
    assert shares[1:].tolist() == pytest.approx([0.25] * 4, abs=0.03)
    with pytest.raises(ValueError, match="all images are of one class"):
        choose_donors(torch.zeros(4), seed=0, client=0)


def test_an_own_probe_gets_a_generator_of_its_own_for_every_image() -> None:
    drawn: list[float] = []

    def noisy(image: torch.Tensor, donor: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
        drawn.append(float(draw.random()))
        return image

    x, donors = torch.rand(3, 3, 2, 2), torch.tensor([[1, 2], [0, 2], [0, 1]])
    for _ in range(2):
        transfer_all("mine:noisy", noisy, x, donors, seed=0, client=4)
    assert drawn[:6] == drawn[6:]
    for seed, client in ((0, 5), (1, 4)):
        transfer_all("mine:noisy", noisy, x, donors, seed=seed, client=client)
    assert len(set(drawn)) == 3 * 6


def test_a_probe_may_change_what_it_is_given() -> None:
    def spoiling(image: torch.Tensor, donor: torch.Tensor, _: np.random.Generator) -> torch.Tensor:
        return image.mul_(0).add_(donor.mul_(0.5))

    x = torch.rand(3, 3, 2, 2)
    before, donors = x.clone(), torch.tensor([[1, 2], [0, 2], [0, 1]])
    found = transfer_all("mine:spoiling", spoiling, x, donors, seed=0, client=0)
    assert torch.equal(x, before)
    assert torch.equal(found, before[donors] / 2)


def by_shape(x: torch.Tensor) -> torch.Tensor:
    """Logits of a model that knows the class, which the tests write into the first pixel of the last row."""
    return torch.eye(2)[(x.amax(dim=1)[:, -1, 0] > 0.5).long()]


def by_color(x: torch.Tensor) -> torch.Tensor:
    """Logits of a model that takes red for class 0 and everything else for class 1."""
    sums = x.sum(dim=(2, 3))
    return torch.eye(2)[(sums[:, 0] < sums[:, 1]).long()]


def colored_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Class 0 is red with a dark corner, class 1 green with a bright one; (40, 3, 4, 4) and (40,)."""
    y = torch.arange(40) % 2
    x = torch.zeros(40, 3, 4, 4)
    for row, label in enumerate(y.tolist()):
        x[row, label, :3] = 0.75
        x[row, label, -1, 0] = float(label)
    return x, y


def reliance_of(probe: Probe, global_model: object, personal_model: object):  # type: ignore[no-untyped-def]
    x, y = colored_images()
    donors = choose_donors(y, seed=0, client=0)
    probed = transfer_all("probe", probe, x, donors, seed=0, client=0)
    models: tuple[Any, Any] = (global_model, personal_model)
    reference, personal = (answer(model, x, probed, y) for model in models)
    return compare_answers(reference, personal, y, y[donors])


def test_a_model_that_looks_at_the_colour_alone_is_found_out() -> None:
    """By hand: the personal model is always right on its images and always wrong in the other colour."""
    found = reliance_of(color, by_shape, by_color)
    assert (found.images, found.classes) == (40, 2)
    assert (found.acc_global, found.acc_personal, found.change.value) == (1, 1, 0)
    assert (found.disparity_global.value, found.disparity_personal.value, found.delta.value) == (0, 1, 1)
    assert (found.flips_global, found.flips_personal) == (0, 1)
    assert found.delta.low > 0.85
    assert found.change.low < 0 < found.change.high


def test_a_model_in_training_answers_as_in_eval_mode_and_is_left_as_it_was() -> None:
    x, y = torch.rand(40, 3, 4, 4), torch.arange(40) % 2
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Dropout(0.9), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = answer(model, x, x[:, None].flip(0), y)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    classes = model.eval()(x).argmax(dim=1)
    assert found.right.tolist() == (classes == y).double().tolist()
    assert found.flipped[:, 0].tolist() == (classes.flip(0) != classes).double().tolist()


def test_a_probe_that_changes_nothing_flips_nothing() -> None:
    found = reliance_of(lambda image, donor, draw: image, by_shape, by_color)
    assert (found.flips_global, found.flips_personal, found.delta.value) == (0, 0, 0)


def test_every_number_of_a_comparison_by_hand() -> None:
    """Four images with two donors each; the two models differ in everything that is measured."""
    reference = Answers(
        right=np.array([1.0, 1, 1, 0]),
        still_right=np.array([[1.0, 1], [1, 0], [1, 1], [0, 1]]),
        flipped=np.array([[0.0, 0], [0, 1], [0, 0], [0, 1]]),
    )
    personal = Answers(
        right=np.array([1.0, 1, 1, 1]),
        still_right=np.array([[1.0, 0], [0, 0], [1, 0], [0, 1]]),
        flipped=np.array([[0.0, 1], [1, 1], [0, 1], [1, 0]]),
    )
    y, donors = torch.tensor([0, 0, 0, 1]), torch.tensor([[1, 2], [1, 2], [1, 2], [0, 2]])
    found = compare_answers(reference, personal, y, donors)
    assert (found.acc_global, found.acc_personal, found.change.value) == (3 / 4, 1, 1 / 4)
    assert (found.probed_global, found.probed_personal) == (6 / 8, 3 / 8)
    assert (found.flips_global, found.flips_personal) == (2 / 8, 5 / 8)
    assert found.disparity_global.value == pytest.approx(3 / 4 - 6 / 8)
    assert found.disparity_personal.value == pytest.approx(1 - 3 / 8)
    assert found.delta.value == found.delta_of_set.value == pytest.approx(5 / 8)
    # Of class 0 the probed answers change by (0, -1, 0) with attribute 1 and by (-1, 0, -1) with 2: means
    # -1/3 and -2/3, whose variance is 1/18; within them 4/3 over 4 degrees of freedom explain 1/9 of it.
    assert (found.delta_of_set.low, found.delta_of_set.high) == (found.delta.low, found.delta.high)
    # With donors that explain every answer the limits are wider, by a variance of (3/4)^2 / 2.
    donors = torch.tensor([[1, 2], [2, 1], [1, 2], [0, 2]])
    wide = compare_answers(reference, personal, y, donors)
    rise = np.array([1 / 2, 1 / 2, 1 / 2, 1])
    expected = paired_interval(rise, more_variance=(3 / 4) ** 2 / 2)
    assert (wide.delta_of_set.low, wide.delta_of_set.high) == pytest.approx(expected)
    assert (wide.delta.low, wide.delta.high) == pytest.approx(paired_interval(rise))


def test_attributes_that_differ_widen_what_a_test_set_may_show() -> None:
    """By hand. Class 0, three quarters: always wrong with attribute 1, never with 2, which varies by 1/2."""
    labels = np.array([0, 0, 0, 1])
    donors = np.array([[1, 2], [1, 2], [2, 1], [0, 2]])
    answers = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert attribute_variance(answers, labels, donors) == pytest.approx((3 / 4) ** 2 / 2)
    assert attribute_variance(answers[:, :1], labels, np.array([[1], [1], [1], [0]])) == 0  # one other class


def test_the_variance_between_attributes_is_not_that_of_few_images() -> None:
    """Means of known variance, seen through answers that are right or wrong: right on average."""
    rng, found, true = np.random.default_rng(0), [], []
    for _ in range(400):
        shares = rng.uniform(0.1, 0.9, 5)  # of the donor classes 1 to 5
        donors = rng.integers(1, 6, (12, 3))
        answers = (rng.random((12, 3)) < shares[donors - 1]).astype(float)
        found.append(attribute_variance(answers, np.zeros(12, dtype=int), donors))
        true.append(np.var(shares, ddof=1))
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.1)


@pytest.mark.parametrize(("gained", "lost", "count"), [(9, 2, 30), (0, 0, 12), (5, 5, 10), (1, 0, 1)])
def test_the_paired_interval_is_agresti_and_mins(gained: int, lost: int, count: int) -> None:
    """Their adjusted interval for a difference of paired proportions: half a sample more in every cell."""
    values = np.array([1.0] * gained + [-1.0] * lost + [0.0] * (count - gained - lost))
    more, less, total = gained + 0.5, lost + 0.5, count + 2
    center = (more - less) / total
    half = norm.ppf(0.975) * math.sqrt(more + less - (more - less) ** 2 / total) / total
    assert paired_interval(values) == pytest.approx((center - half, center + half), abs=1e-12)
