"""Colour twins against models that look at the colour alone, at the shape alone, and at neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_partition.colored.coloring import rgb_of, tint
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.samples import Samples
from fedml_spurious.analysis.twins import ColorTwins, is_palette, recolored
from fedml_spurious.common.errors import InputError

PALETTE = ("red", "green", "blue", "white")
COLOR_MAP = {0: 2, 1: 0}  # red is class 1 and blue class 0; green and white are nobody's
CPU = torch.device("cpu")


def samples() -> Samples:
    """Class 0 is lit on the left and class 1 on the right; the third image conflicts with the map."""
    grey = np.zeros((3, 2, 4), dtype=np.uint8)
    grey[[0, 2], :, :2] = 100
    grey[1, :, 2:] = 77
    spurious = np.array([2, 0, 0])
    return Samples(
        image=tint(grey, rgb_of(PALETTE)[spurious]),
        label=np.array([0, 1, 0]),
        spurious=spurious,
        aligned=np.array([1, 1, 0], dtype=np.uint8),
        source=np.arange(3),
    )


class LooksAt(nn.Module):
    """Gives class 1 where the right half is lit (shape) or is red (colour), or always class 0 or 2."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        right = x[..., 2:].sum(dim=(1, 2, 3)) > 0
        none = torch.zeros_like(right)
        one = {"shape": right, "color": x[:, 0].amax(dim=(1, 2)) > 0}.get(self.what, none)
        other = ~none if self.what == "neither" else none
        return torch.stack([~one & ~other, one, other], dim=1).float()


def measure(what: str) -> dict[str, float | int | None]:
    return ColorTwins(samples(), PALETTE, COLOR_MAP, CPU).measure(LooksAt(what))


def test_a_model_of_the_shape_flips_nothing() -> None:
    found = measure("shape")
    assert found["images"] == 3
    assert found["flip_map"] == found["flip_palette"] == found["agree_color"] == 0
    assert found["acc_own"] == 1
    assert [found[name] for name in ("agree_shape", *(f"acc_{color}" for color in PALETTE))] == [1] * 5


def test_a_model_of_the_colour_agrees_with_the_colour() -> None:
    """By hand: white has red in it, so that every image changes in two of its three other colours."""
    found = measure("color")
    assert found["flip_map"] == 1  # blue to red, and red to blue
    assert found["flip_palette"] == pytest.approx((2 + 2 + 2) / 9)
    assert (found["agree_shape"], found["agree_color"]) == (0, 1)
    assert found["acc_own"] == pytest.approx(2 / 3)  # the third image has the colour of the other class
    accuracies = [found[f"acc_{color}"] for color in PALETTE]
    assert accuracies == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1 / 3])


def test_a_model_of_a_third_class_agrees_with_nothing() -> None:
    found = measure("neither")
    assert found["agree_shape"] == found["agree_color"] == found["acc_own"] == 0


def test_a_model_in_training_is_measured_in_eval_mode_and_left_as_it_was() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Dropout(0.9), nn.Linear(8, 2))
    twins = ColorTwins(samples(), PALETTE, COLOR_MAP, CPU)
    found = [twins.predictions(model) for _ in range(20)]
    assert all(module.training for module in model.modules())
    expected = twins.predictions(model.eval())
    assert all(np.array_equal(one, expected) for one in found)


def test_a_model_of_one_class() -> None:
    """Three conflicting twins: two red ones of class 0 and the blue one of class 1; all get class 0."""
    found = measure("nothing")
    assert found["flip_palette"] == 0
    assert (found["agree_shape"], found["agree_color"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_a_twin_in_its_own_colour_is_the_image(splits: Path) -> None:
    folder = SplitFolder(splits)
    given = folder.load("0001", "test")
    palette = folder.meta.spurious_names
    np.testing.assert_array_equal(recolored(given, given.spurious, palette), given.image)
    copies = folder.load("0001", "test_bc")
    # The conflicting test set has the same shapes in other colours of the map.
    np.testing.assert_array_equal(recolored(given, copies.spurious, palette), copies.image)


def test_what_is_no_tint_is_refused() -> None:
    given = samples()
    given.image[0, 0, 0] = (9, 8, 7)
    with pytest.raises(InputError, match="not grey images in the colours"):
        ColorTwins(given, PALETTE, COLOR_MAP, CPU)
    assert is_palette(PALETTE)
    assert not is_palette(("not blond", "blond"))
    assert not is_palette(())


def test_a_client_without_images_has_no_shares() -> None:
    found = ColorTwins(Samples.empty((2, 4, 3)), PALETTE, COLOR_MAP, CPU).measure(LooksAt("shape"))
    assert found.pop("images") == 0
    assert set(found.values()) == {None}
