"""Your own data as client split files, from arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from data_partition.columns import by_number, places, stripped
from data_partition.dealing import divide_into_splits
from data_partition.options import check_ratios
from data_partition.split_files.federation import (
    Federation,
    PlannedClient,
    PlannedSamples,
    Progress,
    write_federation,
)
from data_partition.split_files.meta import MAX_VALUES, SPLITS, SplitInfo
from data_partition.split_files.samples import alignment
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.validation import describe_errors
from fedml_spurious.common.words import counted

Images = npt.NDArray[np.uint8]
RowReader = Callable[[IndexArray], Images]


@dataclass(frozen=True)
class _Columns:
    """What is known of each sample, shape (N,); ``client`` counts the sorted names in ``clients``."""

    label: IndexArray
    spurious: IndexArray
    client: IndexArray
    clients: tuple[str, ...]
    split: npt.NDArray[np.str_] | None
    notes: tuple[str, ...] = ()


def write_splits(
    out: Path,
    name: str,
    *,
    image: Images | RowReader,
    label: npt.ArrayLike,
    spurious: npt.ArrayLike,
    client: npt.ArrayLike,
    split: npt.ArrayLike | None = None,
    conflicting_groups: Sequence[tuple[int, int]] | None = None,
    class_names: Sequence[str] | None = None,
    spurious_names: Sequence[str] | None = None,
    ratios: tuple[int, int, int] = (72, 8, 20),
    seed: int = 0,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Write samples of your own as client split files.

    A sample is bias-conflicting when its (label, spurious) pair is one of ``conflicting_groups``; without
    them, when its client shows another value of the spurious feature more often with its class. The
    bias-conflicting test set of a client is a copy of the bias-conflicting samples of its biased test set,
    unless ``split`` names samples for it.

    Args:
        out: folder for the files.
        name: of the data set: letters, digits, ``-`` and ``_``.
        image: uint8, shape (N, H, W, 3) or grey (N, H, W); or a function that gives such images for an
            array of rows, so that they need not fit into memory at once.
        label: class of each sample, 0..K-1, shape (N,).
        spurious: value of the spurious feature, from 0, shape (N,).
        client: name or number of the client of each sample, shape (N,); blanks around names do not count. The
            clients are in the order of their numbers, names by the alphabet.
        split: ``train``, ``val``, ``test`` or ``test_bc`` for each sample, shape (N,); drawn by ``ratios``
            when absent.
        conflicting_groups: (label, spurious) pairs that are bias-conflicting on every client.
        class_names: one per class.
        spurious_names: one per value of the spurious feature.
        ratios: train:val:test on every client, stratified by class.
        seed: of the draw.
        notes: what a user of the files should know.
        progress: told after each client.
        overwrite: replace splits of this name.

    Returns:
        Path of the description, ``NAME_meta.json``.

    Raises:
        InputError: the arrays do not fit together, or ``out`` holds splits of this name.
        RunError: the files could not be written.

    Example:
        Class 0 is black (0) and class 1 white (1) on client "a", the other way round on client "b", and one
        sample in ten is an exception:

        >>> import tempfile
        >>> from data_partition.split_files import SplitFolder
        >>> client, label = np.repeat(["a", "b"], 20), np.tile([0, 1], 20)
        >>> exception = np.arange(40) % 20 < 2
        >>> spurious = label ^ (client == "b") ^ exception
        >>> image = np.multiply.outer(255 * spurious, np.ones((8, 8))).astype(np.uint8)
        >>> columns = {"label": label, "spurious": spurious, "client": client}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_splits(Path(folder), "greys", image=image, **columns)
        ...     splits = SplitFolder(path.parent)
        ...     for client_id in splits.client_ids:
        ...         aligned = splits.load(client_id, "train").aligned
        ...         print(client_id, splits.meta.clients[client_id].color_map, len(aligned), aligned.sum())
        0000 {0: 0, 1: 1} 14 12
        0001 {0: 1, 1: 0} 14 12
    """
    columns = _check_columns(label, spurious, client, split)
    check_ratios(ratios)
    read = image if callable(image) else _reader_of(image, len(columns.label))
    shape = _rgb(read(np.arange(1))).shape
    try:
        info = SplitInfo(
            name=name,
            seed=seed,
            options={
                "ratios": list(ratios),
                "split": "drawn" if columns.split is None else "given",
                "client_names": list(columns.clients),
            },
            num_classes=int(columns.label.max()) + 1 if class_names is None else len(class_names),
            image_shape=(shape[1], shape[2], 3),
            class_names=_names(class_names, columns.label, "class"),
            spurious_names=_names(spurious_names, columns.spurious, "value"),
            conflicting_groups=tuple((int(y), int(a)) for y, a in conflicting_groups or ()),
            notes=(*notes, *columns.notes),
        )
    except ValidationError as error:
        raise InputError(describe_errors(error, SplitInfo)) from error
    by_majority = conflicting_groups is None
    clients = [
        _plan_client(number, columns, info, by_majority=by_majority, ratios=ratios)
        for number in range(len(columns.clients))
    ]

    def read_rgb(samples: PlannedSamples) -> Images:
        return _rgb(read(samples.rows))

    federation = Federation(
        info,
        clients,
        np.arange(len(columns.label)),
        lambda _: nullcontext(repeat(read_rgb, len(clients))),
    )
    return write_federation(federation, out, progress=progress, overwrite=overwrite)


