"""A few images of a client, small and inlined: aligned with its bias, and conflicting with it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SplitMeta
from data_partition.split_files.samples import Samples
from fedml_spurious.common.arrays import IndexArray

SHOWN = 6
"""Images of a kind."""
_CELL, _GAP, _QUALITY = 32, 2, 70  # pixels, pixels, of 100


@dataclass(frozen=True)
class Strip:
    """Images side by side.

    Attributes:
        kind: what they have in common.
        source: data link.
        caption: class and spurious value of each.
        width: in pixels.
        height: in pixels.
    """

    kind: str
    source: str
    caption: str
    width: int
    height: int = _CELL


def strips(splits: SplitFolder, client: str) -> tuple[Strip, ...]:
    """A strip of aligned training images, and one of bias-conflicting test images, where there are any."""
    train = splits.load(client, "train")
    found = [
        _strip("aligned", train.select(train.aligned == 1), splits.meta),
        _strip("conflicting", splits.load(client, "test_bc"), splits.meta),
    ]
    return tuple(strip for strip in found if strip)


def _strip(kind: str, samples: Samples, meta: SplitMeta) -> Strip | None:
    rows = _spread_over_classes(samples.label)
    if not len(rows):
        return None
    canvas = Image.new("RGB", (len(rows) * (_CELL + _GAP) - _GAP, _CELL), (128, 128, 128))
    for column, row in enumerate(rows):
        cell = Image.fromarray(samples.image[row]).resize((_CELL, _CELL), Image.Resampling.BILINEAR)
        canvas.paste(cell, (column * (_CELL + _GAP), 0))
    stream = io.BytesIO()
    canvas.save(stream, format="WEBP", quality=_QUALITY)
    names = [
        f"{meta.class_names[samples.label[row]]} {meta.spurious_names[samples.spurious[row]]}" for row in rows
    ]
    link = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return Strip(kind, link, ", ".join(names), canvas.width)


def _spread_over_classes(labels: IndexArray) -> IndexArray:
    """The first sample of every class, then the second, and so on, at most as many as are shown."""
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        turn[own] = np.arange(len(own))
    chosen: IndexArray = np.lexsort((labels, turn))[:SHOWN]
    return chosen
