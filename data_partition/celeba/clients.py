"""Which image goes to which client and split: index arithmetic on the labels of CelebA.

Section 7.1 and appendix C.1 of the paper: every client represents 20 celebrities, no celebrity is on two
clients, 72:8:20 of a client's images train, validate and test. What the paper leaves open: identities are
taken in numeric order, shuffled with the seed and dealt 20 at a time, those left over are dropped; a
client's images are split at random, without regard to class or hair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_partition.celeba.labels import CelebALabels, Group
from data_partition.dealing import largest_remainder, round_half_up
from data_partition.split_files.meta import SPLITS
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.words import counted


@dataclass(frozen=True)
class ClientPlan:
    """The images of one client.

    Attributes:
        identities: its celebrities, in increasing order, shape (I,).
        rows: rows of the label files (image number - 1) per split, each in increasing order, shape (n,).
    """

    identities: IndexArray
    rows: Mapping[str, IndexArray]

    @property
    def images(self) -> IndexArray:
        """Rows of all its images, each once, in increasing order."""
        images: IndexArray = np.unique(np.concatenate(list(self.rows.values())))
        return images


def deal_identities(
    identities: IndexArray, *, num_clients: int, identities_per_client: int, seed: int
) -> tuple[list[IndexArray], IndexArray]:
    """Deal shuffled celebrities to the clients.

    Args:
        identities: celebrities, each once, shape (I,).
        num_clients: number of clients, at most ``I // identities_per_client``.
        identities_per_client: celebrities per client, at least 1.
        seed: of the shuffle.

    Returns:
        The celebrities of each client, ``num_clients`` arrays of shape (identities_per_client,), and those
        left over; all in increasing order and pairwise disjoint.

    Raises:
        InputError: there are not enough celebrities.
    """
    needed = num_clients * identities_per_client
    if needed > len(identities):
        raise InputError(
            f"{counted(num_clients, 'client')} of {counted(identities_per_client, 'celebrity')} would "
            f"take {needed:,}, there are {len(identities):,}. Ask for fewer clients or fewer "
            f"celebrities per client"
        )
    shuffled = generator(seed, Purpose.PARTITION_IDENTITIES).permutation(np.sort(identities))
    dealt = np.sort(shuffled[:needed].reshape(num_clients, identities_per_client), axis=1)
    return list(dealt), np.sort(shuffled[needed:])


def plan_client(
    labels: CelebALabels,
    rows: IndexArray,
    identities: IndexArray,
    *,
    client: int,
    ratios: Sequence[int],
    seed: int,
) -> ClientPlan:
    """Split the images of one client of CelebA_R.

    Its bias-conflicting test set is the blond males of its biased test set, copied (appendix C.1).

    Args:
        labels: of all images.
        rows: the images of the client's celebrities, shape (n,).
        identities: the client's celebrities.
        client: its number, part of the address of the draw.
        ratios: weights of train, validation and test.
        seed: of the draw.
    """
    _, num_val, num_test = largest_remainder(len(rows), ratios)
    shuffled = generator(seed, Purpose.PARTITION_SPLITS, client).permutation(np.sort(rows))
    test, val, train = (np.sort(part) for part in np.split(shuffled, [num_test, num_test + num_val]))
    conflicting = test[labels.group[test] == Group.BLOND_MALE]
    return ClientPlan(identities, {"train": train, "val": val, "test": test, "test_bc": conflicting})


def plan_clients(
    labels: CelebALabels,
    available: IndexArray,
    shares: Sequence[IndexArray],
    *,
    first_client: int,
    ratios: Sequence[int],
    seed: int,
) -> list[ClientPlan]:
    """Split the images of clients ``first_client``, ``first_client + 1``, ...

    Args:
        labels: of all images.
        available: rows that may be used, shape (M,).
        shares: celebrities of each client, pairwise disjoint.
        first_client: number of the first client.
        ratios: weights of train, validation and test.
        seed: of the draws.
    """
    owner = np.full(int(labels.identity.max(initial=0)) + 1, -1, dtype=np.int64)
    for position, identities in enumerate(shares):
        owner[identities] = position
    owners = owner[labels.identity[available]]  # (M,), -1 belongs to nobody
    by_owner = available[np.argsort(owners, kind="stable")]
    bounds = np.searchsorted(np.sort(owners), np.arange(len(shares) + 1))
    return [
        plan_client(
            labels,
            by_owner[bounds[position] : bounds[position + 1]],
            identities,
            client=first_client + position,
            ratios=ratios,
            seed=seed,
        )
        for position, identities in enumerate(shares)
    ]


def thin_blond_males(
    plan: ClientPlan, labels: CelebALabels, *, keep: float, client: int, seed: int
) -> ClientPlan:
    """Keep a share of the blond males of the training and of the validation split, rounded half up.

    In CelebA the correlation of label and hair cannot be strengthened but by leaving blond males out: 1
    keeps it as it is, 0 makes "blond" mean "female". The test sets stay as they are.

    Args:
        plan: the client's images.
        labels: of all images.
        keep: share to keep, in [0, 1].
        client: its number, part of the address of the draw.
        seed: of the draw.
    """
    rows = dict(plan.rows)
    for position, split in enumerate(("train", "val")):
        is_conflicting = labels.group[rows[split]] == Group.BLOND_MALE
        conflicting = rows[split][is_conflicting]
        rng = generator(seed, Purpose.PARTITION_CONFLICTS, client, position)
        kept = rng.permutation(conflicting)[: round_half_up(len(conflicting), keep)]
        rows[split] = np.sort(np.concatenate([rows[split][~is_conflicting], kept]))
    return ClientPlan(plan.identities, rows)


def group_counts(plan: ClientPlan, labels: CelebALabels) -> dict[str, IndexArray]:
    """Images per split and group, arrays of shape (4,) indexed by :class:`Group`."""
    group = labels.group
    return {split: np.bincount(group[plan.rows[split]], minlength=len(Group)) for split in SPLITS}


def personalized_clients(
    clients: Sequence[ClientPlan],
    labels: CelebALabels,
    *,
    train_blond_females_above: int,
    test_blond_males_above: int,
) -> list[int]:
    """Clients that are personalized (appendix C.1).

    Args:
        clients: their images.
        labels: of all images.
        train_blond_females_above: a client needs more blond female training samples, 5 in the paper.
        test_blond_males_above: a client needs more blond male test samples, 5 in the paper.
    """
    chosen = []
    for client, plan in enumerate(clients):
        counts = group_counts(plan, labels)
        females, males = counts["train"][Group.BLOND_FEMALE], counts["test"][Group.BLOND_MALE]
        if females > train_blond_females_above and males > test_blond_males_above:
            chosen.append(client)
    return chosen
