"""Colour twins: every test image of a client in every colour, and what a model makes of them.

A twin differs from its image in the colour alone, so that a changed prediction is due to the colour. The
conflicting twins have a colour that the client ties to another class: there a model can agree with the shape,
with the colour, or with neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data_partition.colored.coloring import PALETTE, rgb_of, tint
from data_partition.split_files.samples import Samples
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.metrics import EVALUATION_BATCH
from fedml_spurious.learning.modes import frozen


def is_palette(spurious_names: Sequence[str]) -> bool:
    """Whether the values of a spurious feature are colours that images can be tinted with."""
    return bool(spurious_names) and all(name in PALETTE for name in spurious_names)


def recolored(samples: Samples, colors: IndexArray, palette: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The samples' images in other colours.

    Args:
        samples: tinted images, shape (n, H, W, 3), and their colours.
        colors: new colour of each, as an index into the palette, shape (n,).
        palette: names of the colours.

    Returns:
        Images, uint8, shape (n, H, W, 3); where a colour is the old one, the old image.

    Raises:
        InputError: the images are not grey images in these colours.
    """
    rgb = rgb_of(palette)
    grey = samples.image.max(axis=-1)  # every colour has a channel of 255
    if not np.array_equal(tint(grey, rgb[samples.spurious]), samples.image):
        raise InputError(
            "analysis_args.record: the images are not grey images in the colours that the split files name, "
            "so they have no twins; leave twins out, and divergence where it is recorded"
        )
    return tint(grey, rgb[colors])


class ColorTwins:
    """The twins of one client's test images.

    Args:
        samples: the biased test images.
        palette: names of the colours.
        color_map: class -> colour that goes with it on this client.
        device: where to compute.

    Raises:
        InputError: see :func:`recolored`.
    """

    def __init__(
        self, samples: Samples, palette: Sequence[str], color_map: Mapping[int, int], device: torch.device
    ) -> None:
        self._samples, self._palette, self._device = samples, palette, device
        colors = np.arange(len(palette))
        self._images = [recolored(samples, np.full(len(samples), color), palette) for color in colors]
        own = samples.spurious[None]
        tied = np.full(len(palette), -1)  # class that the client ties to a colour; -1 for none
        for label, color in color_map.items():
            tied[color] = label
        self._tied = np.broadcast_to(tied[:, None], (len(palette), len(samples)))
        self._is_other = colors[:, None] != own
        in_map = (tied >= 0)[:, None]
        self._is_other_of_map = self._is_other & in_map
        self._is_conflicting = in_map & (tied[:, None] != samples.label[None])

    def predictions(self, model: nn.Module) -> IndexArray:
        """Classes that the model gives to the twins, shape (colours, n); the model is left as it was."""
        found = []
        with frozen(model), torch.no_grad():
            for images in self._images:
                x, _ = to_tensors(images, self._samples.label, self._device)
                parts = [model(part).argmax(dim=1).cpu() for part in torch.split(x, EVALUATION_BATCH)]
                found.append(torch.cat(parts).numpy())
        return np.stack(found)

    def measure(self, model: nn.Module) -> dict[str, float | int | None]:
        """Cells of a row of ``twins.csv``: shares in [0, 1], None where no twin is of the kind.

        ``flip_map`` and ``flip_palette``: twins in the other colours of the client's map, and of the palette,
        that get another class than their image. ``agree_shape`` and ``agree_color``: conflicting twins that
        get the class of their shape, and the class that the client ties to their colour. ``acc_own`` and
        ``acc_<colour>``: images that get the class of their shape in their own and in this colour.
        """
        predicted = self.predictions(model)
        own = predicted[self._samples.spurious, np.arange(len(self._samples))][None]
        label = self._samples.label[None]
        cells: dict[str, float | int | None] = {
            "images": len(self._samples),
            "flip_map": _share(predicted != own, self._is_other_of_map),
            "flip_palette": _share(predicted != own, self._is_other),
            "agree_shape": _share(predicted == label, self._is_conflicting),
            "agree_color": _share(predicted == self._tied, self._is_conflicting),
            "acc_own": _share(own == label, np.ones_like(label, dtype=np.bool_)),
        }
        for name, correct in zip(self._palette, predicted == label, strict=True):
            cells[f"acc_{name}"] = _share(correct, np.ones_like(correct))
        return cells


def _share(hits: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> float | None:
    """Share of hits among the chosen; None where none is chosen."""
    count = int(among.sum())
    return int((hits & among).sum()) / count if count else None
