"""Whether client split files keep their promises, found out from the arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SPLITS, ClientMeta
from data_partition.split_files.samples import Samples, alignment
from fedml_spurious.common.words import counted


def find_problems(folder: SplitFolder) -> Iterator[str]:
    """Check alignment flags, disjoint sources and recoloured copies.

    The checksums were checked when ``folder`` was opened with ``verify=True``; counts and ranges are whenever
    something is read.

    Args:
        folder: to check; one client is in memory at a time.

    Yields:
        One sentence per problem.

    Raises:
        InputError: samples are not as they are described.
    """
    folder.check()
    owners: dict[int, str] = {}  # source -> where it was first seen
    for client_id in folder.client_ids:
        client = folder.meta.clients[client_id]
        splits = {split: folder.load(client_id, split) for split in SPLITS}
        for split, samples in splits.items():
            for problem in _check_samples(folder, client, split, samples):
                yield f"client {client_id}, {split}: {problem}"
        yield from _check_sources(client_id, splits, owners)
        yield from _check_copies(client_id, splits["test"], splits["test_bc"])


def _check_samples(folder: SplitFolder, client: ClientMeta, split: str, samples: Samples) -> Iterator[str]:
    foreign = set(samples.label.tolist()) - set(client.classes)
    if foreign:
        yield f"label {min(foreign)}, which is no class of the client"
    expected = alignment(samples.label, samples.spurious, client.color_map, folder.meta.conflicting_groups)
    differing = np.flatnonzero(samples.aligned != expected)
    if len(differing):
        flags = counted(len(differing), "alignment flag")
        yield f"{flags} not as the map gives, first in row {differing[0]}"
    if split == "test_bc" and samples.aligned.any():
        yield "bias-aligned samples in the bias-conflicting test set"


def _check_sources(client_id: str, splits: dict[str, Samples], owners: dict[int, str]) -> Iterator[str]:
    """No raw sample twice; a bias-conflicting one may copy the biased test set of the same client."""
    for split in SPLITS:
        where = f"client {client_id}, {split}"
        allowed = f"client {client_id}, test" if split == "test_bc" else None
        seen: set[int] = set()
        for source in splits[split].source.tolist():
            other = where if source in seen else owners.get(source)
            if other is not None and other != allowed:
                yield f"{where}: source {source} is also in {other}"
            seen.add(source)
        for source in seen:
            owners.setdefault(source, where)


def _check_copies(client_id: str, test: Samples, test_bc: Samples) -> Iterator[str]:
    """A bias-conflicting copy shows the same object: the brightest channel of each pixel is the same.

    The colours of the palette all have a channel of 255, and photographs are copied as they are.
    """
    rows = {source: row for row, source in enumerate(test.source.tolist())}
    pairs = [(row, rows[source]) for row, source in enumerate(test_bc.source.tolist()) if source in rows]
    copies, originals = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    same = test_bc.image[copies].max(axis=3) == test.image[originals].max(axis=3)
    wrong = copies[~same.all(axis=(1, 2)) | (test_bc.label[copies] != test.label[originals])]
    if len(wrong):
        copies_of_others = f"{counted(len(wrong), 'copy')} of another object"
        yield f"client {client_id}, test_bc: {copies_of_others}, first in row {wrong[0]}"
