"""Which images of CelebA can be used: those of the wanted official split that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_partition.celeba.images import ImageSource, describe_missing, find_images
from data_partition.celeba.labels import CelebALabels
from data_partition.celeba.options import MissingImages, RawSplit
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError

_PARTITION = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Usable:
    """Images that a federation may be made of.

    Attributes:
        rows: rows of the label files, increasing, shape (M,).
        source: of the images; None where only counts are asked for.
        left_out: kind of image or celebrity -> how many cannot be used.
        notes: what a user of the data should know.
    """

    rows: IndexArray
    source: ImageSource | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def usable_images(
    labels: CelebALabels,
    folder: Path,
    raw_split: RawSplit,
    missing_images: MissingImages,
    *,
    dry_run: bool,
) -> Usable:
    """Find the images that can be used.

    Args:
        labels: of all images.
        folder: torchvision's folder ``celeba``.
        raw_split: official split to use.
        missing_images: what to do about images that the label files describe and that are not there;
            skip leaves out every celebrity of whom an image is missing.
        dry_run: count only; the images are looked for only where missing ones are to be skipped.

    Raises:
        InputError: images are missing and may not be skipped, or none is left.
    """
    rows = np.arange(len(labels.male), dtype=np.int64)
    left_out = {}
    if raw_split != "all":
        assert labels.partition is not None  # read, where a split of it is asked for
        rows = np.flatnonzero(labels.partition == _PARTITION[raw_split]).astype(np.int64)
        left_out["images_of_other_official_splits"] = len(labels.male) - len(rows)
    if dry_run and missing_images == "refuse":
        return Usable(rows, None, left_out)
    source, present = find_images(folder)
    absent = ~np.isin(rows + 1, present)
    if not absent.any():
        return Usable(rows, None if dry_run else source, left_out)
    missing = rows[absent]
    description = describe_missing(source, (missing + 1).tolist(), len(rows))
    if missing_images == "refuse":
        raise InputError(
            f"{description}. Put them there, or build with {advice.option('missing_images', 'skip')} "
            "from the celebrities whose images are all there"
        )
    incomplete = np.unique(labels.identity[missing])
    complete = ~np.isin(labels.identity[rows], incomplete)
    if not complete.any():
        raise InputError(f"{description}, and there is no celebrity whose images are all there")
    who = "1 celebrity is" if len(incomplete) == 1 else f"{len(incomplete)} celebrities are"
    note = f"{who} skipped because images of them are missing"
    left_out["images_missing"] = len(missing)
    left_out["identities_with_missing_images"] = len(incomplete)
    left_out["images_of_identities_with_missing_images"] = int((~complete & ~absent).sum())
    return Usable(rows[complete], None if dry_run else source, left_out, (note,))