def _plan_client(
    number: int, columns: _Columns, info: SplitInfo, *, by_majority: bool, ratios: tuple[int, int, int]
) -> PlannedClient:
    rows = np.flatnonzero(columns.client == number)
    splits = _split_rows(rows, columns, ratios, info.seed, number)
    color_map = None
    if by_majority:
        biased = np.concatenate([splits[split] for split in SPLITS[:3]])
        color_map = _majority_map(columns.label[biased], columns.spurious[biased])

    def aligned(chosen: IndexArray) -> npt.NDArray[np.uint8]:
        return alignment(columns.label[chosen], columns.spurious[chosen], color_map, info.conflicting_groups)

    if not len(splits["test_bc"]):
        splits["test_bc"] = splits["test"][aligned(splits["test"]) == 0]
    _require_conflicting(splits["test_bc"], aligned(splits["test_bc"]), columns)
    planned = {
        split: PlannedSamples(chosen, columns.label[chosen], columns.spurious[chosen])
        for split, chosen in splits.items()
    }
    return PlannedClient(np.unique(columns.label[rows]).tolist(), planned, color_map)


def _require_conflicting(rows: IndexArray, aligned: npt.NDArray[np.uint8], columns: _Columns) -> None:
    if aligned.any():
        row = rows[aligned.argmax()]
        raise InputError(
            f"sample {row}: in split test_bc and bias-aligned (label {columns.label[row]}, spurious "
            f"{columns.spurious[row]}, client {columns.clients[columns.client[row]]}); move it to test"
        )


def _split_rows(
    rows: IndexArray, columns: _Columns, ratios: tuple[int, int, int], seed: int, number: int
) -> dict[str, IndexArray]:
    if columns.split is not None:
        return {split: rows[columns.split[rows] == split] for split in SPLITS}
    rng = generator(seed, Purpose.PARTITION_SPLITS, number)
    parts = [rng.permutation(rows[columns.label[rows] == y]) for y in np.unique(columns.label[rows])]
    train, val, test = divide_into_splits(parts, ratios, rng)
    return {"train": train, "val": val, "test": test, "test_bc": np.empty(0, np.int64)}


def _majority_map(label: IndexArray, spurious: IndexArray) -> dict[int, int]:
    """Class -> its most frequent spurious value, the smallest of equals."""
    return {int(y): int(np.bincount(spurious[label == y]).argmax()) for y in np.unique(label)}


def _check_columns(
    label: npt.ArrayLike, spurious: npt.ArrayLike, client: npt.ArrayLike, split: npt.ArrayLike | None
) -> _Columns:
    owner, notes = stripped("client", client)
    clients = sorted(set(owner.ravel().tolist()), key=by_number)
    columns = {
        "label": _integers("label", label),
        "spurious": _integers("spurious", spurious),
        "client": owner,
    }
    more: tuple[str, ...] = ()
    if split is not None:
        given, more = stripped("split", split)
        columns["split"] = given.astype(np.str_)
        unknown = sorted(set(columns["split"].tolist()) - set(SPLITS))
        if unknown:
            raise InputError(f"split: {unknown[0]!r}; expected {', '.join(SPLITS)}")
    lengths = {column: values.shape for column, values in columns.items()}
    if len(set(lengths.values())) > 1 or owner.ndim != 1 or not len(owner):
        raise InputError(f"one value per sample expected in each column, got shapes {lengths}")
    return _Columns(
        label=columns["label"],
        spurious=columns["spurious"],
        client=places(owner, clients),
        clients=tuple(map(str, clients)),
        split=columns.get("split"),
        notes=notes + more,
    )


def _integers(column: str, values: npt.ArrayLike) -> IndexArray:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) or (array.size and array.min() < 0):
        raise InputError(f"{column}: expected whole numbers from 0, got {array.dtype} {array.ravel()[:3]}...")
    if array.size and array.max() >= MAX_VALUES:
        raise InputError(
            f"{column}: {array.max()} (sample {array.argmax()}); at most {MAX_VALUES:,} different values, "
            "numbered from 0: number them without gaps"
        )
    return array.astype(np.int64)


def _names(names: Sequence[str] | None, values: IndexArray, kind: str) -> tuple[str, ...]:
    needed = int(values.max()) + 1
    if names is None:
        return tuple(f"{kind} {number}" for number in range(needed))
    if len(names) < needed:
        raise InputError(f"{counted(len(names), f'{kind} name')}, and {kind} {needed - 1} occurs")
    return tuple(names)


def _reader_of(image: Images, num_samples: int) -> RowReader:
    if len(image) != num_samples:
        raise InputError(
            f"{counted(len(image), 'image')} and {counted(num_samples, 'label')}; one image "
            "per sample expected"
        )
    return lambda rows: image[rows]


def _rgb(image: npt.NDArray[Any]) -> Images:
    if image.dtype != np.uint8 or not (image.ndim == 3 or (image.ndim == 4 and image.shape[3] == 3)):
        raise InputError(
            f"images: expected uint8 of shape (N, H, W, 3) or (N, H, W), got {image.dtype} {image.shape}"
        )
    return np.repeat(image[..., None], 3, axis=3) if image.ndim == 3 else image
