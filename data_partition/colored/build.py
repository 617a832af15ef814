"""Writes a federation of coloured images: what MNIST and Coil20 share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.colored.coloring import rgb_of, tint
from data_partition.colored.options import ColoredOptions
from data_partition.colored.plan import Coloring, plan_clients, plan_shared_map
from data_partition.registry import Progress
from data_partition.split_files.meta import SplitInfo, client_name, meta_path
from data_partition.split_files.samples import Samples, alignment
from data_partition.split_files.writer import SplitWriter, already_there
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


def write_colored(
    name: str,
    options: ColoredOptions,
    raw: GreyImages,
    *,
    out: Path,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Plan a federation of coloured images and write its split files.

    Args:
        name: of the data set.
        options: of the federation.
        raw: the samples.
        out: folder for the files.
        notes: what a user of the files should know.
        progress: told after each client.
        overwrite: replace splits made with other options.

    Returns:
        Path of the description.

    Raises:
        InputError: the options ask for more than there is, or ``out`` holds other splits.
        RunError: the files could not be written.
    """
    num_classes = len(raw.class_names)
    plans = plan_clients(raw.label, num_classes, options)
    used = sum(len(plan.splits[split].rows) for plan in plans for split in ("train", "val", "test"))
    shared = plan_shared_map(options, num_classes)
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
    existing = already_there(out, info, overwrite=overwrite)
    if existing is not None:
        return existing
    rgb = rgb_of(options.color_names)
    with SplitWriter(out, info, overwrite=overwrite) as writer:
        for client, plan in enumerate(plans):
            client_id = client_name(client)
            writer.add_client(
                client_id,
                classes=plan.classes,
                color_map=plan.color_map,
                conflict_map=plan.conflict_map,
            )
            for split, coloring in plan.splits.items():
                writer.write(client_id, split, _paint(coloring, plan.color_map, raw, rgb))
            if progress is not None:
                progress(client + 1, len(plans))
    return meta_path(out, name)


def _paint(
    coloring: Coloring, color_map: dict[int, int], raw: GreyImages, rgb: npt.NDArray[np.uint8]
) -> Samples:
    return Samples(
        image=tint(raw.grey[coloring.rows], rgb[coloring.spurious]),
        label=coloring.label,
        spurious=coloring.spurious,
        aligned=alignment(coloring.label, coloring.spurious, color_map, ()),
        source=raw.source[coloring.rows],
    )
