"""Plans a federation of coloured images: what MNIST and Coil20 share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from data_partition.colored.coloring import rgb_of, tint
from data_partition.colored.options import ColoredOptions
from data_partition.colored.plan import plan_clients, plan_shared_map
from data_partition.split_files.federation import Federation, PlannedSamples
from data_partition.split_files.meta import SPLITS, SplitInfo
from fedml_spurious.common.arrays import IndexArray


@dataclass(frozen=True)
class GreyImages:
    """The raw samples of a data set.

    Attributes:
        grey: grey values 0..255, black background, shape (N, H, W).
        label: classes 0..K-1, shape (N,).
        source: numbers of the raw samples, shape (N,).
        class_names: one per class.
        checksums: file name -> SHA-256.
    """

    grey: npt.NDArray[np.uint8]
    label: IndexArray
    source: IndexArray
    class_names: tuple[str, ...]
    checksums: dict[str, str]


def plan_colored(
    name: str, options: ColoredOptions, raw: GreyImages, *, notes: Sequence[str] = ()
) -> Federation:
    """Plan a federation of coloured images.

    Args:
        name: of the data set.
        options: of the federation.
        raw: the samples.
        notes: what a user of the files should know.

    Raises:
        InputError: the options ask for more than there is.
    """
    num_classes = len(raw.class_names)
    shared = plan_shared_map(options, num_classes)
    clients = plan_clients(raw.label, num_classes, shared, options)
    used = sum(len(client.splits[split].rows) for client in clients for split in SPLITS[:3])
    info = SplitInfo(
        name=name,
        seed=options.seed,
        options=options.model_dump(mode="json"),
        num_classes=num_classes,
        image_shape=(raw.grey.shape[1], raw.grey.shape[2], 3),
        class_names=raw.class_names,
        spurious_names=options.color_names,
        raw=raw.checksums,
        shared_map=None if shared is None else dict(enumerate(shared.tolist())),
        notes=tuple(notes),
        left_out={"images": len(raw.label) - used} if used < len(raw.label) else {},
    )
    rgb = rgb_of(options.color_names)

    def paint(samples: PlannedSamples) -> npt.NDArray[np.uint8]:
        return tint(raw.grey[samples.rows], rgb[samples.spurious])

    return Federation(info, clients, raw.source, lambda _: nullcontext(repeat(paint, len(clients))))
