"""A planned federation, and the one way from a plan to split files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.split_files.meta import (
    ClientMeta,
    SplitInfo,
    SplitMeta,
    client_name,
    meta_path,
    read_meta,
    write_meta,
)
from data_partition.split_files.samples import Samples, alignment, count_groups
from data_partition.split_files.writer import SplitWriter
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError

Progress = Callable[[int, int], None]
"""Called with the work done so far and the whole of it."""


@dataclass(frozen=True)
class PlannedSamples:
    """Some samples of one client: ``rows`` of the raw data, all arrays of shape (n,)."""

    rows: IndexArray
    label: IndexArray
    spurious: IndexArray


@dataclass(frozen=True)
class PlannedClient:
    """What one client gets.

    Attributes:
        classes: its classes.
        splits: split -> its samples there.
        color_map: class -> spurious value that goes with it; None where alignment follows no map.
        conflict_map: class -> spurious value of its bias-conflicting test copies; None without a map.
    """

    classes: Sequence[int]
    splits: Mapping[str, PlannedSamples]
    color_map: dict[int, int] | None = None
    conflict_map: dict[int, int] | None = None


ImageReader = Callable[[PlannedSamples], npt.NDArray[np.uint8]]
"""Gives the images of some samples of one client, in 0..255, shape (n, H, W, 3)."""


@dataclass(frozen=True)
class Federation:
    """A planned federation.

    Attributes:
        info: what is known of it before its samples are written.
        clients: what each client gets.
        source: number of the raw sample of each row, shape (N,).
        images: for a folder of split files, the reader of each client's images, one client after the other;
            None where only the counts are asked for.
        work: steps of work on the images of each client, where they are not one each.
        work_done: steps that went into the plan.
        compress: gzip the images.
    """

    info: SplitInfo
    clients: Sequence[PlannedClient]
    source: IndexArray
    images: Callable[[Path], AbstractContextManager[Iterator[ImageReader]]] | None
    work: Sequence[float] | None = None
    work_done: float = 0
    compress: bool = True


def write_federation(
    federation: Federation, out: Path, *, progress: Progress | None = None, overwrite: bool = False
) -> Path:
    """Write the split files of a federation, or its description alone where it has no images.

    Args:
        federation: what to write.
        out: folder for the files.
        progress: told after each client.
        overwrite: replace splits of the same name.

    Returns:
        Path of the description, ``NAME_meta.json``.

    Raises:
        InputError: ``out`` holds splits of that name, or an image cannot be read.
        RunError: the files could not be written.
    """
    if federation.images is None:
        return _write_counts(federation, out)
    work = federation.work or [1] * len(federation.clients)
    done = federation.work_done
    total = round(done + sum(work))
    with (
        federation.images(out) as readers,
        SplitWriter(out, federation.info, overwrite=overwrite, compress=federation.compress) as writer,
    ):
        for number, (client, read) in enumerate(zip(federation.clients, readers, strict=True)):
            _write_client(writer, number, client, read, federation.source)
            done += work[number]
            if progress is not None:
                progress(min(round(done), total), total)
    return meta_path(out, federation.info.name)


def _write_client(
    writer: SplitWriter, number: int, client: PlannedClient, read: ImageReader, source: IndexArray
) -> None:
    client_id = client_name(number)
    writer.add_client(
        client_id, classes=client.classes, color_map=client.color_map, conflict_map=client.conflict_map
    )
    for split, planned in client.splits.items():
        image = read(planned) if len(planned.rows) else Samples.empty(writer.info.image_shape).image
        aligned = alignment(planned.label, planned.spurious, client.color_map, writer.info.conflicting_groups)
        samples = Samples(image, planned.label, planned.spurious, aligned, source[planned.rows])
        writer.write(client_id, split, samples)


def _write_counts(federation: Federation, out: Path) -> Path:
    """Write the description alone."""
    info = federation.info
    path = meta_path(out, info.name)
    if path.exists() and read_meta(path).files:
        raise InputError(f"{path}: describes split files that are there; use another folder for a dry run")
    clients = {client_name(number): _count(client) for number, client in enumerate(federation.clients)}
    return write_meta(out, SplitMeta.of(info, clients, files={}))


def _count(client: PlannedClient) -> ClientMeta:
    return ClientMeta(
        classes=tuple(client.classes),
        color_map=client.color_map,
        conflict_map=client.conflict_map,
        counts={split: len(planned.rows) for split, planned in client.splits.items()},
        groups={
            split: count_groups(planned.label, planned.spurious) for split, planned in client.splits.items()
        },
    )
