"""What CelebA_R and CelebA_S share: the way from the label files to a planned federation.

Bias-conflicting in CelebA means blond and male: that group is rare (1,749 of 202,599 images), and a model
that takes blond for female fails on it. Everything else is bias-aligned, non-blond females included, unless
a file of group counts says otherwise. There is no map from classes to values of the spurious attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.celeba.clients import ClientPlan, thin_blond_males
from data_partition.celeba.images import IMAGE_SHAPE, ImageSource
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
from data_partition.partition import Raw
from data_partition.split_files.federation import Federation, ImageReader, PlannedClient, PlannedSamples
from data_partition.split_files.meta import SPLITS, TRAINING_SPLITS, SplitInfo, client_name
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator

# The same name for the folder and for the zip, because their checksum is the same.
IMAGES_KEY = "img_align_celeba"
_DIGEST_WORK = 0.1  # reading a file takes about a tenth of the time that an image takes in all


@dataclass(frozen=True)
class Deal:
    """Which client gets which images.

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


def plan_celeba(
    name: str,
    options: CelebAOptions,
    raw: Raw,
    deal: Callable[[CelebALabels, IndexArray], Deal],
    *,
    checksums: Mapping[str, str] | None = None,
) -> Federation:
    """Plan a federation of CelebA.

    While its images are decoded, the folder of the split files needs twice their final space.

    Args:
        name: of the data set.
        options: of the federation.
        raw: folder that holds torchvision's folder ``celeba``, or that folder.
        deal: deals the images in the given rows, shape (M,), to clients.
        checksums: name -> SHA-256 of files that ``deal`` goes by, besides the label files.

    Raises:
        InputError: raw files or options are wrong.
    """
    if raw.folder is None:
        raise InputError(f"{name} is made from CelebA; say with {advice.raw()} where its folder celeba is")
    folder = celeba_folder(raw.folder)
    labels = read_labels(folder, partition=options.raw_split != "all")
    usable = usable_images(labels, folder, options.raw_split, options.missing_images, dry_run=options.dry_run)
    dealt = _thinned(deal(labels, usable.rows), labels, options)
    info = _describe(name, options, labels, dealt, usable, {**labels.checksums, **(checksums or {})})
    clients = [_plan_client(client, plan, labels, options) for client, plan in enumerate(dealt.clients)]
    federation = Federation(info, clients, np.arange(1, len(labels.male) + 1), images=None)
    if usable.source is None:  # only counts are asked for
        return federation
    return _with_images(federation, usable.source, [plan.images for plan in dealt.clients], raw)


def _with_images(
    federation: Federation, source: ImageSource, images: Sequence[IndexArray], raw: Raw
) -> Federation:
    """The federation with the images in these rows, for each client in increasing order."""
    info, numbers = federation.info, [rows + 1 for rows in images]
    total = sum(len(rows) for rows in images)
    read = 0

    def digested(count: int) -> None:
        nonlocal read
        read += count
        if raw.progress is not None:
            raw.progress(round(read * _DIGEST_WORK), total)

    with Pool(raw.workers) as pool:
        digests, digest = digest_images(pool, source, numbers, digested)

    @contextmanager
    def readers(out: Path) -> Iterator[Iterator[ImageReader]]:
        with Pool(raw.workers) as pool, shard_folder(out, info.name) as shards:
            yield map(_reader, images, decoded_clients(pool, source, numbers, digests, shards))

    return replace(
        federation,
        info=info.model_copy(update={"raw": {**info.raw, IMAGES_KEY: digest}}),
        images=readers,
        work=[len(rows) * (1 - _DIGEST_WORK) for rows in images],
        work_done=total * _DIGEST_WORK,
        compress=False,
    )


def _reader(rows: IndexArray, pixels: npt.NDArray[np.uint8]) -> ImageReader:
    return lambda samples: pixels[np.searchsorted(rows, samples.rows)]


def _thinned(deal: Deal, labels: CelebALabels, options: CelebAOptions) -> Deal:
    """The deal with the share of blond males that the options ask for."""
    if options.keep_blond_males == 1:
        return deal
    clients = [
        thin_blond_males(plan, labels, keep=options.keep_blond_males, client=client, seed=options.seed)
        for client, plan in enumerate(deal.clients)
    ]
    before, after = (
        sum(len(plan.rows[split]) for plan in plans for split in TRAINING_SPLITS)
        for plans in (deal.clients, clients)
    )
    left_out = {**deal.left_out, "blond_males_thinned_out": before - after}
    return replace(deal, clients=clients, left_out=left_out)


def _describe(
    name: str,
    options: CelebAOptions,
    labels: CelebALabels,
    deal: Deal,
    usable: Usable,
    raw: Mapping[str, str],
) -> SplitInfo:
    used = sum(len(client.images) for client in deal.clients)
    conflicting = " and ".join(f"{group.words}s" for group in deal.conflicting)
    return SplitInfo(
        name=name,
        seed=options.seed,
        options=options.model_dump(mode="json"),
        num_classes=len(CLASS_NAMES),
        image_shape=IMAGE_SHAPE,
        class_names=CLASS_NAMES,
        spurious_names=SPURIOUS_NAMES,
        raw=dict(raw),
        conflicting_groups=tuple((group % 2, group // 2) for group in deal.conflicting),
        personalized_clients=tuple(client_name(client) for client in deal.personalized),
        thresholds=dict(deal.thresholds),
        notes=(
            f"bias-conflicting: {conflicting}; all other images are bias-aligned",
            f"{used} of {len(labels.male)} images are on the clients",
            *usable.notes,
            *deal.notes,
        ),
        left_out={**usable.left_out, **deal.left_out},
    )


def _plan_client(
    client: int, plan: ClientPlan, labels: CelebALabels, options: CelebAOptions
) -> PlannedClient:
    """The samples of a client with the labels that they are given."""
    rng = generator(options.seed, Purpose.PARTITION_LABEL_NOISE, client)
    splits = {}
    for split in SPLITS:
        rows = plan.rows[split]
        given = labels.male[rows]
        if split in TRAINING_SPLITS:
            for y in range(len(CLASS_NAMES)):
                members = np.flatnonzero(labels.male[rows] == y)
                wrong = rng.permutation(members)[: round_half_up(len(members), options.label_noise)]
                given[wrong] = 1 - y
        splits[split] = PlannedSamples(rows, given, labels.blond[rows])
    return PlannedClient(np.unique(labels.male[plan.images]).tolist(), splits)
