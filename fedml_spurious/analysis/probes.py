"""Probes: a suspected attribute of one image, put on another image of the same client.

A probe is ``transfer(image, donor, generator) -> image``; images have shape (C, H, W) and values in [0, 1].
The label of the image stays true, the attribute becomes that of the donor, an image of another class of the
client. What a model does to such images tells whether it relies on the attribute, without a bias-conflicting
sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedml_spurious.common.blame import describe_with_place
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.imports import import_object
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.words import counted

Probe = Callable[[Tensor, Tensor, np.random.Generator], Tensor]

DONORS = 3
"""Donors of an image."""
_TOLERANCE = 1e-6
"""How far a value of an own probe may lie outside [0, 1], by rounding."""


def color(image: Tensor, donor: Tensor, _: np.random.Generator) -> Tensor:
    """The image's grey version takes the colour of the donor.

    Grey is the largest channel of a pixel, which is the grey image itself where a colour was tinted with a
    channel of 1. Every channel is the grey version times that channel's share of the donor: the ratio of root
    mean squares of the channel and of the donor's grey version.

    Args:
        image: shape (C, H, W), values in [0, 1].
        donor: of the same shape.

    Returns:
        The image in the donor's colour.

    Examples:
        A red square in the colour of a half as bright green one is green, and as bright as it was.

        >>> red, green = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
        >>> red[0, 0, 0], green[1, 1, 1] = 1.0, 0.5
        >>> color(red, green, np.random.default_rng(0))[:, 0, 0]
        tensor([0., 1., 0.])
    """
    grey, donor_grey = image.amax(dim=0), donor.amax(dim=0)
    channels = donor.square().mean(dim=(1, 2)).sqrt()
    whole = donor_grey.square().mean().sqrt()
    shares = channels / whole if whole > 0 else torch.ones_like(channels)
    return (grey * shares[:, None, None]).clamp(0.0, 1.0)


def region(top: int, bottom: int, left: int, right: int) -> Probe:
    """A probe that pastes a box of the donor.

    Args:
        top: first row of the box.
        bottom: row behind its last.
        left: first column.
        right: column behind its last.

    Raises:
        InputError: the box is empty.
    """
    if not (0 <= top < bottom and 0 <= left < right):
        raise InputError(
            f"--probe region:{top},{bottom},{left},{right}: the box is empty; expected rows and columns from "
            "0, top below bottom and left below right"
        )

    def paste(image: Tensor, donor: Tensor, _: np.random.Generator) -> Tensor:
        height, width = image.shape[1:]
        if bottom > height or right > width:
            raise InputError(
                f"--probe region:{top},{bottom},{left},{right}: reaches beyond the images, which have "
                f"{counted(height, 'row')} and {counted(width, 'column')}"
            )
        pasted = image.clone()
        pasted[:, top:bottom, left:right] = donor[:, top:bottom, left:right]
        return pasted

    return paste


def find_probe(name: str) -> Probe:
    """A probe by its name: ``colour``, ``region:T,B,L,R`` or ``module:function``.

    Raises:
        InputError: there is no such probe.
    """
    if name in ("colour", "color"):
        return color
    kind, _, rest = name.partition(":")
    if kind == "region":
        numbers = rest.split(",")
        if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
            raise InputError(
                f"--probe {name}: expected region:TOP,BOTTOM,LEFT,RIGHT in pixels, such as region:0,4,0,4 "
                "for the upper left corner"
            )
        top, bottom, left, right = map(int, numbers)
        return region(top, bottom, left, right)
    if not rest:
        raise InputError(
            f"--probe: unknown probe {name!r}; expected colour, region:T,B,L,R or module:function"
        )
    found = import_object(name, where="--probe", beside="in the current folder")
    if not callable(found):
        raise InputError(f"--probe: {name} is a {type(found).__name__}, expected a function")
    return found


def require_image(name: str, result: object, image: Tensor) -> Tensor:
    """Make sure that a probe gave an image.

    Args:
        name: of the probe.
        result: what it gave.
        image: what it was given.

    Raises:
        InputError: it is no tensor, has another shape or type, or values outside [0, 1].
    """
    problem = ""
    if not isinstance(result, Tensor):
        problem = f"a {type(result).__name__}"
    elif result.shape != image.shape or result.dtype != image.dtype:
        problem = f"{result.dtype} of shape {tuple(result.shape)}"
    elif not bool(((result >= -_TOLERANCE) & (result <= 1 + _TOLERANCE)).all()):  # NaN is in no range
        problem = f"values from {float(result.min()):.3g} to {float(result.max()):.3g}"
    if problem:
        raise InputError(
            f"--probe {name}: gave {problem}; expected {image.dtype} of shape {tuple(image.shape)} with "
            "values in [0, 1], as the image that it was given"
        )
    assert isinstance(result, Tensor)
    return result.clamp(0.0, 1.0)


def choose_donors(y: Tensor, *, seed: int, client: int, donors: int = DONORS) -> Tensor:
    """Donors of every image: images of another class of the client, drawn with replacement.

    Args:
        y: classes, shape (N,), at least two different ones.
        seed: of the draws.
        client: place of the client among all, which addresses its draws.
        donors: number of donors of an image, D.

    Returns:
        Rows of the donors, shape (N, D).

    Raises:
        ValueError: all images are of one class.
    """
    labels = y.cpu().numpy()
    if len(np.unique(labels)) < 2:
        raise ValueError("all images are of one class; a donor is of another class than its image")
    chosen = np.empty((len(labels), donors), dtype=np.int64)
    for row, label in enumerate(labels):
        draw = generator(seed, Purpose.AUDIT_DONORS, client, row)
        chosen[row] = draw.choice(np.flatnonzero(labels != label), size=donors)
    return torch.from_numpy(chosen)


def transfer_all(name: str, probe: Probe, x: Tensor, donors: Tensor, *, seed: int, client: int) -> Tensor:
    """Every image with the attribute of each of its donors.

    Args:
        name: of the probe, for messages.
        probe: the probe.
        x: images, shape (N, C, H, W), values in [0, 1].
        donors: rows of the donors, shape (N, D).
        seed: of the draws.
        client: place of the client among all, which addresses its draws.

    Returns:
        Shape (N, D, C, H, W).

    Raises:
        InputError: the probe failed, or gave no image.
    """
    images = []
    for row, own in enumerate(donors.tolist()):
        for place, donor in enumerate(own):
            draw = generator(seed, Purpose.AUDIT_PROBE, client, row, place)
            images.append(require_image(name, _apply(name, probe, x[row], x[donor], draw), x[row]))
    return torch.stack(images).reshape(*donors.shape, *x.shape[1:])


def _apply(name: str, probe: Probe, image: Tensor, donor: Tensor, draw: np.random.Generator) -> object:
    """What a probe gives of copies, which it may change."""
    try:
        return probe(image.clone(), donor.clone(), draw)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's code can raise anything
        raise InputError(
            f"--probe {name}: fails with {describe_with_place(error)}; it is called "
            f"with an image and a donor of shape {tuple(image.shape)} and a NumPy generator"
        ) from error
