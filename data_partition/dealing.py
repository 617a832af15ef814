"""Who gets which sample: classes to clients, samples to holders, a client's samples to splits.

Index arithmetic only. Counts are exact: shares are rounded by rules, never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

_SWAPS_PER_HOLDING = 10


def round_half_up(count: int, share: float) -> int:
    """``count * share`` to the nearest integer, halves up, with ``share`` as its shortest decimal."""
    return math.floor(count * Fraction(str(share)) + Fraction(1, 2))


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Divide ``total`` in proportion to ``weights`` (Hamilton's method; ties go to the earlier).

    Returns:
        One integer per weight, each less than one away from its share; they add up to ``total``.
    """
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    rest = [total * weight % whole for weight in weights]
    for index in sorted(range(len(weights)), key=lambda i: -rest[i])[: total - sum(shares)]:
        shares[index] += 1
    return shares


def deal_classes(
    num_classes: int, num_clients: int, classes_per_client: int, rng: np.random.Generator
) -> list[IndexArray]:
    """Deal classes so that each is held by the same number of clients within one.

    Args:
        num_classes: K.
        num_clients: number of hands.
        classes_per_client: size m of each hand, 1..K.
        rng: the only source of randomness.

    Returns:
        One ascending array of m different classes per client.

    Raises:
        InputError: m exceeds K.
    """
    if classes_per_client > num_classes:
        raise InputError(
            f"classes_per_client: {classes_per_client} asked for, the data set has "
            f"{counted(num_classes, 'class')}"
        )
    holdings = num_clients * classes_per_client
    quota = np.full(num_classes, holdings // num_classes)
    quota[rng.permutation(num_classes)[: holdings % num_classes]] += 1
    holds = np.zeros((num_clients, num_classes), dtype=bool)
    for client in range(num_clients):
        # Taking the largest quotas first never leaves a hand that cannot be filled (Gale-Ryser).
        order = np.lexsort((rng.random(num_classes), -quota))[:classes_per_client]
        holds[client, order] = True
        quota[order] -= 1
    _shuffle_hands(holds, rng)
    return [np.flatnonzero(hand).astype(np.int64) for hand in holds]


def _shuffle_hands(holds: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Exchange classes between random pairs of hands; sizes of hands and numbers of holders stay.

    Dealing by quota alone would give consecutive clients complementary hands.
    """
    num_swaps = _SWAPS_PER_HOLDING * int(holds.sum())
    pairs = rng.integers(len(holds), size=(num_swaps, 2))
    choices = rng.random((num_swaps, 2))
    for (first, second), choice in zip(pairs, choices, strict=True):
        gives = np.flatnonzero(holds[first] & ~holds[second])
        takes = np.flatnonzero(holds[second] & ~holds[first])
        if len(gives):  # hands of one size: then the other has something to give back
            given, taken = gives[int(choice[0] * len(gives))], takes[int(choice[1] * len(takes))]
            holds[[first, second], [given, taken]] = False
            holds[[first, second], [taken, given]] = True


def divide_class(rows: IndexArray, holders: Sequence[int], rng: np.random.Generator) -> dict[int, IndexArray]:
    """Divide the samples of one class among the clients that hold it, within one.

    Args:
        rows: samples of the class, shape (n,).
        holders: clients that hold it.
        rng: the only source of randomness.

    Returns:
        Client -> its rows; disjoint, together all of ``rows``.

    Raises:
        InputError: a holder would get nothing.
    """
    if len(holders) > len(rows):
        raise InputError(
            f"{counted(len(holders), 'client')} would share a class of {counted(len(rows), 'sample')}, so "
            "some would get none; ask for fewer clients, fewer classes per client or more samples"
        )
    parts = np.array_split(rng.permutation(rows), len(holders))
    # array_split gives the first parts one more; which clients those are is left to chance.
    return dict(zip(rng.permutation(np.array(holders)).tolist(), parts, strict=True))


def split_sizes(class_sizes: Sequence[int], ratios: Sequence[int], rng: np.random.Generator) -> IndexArray:
    """Sizes of the splits of one client, stratified by class.

    The client as a whole keeps the ratios (largest remainder), and each class keeps them within one
    sample: small classes would otherwise all be rounded the same way.

    Args:
        class_sizes: samples per class of the client, shape (m,).
        ratios: one weight per split, for example (72, 8, 20).
        rng: decides which classes get the odd samples.

    Returns:
        Shape (m, number of splits); rows add up to ``class_sizes``, columns to the client's sizes.
    """
    sizes = np.array([[size * ratio // sum(ratios) for ratio in ratios] for size in class_sizes])
    sizes = sizes.reshape(len(class_sizes), len(ratios))
    wanted = np.array(largest_remainder(sum(class_sizes), ratios)) - sizes.sum(axis=0)
    spare = np.array(class_sizes) - sizes.sum(axis=1)
    # Most spare samples first, to the splits that lack most: this order always works out (Gale-Ryser).
    for row in np.lexsort((rng.random(len(class_sizes)), -spare)):
        columns = np.argsort(-wanted, kind="stable")[: spare[row]]
        sizes[row, columns] += 1
        wanted[columns] -= 1
    return sizes.astype(np.int64)


def divide_into_splits(
    parts: Sequence[IndexArray], ratios: Sequence[int], rng: np.random.Generator
) -> list[IndexArray]:
    """Divide the samples of one client into splits, stratified by class; see :func:`split_sizes`.

    Args:
        parts: its rows of each class, in random order.
        ratios: one weight per split.
        rng: the only source of randomness.

    Returns:
        The rows of each split, in random order; disjoint, together all of ``parts``.
    """
    sizes = split_sizes([len(part) for part in parts], ratios, rng)
    cut = [np.split(part, np.cumsum(row)[:-1]) for part, row in zip(parts, sizes, strict=True)]
    return [rng.permutation(np.concatenate(of_split)) for of_split in zip(*cut, strict=True)]


def draw_limited(labels: IndexArray, limit: int, rng: np.random.Generator) -> IndexArray:
    """A part of the samples with the classes in their proportions.

    Args:
        labels: classes, shape (N,).
        limit: number of samples to keep.
        rng: the only source of randomness.

    Returns:
        Ascending rows, shape (limit,).

    Raises:
        InputError: fewer than ``limit`` samples are there.
    """
    if limit > len(labels):
        raise InputError(f"limit: {counted(limit, 'sample')} asked for, the data set has {len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    kept = [
        rng.permutation(np.flatnonzero(labels == y))[:share]
        for y, share in zip(classes, largest_remainder(limit, counts.tolist()), strict=True)
    ]
    return np.sort(np.concatenate(kept)).astype(np.int64)
