"""What CelebA_R and CelebA_S share: the way from a plan to split files.

Bias-conflicting in CelebA means blond and male: that group is rare (1,749 of 202,599 images), and a model
that takes blond for female fails on it. Everything else is bias-aligned, non-blond females included, unless
a file of group counts says otherwise. There is no map from classes to values of the spurious attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.celeba.clients import ClientPlan, thin_blond_males
from data_partition.celeba.images import IMAGE_SHAPE
from data_partition.celeba.labels import (
    CLASS_NAMES,
    SPURIOUS_NAMES,
    CelebALabels,
    Group,
    celeba_folder,
    read_labels,
)
from data_partition.celeba.options import CelebAOptions
from data_partition.celeba.shards import Pool, decoded_clients, digest_images, shard_folder
from data_partition.celeba.usable import Usable, usable_images
from data_partition.dealing import round_half_up
from data_partition.registry import Progress
from data_partition.split_files.meta import (
    SPLITS,
    TRAINING_SPLITS,
    ClientMeta,
    SplitInfo,
    SplitMeta,
    client_name,
    meta_path,
    read_meta,
    write_meta,
)
from data_partition.split_files.samples import Samples, alignment, count_groups
from data_partition.split_files.writer import SplitWriter, already_there
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator

# The same name for the folder and for the zip, because their checksum is the same.
IMAGES_KEY = "img_align_celeba"
_DIGEST_WORK = 0.1  # reading a file takes about a tenth of the time that an image takes in all


@dataclass(frozen=True)
class FederationPlan:
    """A whole federation.

    Attributes:
        clients: the images of each client, pairwise disjoint.
        personalized: clients that the personalization step is meant for.
        thresholds: how they were chosen.
        left_out: kind of image or celebrity -> how many are on no client.
        notes: what a user of the data should know.
        conflicting: groups that are bias-conflicting on every client.
    """

    clients: Sequence[ClientPlan]
    personalized: Sequence[int]
    thresholds: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conflicting: tuple[Group, ...] = (Group.BLOND_MALE,)


Planner = Callable[[CelebALabels, IndexArray], FederationPlan]
"""Plans a federation of the images in the given rows, shape (M,)."""


def build_celeba(
    name: str,
    options: CelebAOptions,
    plan: Planner,
    *,
    raw: Path | None,
    out: Path,
    checksums: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Plan a federation of CelebA and write its split files, or only its description.

    Args:
        name: of the data set.
        options: of the federation.
        plan: deals the images to clients.
        raw: folder that holds torchvision's folder ``celeba``, or that folder.
        out: folder for the files. While images are decoded it needs twice their final space.
        checksums: name -> SHA-256 of files that the plan was made from, besides the label files.
        progress: told how many images are done.
        workers: number of processes; None for one per core. The result does not depend on it.
        overwrite: replace splits made with other options.

    Returns:
        Path of the description.

    Raises:
        InputError: raw files or options are wrong, or ``out`` holds other splits.
        RunError: the files could not be written.
    """
    if raw is None:
        raise InputError(f"{name} is made from CelebA; say with --raw where its folder celeba is")
    folder = celeba_folder(raw)
    labels = read_labels(folder)
    usable = usable_images(labels, folder, options.raw_split, options.missing_images, dry_run=options.dry_run)
    federation = _thinned(plan(labels, usable.rows), labels, options)
    info = _describe(name, options, labels, federation, usable)
    info = info.model_copy(update={"raw": {**labels.checksums, **(checksums or {})}})
    if usable.source is None:  # only counts are asked for
        return _write_counts(info, federation, labels, options, out)
    work = _Work(sum(len(client.images) for client in federation.clients), progress)
    numbers = [client.images + 1 for client in federation.clients]
    with Pool(workers) as pool:
        digests, digest = digest_images(pool, usable.source, numbers, work.digested)
        info = info.model_copy(update={"raw": {**info.raw, IMAGES_KEY: digest}})
        existing = already_there(out, info, overwrite=overwrite)
        if existing is not None:
            return existing
        with (
            shard_folder(out, name) as shards,
            SplitWriter(out, info, overwrite=overwrite, compress=False) as writer,
        ):
            images = decoded_clients(pool, usable.source, numbers, digests, shards)
            for client, pixels in enumerate(images):
                _write_client(writer, client, federation.clients[client], pixels, labels, options)
                work.decoded(len(pixels))
    return meta_path(out, name)


