"""What the loaders of a FedML data list hold, as arrays; reads them without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError

Pixels = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
Loaders = Mapping[int, Iterable[Any]]


@dataclass(frozen=True)
class LoaderSamples:
    """Samples of loaders.

    Attributes:
        image: uint8, shape (N, H, W, 3).
        label: classes, shape (N,).
        client: FedML's index of the client, shape (N,).
        part: 0 for samples of the training loaders, 1 for those of the test loaders, shape (N,).
    """

    image: npt.NDArray[np.uint8]
    label: IndexArray
    client: IndexArray
    part: IndexArray


def read_loaders(dataset: Sequence[Any] | Loaders, pixels: Pixels | None) -> LoaderSamples:
    """Read a FedML data list, or the training loaders of one alone.

    Args:
        dataset: FedML's list of eight, or ``train_data_local_dict``: loaders by client index.
        pixels: brings a batch's images back to [0, 1], where the loader normalises them.

    Raises:
        InputError: it is neither, or a batch holds no such images and classes.
    """
    parts = _parts_of(dataset)
    images, labels, clients, numbers = [], [], [], []
    for number, loaders in enumerate(parts):
        for index in sorted(loaders):
            for batch in loaders[index] or ():
                image, label = _batch(batch, index, pixels)
                images.append(image)
                labels.append(label)
                clients.append(np.full(len(label), index))
                numbers.append(np.full(len(label), number))
    if not images:
        raise InputError("FedML data: no client's loader holds a sample")
    shapes = {image.shape[1:] for image in images}
    if len(shapes) > 1:
        raise InputError(f"FedML data: expected images of one size, got {sorted(shapes)}")
    joined = (np.concatenate(parts).astype(np.int64) for parts in (labels, clients, numbers))
    return LoaderSamples(np.concatenate(images), *joined)


def _parts_of(dataset: Sequence[Any] | Loaders) -> list[Loaders]:
    if isinstance(dataset, Mapping):
        return [dataset]
    if len(dataset) == 8 and isinstance(dataset[5], Mapping) and isinstance(dataset[6], Mapping):
        return [dataset[5], dataset[6]]
    raise InputError(
        "FedML data: expected the list of eight that FedML's loaders give, with the clients' training and "
        "test loaders in places 5 and 6, or a dictionary of loaders by client index; got "
        f"{type(dataset).__name__}"
    )


def _batch(batch: Any, index: int, pixels: Pixels | None) -> tuple[npt.NDArray[np.uint8], IndexArray]:
    try:
        image, label = np.asarray(batch[0]), np.asarray(batch[1])
    except (TypeError, IndexError, KeyError, ValueError) as error:
        raise InputError(
            f"FedML data: client {index}: a batch is no pair of images and classes ({error})"
        ) from None
    if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer) or len(label) != len(image):
        raise InputError(
            f"FedML data: client {index}: expected a class from 0 for each image, got classes of type "
            f"{label.dtype} and shape {label.shape} for images of shape {image.shape}"
        )
    return _to_bytes(pixels(image) if pixels else image, index), label.astype(np.int64)


def _to_bytes(image: npt.NDArray[Any], index: int) -> npt.NDArray[np.uint8]:
    """Images of shape (B, C, H, W), (B, H, W) or flat (B, side * side), as uint8 (B, H, W, 3)."""
    side = round(image[0].size ** 0.5)
    if image.ndim == 2 and side * side == image.shape[1]:
        image = image.reshape(len(image), side, side)
    if image.ndim == 3:
        image = image[:, None]
    if image.ndim != 4 or image.shape[1] not in (1, 3):
        raise InputError(
            f"FedML data: client {index}: expected images (B, 1 or 3, H, W), (B, H, W) or flat squares, got "
            f"{image.shape}"
        )
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        if low < 0 or high > 1:
            raise InputError(
                f"FedML data: client {index}: expected values in [0, 1], got {low:g} to {high:g}: the loader "
                "normalises; give from_fedml(pixels=...), a function that brings a batch back to [0, 1]"
            )
        image = np.rint(image * 255).astype(np.uint8)
    return np.repeat(image, 3 // image.shape[1], axis=1).transpose(0, 2, 3, 1)
