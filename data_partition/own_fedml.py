"""The data of a FedML program as client split files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_partition.dealing import divide_into_splits
from data_partition.loaders import Loaders, LoaderSamples, Pixels, read_loaders
from data_partition.own_arrays import Images, write_splits
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator


def from_fedml(
    out: Path,
    name: str,
    dataset: Sequence[Any] | Loaders,
    spurious: Callable[[Images, int], int],
    *,
    pixels: Pixels | None = None,
    validation: int = 10,
    ratios: tuple[int, int, int] = (72, 8, 20),
    conflicting_groups: Sequence[tuple[int, int]] | None = None,
    class_names: Sequence[str] | None = None,
    spurious_names: Sequence[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the data of a FedML program as client split files; see :func:`write_splits`.

    FedML's test loaders become the biased test sets, and their bias-conflicting samples the bias-conflicting
    ones. Client k of the files is the one with the k-th smallest index.

    Args:
        out: folder for the files.
        name: of the data set.
        dataset: the list of eight that FedML's loaders give, or ``train_data_local_dict`` alone; batches are
            images (B, 1 or 3, H, W) in [0, 1] and classes (B,).
        spurious: gives the value of the spurious feature, from 0, of an image, uint8
            (H, W, 3), and its class.
        pixels: brings a batch's images, an array, back to [0, 1], where the loader normalises them.
        validation: per cent of a client's training samples that become its validation split, stratified by
            class, where there are test loaders.
        ratios: train:val:test on every client, where there are none.
        conflicting_groups: see :func:`write_splits`.
        class_names: one per class.
        spurious_names: one per value of the spurious feature.
        seed: of the draw.
        overwrite: replace splits of this name.

    Returns:
        Path of the description.

    Raises:
        InputError: the data are no such list, or the values do not fit.
        RunError: the files could not be written.
    """
    samples = read_loaders(dataset, pixels)
    values = [spurious(image, int(y)) for image, y in zip(samples.image, samples.label, strict=True)]
    split = None
    if samples.part.any():
        if not 1 <= validation <= 99:
            raise InputError(f"validation: is {validation}; expected a whole per cent from 1 to 99")
        split = _with_validation(samples, validation, seed)
    return write_splits(
        out,
        name,
        image=samples.image,
        label=samples.label,
        spurious=values,
        client=samples.client,
        split=split,
        ratios=ratios,
        conflicting_groups=conflicting_groups,
        class_names=class_names,
        spurious_names=spurious_names,
        seed=seed,
        overwrite=overwrite,
    )


def _with_validation(samples: LoaderSamples, percent: int, seed: int) -> npt.NDArray[np.str_]:
    """Split names of samples that come as training and test samples."""
    split = np.where(samples.part == 0, "train", "test")
    for index in np.unique(samples.client):
        rng = generator(seed, Purpose.PARTITION_SPLITS, int(index))
        rows = np.flatnonzero((samples.client == index) & (samples.part == 0))
        parts = [rng.permutation(rows[samples.label[rows] == y]) for y in np.unique(samples.label[rows])]
        if parts:
            _, chosen = divide_into_splits(parts, (100 - percent, percent), rng)
            split[chosen] = "val"
    return split
