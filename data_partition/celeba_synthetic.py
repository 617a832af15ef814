"""CelebA_S: like CelebA_R, and three clients have the group counts of tables 3, 4 and 5 of the paper.

    python -m data_partition.celeba_synthetic --raw DIR --out DIR [--group-counts FILE]

Clients 0, 1 and 2 get exactly the printed counts: train and validation together (90:10 within, the same
share of every group within one image), the biased test set, and a bias-conflicting test set of blond males
that are in no other split. Their celebrities are on no other client: 505 clients of 20 leave 77 of the
10,177 for the three, the 50 with the most blond males among them. Images of the 77 that the tables do not
need are left out. The other clients are made as in CelebA_R from what remains.

The paper's text speaks of 3,000 images on the three clients; its tables add up to 1,554 and win here.
``--group-counts`` replaces the tables, see :mod:`data_partition.celeba.groups` for the format.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, field_serializer

from data_partition.celeba.clients import ClientPlan, deal_identities, plan_clients
from data_partition.celeba.download import download_celeba
from data_partition.celeba.federation import Deal, plan_celeba
from data_partition.celeba.groups import (
    PAPER_COUNTS,
    ClientCounts,
    GroupCounts,
    find_group_counts,
    read_group_counts,
)
from data_partition.celeba.labels import CelebALabels, Group
from data_partition.celeba.options import CelebAOptions
from data_partition.celeba.reserve import DRAW, Reserve, reserve_identities
from data_partition.dealing import largest_remainder
from data_partition.partition import Partition, Raw
from data_partition.split_files.federation import Federation
from data_partition.split_files.meta import client_name
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.words import counted

NAME = "celeba_synthetic"


class Options(CelebAOptions):
    """Options of CelebA_S; see :class:`~data_partition.celeba.options.CelebAOptions` for the others.

    Attributes:
        group_counts: group counts of the first clients, instead of tables 3, 4 and 5: a file, or the name
            of one that ships.
    """

    group_counts: Annotated[Path | None, Field(strict=False)] = Field(
        None,
        description="YAML or JSON file with group counts, instead of tables 3, 4 and 5 of the paper, or the "
        "name of one that ships (celeba_s_small); see examples/celeba_group_counts.yaml",
    )

    @field_serializer("group_counts")
    def _name_only(self, path: Path | None) -> str | None:
        # What the file says is told by its checksum; where it lies makes no difference to the data.
        return None if path is None else path.name


def deal(labels: CelebALabels, rows: IndexArray, options: Options, counts: GroupCounts) -> Deal:
    """Give the first clients their fixed group counts and deal the rest as in CelebA_R.

    Args:
        labels: of all images.
        rows: images that may be used; of a celebrity all or none, shape (M,).
        options: of the federation.
        counts: group counts of the first clients.

    Raises:
        InputError: the images do not suffice.
    """
    identities, position = np.unique(labels.identity[rows], return_inverse=True)
    supply = np.zeros((len(identities), len(Group)), dtype=np.int64)
    np.add.at(supply, (position, labels.group[rows]), 1)
    num_fixed, share = len(counts.clients), options.identities_per_client
    num_clients = options.clients or max(len(identities) // share, num_fixed)
    limit = len(identities) - (num_clients - num_fixed) * share
    if num_clients < num_fixed or limit < 0:
        raise InputError(
            f"{counted(num_clients, 'client')}, {num_fixed} with fixed group counts and the others with "
            f"{counted(share, 'celebrity')} each, cannot be made of "
            f"{counted(len(identities), 'celebrity')}; change "
            f"{advice.option('clients')} or {advice.option('identities_per_client')}"
        )
    usual = min(num_fixed * share + len(identities) % share, limit)
    reserve = reserve_identities(supply, counts.demand(), usual=usual, limit=limit, seed=options.seed)
    fixed = [
        draw_client(labels, rows, identities[own], wanted, client=client, options=options)
        for client, (own, wanted) in enumerate(zip(reserve.shares, counts.clients, strict=True))
    ]
    others, left_over = deal_identities(
        np.delete(identities, reserve.positions),
        num_clients=num_clients - num_fixed,
        identities_per_client=share,
        seed=options.seed,
    )
    clients = fixed + plan_clients(
        labels, rows, others, first_client=num_fixed, ratios=options.ratios, seed=options.seed
    )
    left_out, notes = _account(labels, rows, identities, reserve, fixed, left_over)
    return Deal(
        clients,
        [number for number, client in enumerate(fixed) if len(client.rows["test_bc"])],
        left_out=left_out,
        notes=notes,
        conflicting=counts.conflicting_groups,
    )


def draw_client(
    labels: CelebALabels,
    rows: IndexArray,
    identities: IndexArray,
    wanted: ClientCounts,
    *,
    client: int,
    options: CelebAOptions,
) -> ClientPlan:
    """Draw images of the client's celebrities for fixed group counts; no image is in two splits.

    Args:
        labels: of all images.
        rows: images that may be used, shape (M,).
        identities: the client's celebrities; they hold enough of every group.
        wanted: the counts.
        client: its number, part of the address of the draw.
        options: seed and ratios.
    """
    rng = generator(options.seed, Purpose.PARTITION_GROUPS, DRAW, client)
    own = rows[np.isin(labels.identity[rows], identities)]
    together = wanted.train_and_validation.array()
    validation = _validation_counts(together, options.ratios)
    sizes = {
        "train": together - validation,
        "val": validation,
        "test": wanted.test.array(),
        "test_bc": wanted.test_bc.array(),
    }
    drawn: dict[str, list[IndexArray]] = {split: [] for split in sizes}
    for group in Group:
        pool = rng.permutation(own[labels.group[own] == group])
        bounds = np.cumsum([of[group] for of in sizes.values()])
        for split, part in zip(sizes, np.split(pool, bounds)[:-1], strict=True):
            drawn[split].append(part)
    return ClientPlan(identities, {split: np.sort(np.concatenate(parts)) for split, parts in drawn.items()})


def _validation_counts(together: IndexArray, ratios: Sequence[int]) -> IndexArray:
    """Validation samples of each group: train and validation as a whole in their ratio, so every group."""
    num_images = int(together.sum())
    if num_images == 0:
        return together
    num_val = largest_remainder(num_images, ratios[:2])[1]
    return np.array(largest_remainder(num_val, together.tolist()), dtype=np.int64)


def _account(
    labels: CelebALabels,
    rows: IndexArray,
    identities: IndexArray,
    reserve: Reserve,
    fixed: Sequence[ClientPlan],
    left_over: IndexArray,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """What is left out, and the notes on it."""
    reserved = rows[np.isin(labels.identity[rows], identities[reserve.positions])]
    used = np.concatenate([plan.images for plan in fixed])
    unused = np.setdiff1d(reserved, used)
    blond_males = int((labels.group[unused] == Group.BLOND_MALE).sum())
    left_out = {
        "identities_left_over": len(left_over),
        "images_of_identities_left_over": int(np.isin(labels.identity[rows], left_over).sum()),
        "images_of_reserved_identities_not_needed": len(unused),
        "blond_males_of_reserved_identities_not_needed": blond_males,
    }
    ids = ", ".join(client_name(client) for client in range(len(fixed)))
    scarcest = Group(reserve.scarcest).words
    note = (
        f"clients {ids} have fixed group counts; {_reserved(len(reserve.positions))} reserved for "
        f"them, {reserve.num_scarce} because they have the most images of {scarcest}; {len(unused)} of their "
        f"images, {blond_males} of blond males, are not needed and left out"
    )
    return left_out, (note,)


def _reserved(count: int) -> str:
    return "1 celebrity is" if count == 1 else f"{count} celebrities are"


def plan(options: Options, raw: Raw) -> Federation:
    """Read the labels and the group counts and deal the celebrities to clients."""
    counts, checksums = PAPER_COUNTS, {}
    if options.group_counts is not None:
        path = find_group_counts(options.group_counts)
        counts = read_group_counts(path)
        checksums[path.name] = sha256_of(path)
    chosen = functools.partial(deal, options=options, counts=counts)
    return plan_celeba(NAME, options, raw, chosen, checksums=checksums)


PARTITION = Partition(
    NAME,
    Options,
    plan,
    help="CelebA_S: like CelebA_R, and three clients have the group counts of the paper's tables.",
    download=download_celeba,
)
build, command = PARTITION.build, PARTITION.command

if __name__ == "__main__":
    command()