class _Work:
    """Translates images read and images decoded into images done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0.0

    def digested(self, images: int) -> None:
        self._tell(images * _DIGEST_WORK)

    def decoded(self, images: int) -> None:
        self._tell(images * (1 - _DIGEST_WORK))

    def _tell(self, more: float) -> None:
        self._done += more
        if self._progress is not None:
            self._progress(min(round(self._done), self._total), self._total)


def _thinned(federation: FederationPlan, labels: CelebALabels, options: CelebAOptions) -> FederationPlan:
    """The federation with the share of blond males that the options ask for."""
    if options.keep_blond_males == 1:
        return federation
    clients = [
        thin_blond_males(plan, labels, keep=options.keep_blond_males, client=client, seed=options.seed)
        for client, plan in enumerate(federation.clients)
    ]
    before, after = (
        sum(len(plan.rows[split]) for plan in plans for split in TRAINING_SPLITS)
        for plans in (federation.clients, clients)
    )
    left_out = {**federation.left_out, "blond_males_thinned_out": before - after}
    return replace(federation, clients=clients, left_out=left_out)


def _describe(
    name: str,
    options: CelebAOptions,
    labels: CelebALabels,
    federation: FederationPlan,
    usable: Usable,
) -> SplitInfo:
    used = sum(len(client.images) for client in federation.clients)
    conflicting = " and ".join(f"{group.words}s" for group in federation.conflicting)
    return SplitInfo(
        name=name,
        seed=options.seed,
        options=options.model_dump(mode="json"),
        num_classes=len(CLASS_NAMES),
        image_shape=IMAGE_SHAPE,
        class_names=CLASS_NAMES,
        spurious_names=SPURIOUS_NAMES,
        conflicting_groups=tuple((group % 2, group // 2) for group in federation.conflicting),
        personalized_clients=tuple(client_name(client) for client in federation.personalized),
        thresholds=dict(federation.thresholds),
        notes=(
            f"bias-conflicting: {conflicting}; all other images are bias-aligned",
            f"{used} of {len(labels.male)} images are on the clients",
            *usable.notes,
            *federation.notes,
        ),
        left_out={**usable.left_out, **federation.left_out},
    )


def _columns(
    plan: ClientPlan, client: int, labels: CelebALabels, options: CelebAOptions
) -> Iterator[tuple[str, IndexArray, IndexArray]]:
    """Split, rows and given labels of a client's samples, arrays of shape (n,)."""
    rng = generator(options.seed, Purpose.PARTITION_LABEL_NOISE, client)
    for split in SPLITS:
        rows = plan.rows[split]
        given = labels.male[rows]
        if split in TRAINING_SPLITS:
            for y in range(len(CLASS_NAMES)):
                members = np.flatnonzero(labels.male[rows] == y)
                wrong = rng.permutation(members)[: round_half_up(len(members), options.label_noise)]
                given[wrong] = 1 - y
        yield split, rows, given


def _write_client(
    writer: SplitWriter,
    client: int,
    plan: ClientPlan,
    pixels: npt.NDArray[np.uint8],
    labels: CelebALabels,
    options: CelebAOptions,
) -> None:
    images = plan.images
    writer.add_client(client_name(client), classes=_classes(plan, labels))
    for split, rows, given in _columns(plan, client, labels, options):
        blond = labels.blond[rows]
        samples = Samples(
            image=pixels[np.searchsorted(images, rows)],
            label=given,
            spurious=blond,
            aligned=alignment(given, blond, None, writer.info.conflicting_groups),
            source=rows + 1,
        )
        writer.write(client_name(client), split, samples)


def _classes(plan: ClientPlan, labels: CelebALabels) -> tuple[int, ...]:
    return tuple(np.unique(labels.male[plan.images]).tolist())


def _write_counts(
    info: SplitInfo,
    federation: FederationPlan,
    labels: CelebALabels,
    options: CelebAOptions,
    out: Path,
) -> Path:
    """Write the description alone."""
    path = meta_path(out, info.name)
    if path.exists() and read_meta(path).files:
        raise InputError(f"{path}: describes split files that are there; choose another --out for a dry run")
    clients = {}
    for client, plan in enumerate(federation.clients):
        columns = list(_columns(plan, client, labels, options))
        clients[client_name(client)] = ClientMeta(
            classes=_classes(plan, labels),
            counts={split: len(rows) for split, rows, _ in columns},
            groups={split: count_groups(given, labels.blond[rows]) for split, rows, given in columns},
        )
    known = {name: getattr(info, name) for name in type(info).model_fields}
    return write_meta(out, SplitMeta(**known, num_clients=len(clients), clients=clients, files={}))
