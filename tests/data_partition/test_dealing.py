from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_partition.dealing import (
    deal_classes,
    divide_class,
    divide_into_splits,
    draw_limited,
    largest_remainder,
    round_half_up,
    split_sizes,
)
from fedml_spurious.common.errors import InputError

RATIOS = st.tuples(st.integers(1, 90), st.integers(0, 90), st.integers(0, 90))


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(25, 0.02, 1), (24, 0.02, 0), (75, 0.02, 2), (5, 0.1, 1), (5, 0.3, 2), (1000, 0.0005, 1), (7, 1.0, 7)],
)
def test_half_samples_are_rounded_up(count: int, share: float, expected: int) -> None:
    """Worked by hand: 0.5, 0.48, 1.5, 0.5, 1.5, 0.5; 0.1 and 0.3 have no exact binary form."""
    assert round_half_up(count, share) == expected


def test_largest_remainder_reproduces_a_worked_example() -> None:
    """Shares 20.88, 2.32, 5.80 rounded down leave two of 29, which go to .88 and .80."""
    assert largest_remainder(29, (72, 8, 20)) == [21, 2, 6]
    assert largest_remainder(3, (1, 1, 1)) == [1, 1, 1]


@given(total=st.integers(0, 10_000), weights=RATIOS)
def test_largest_remainder_stays_within_one_of_every_share(total: int, weights: tuple[int, ...]) -> None:
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    assert all(abs(share - wanted) < 1 for share, wanted in zip(shares, exact, strict=True))
    # Those that are rounded up have the largest remainders; of equals the first.
    places = [(wanted % 1, -place) for place, wanted in enumerate(exact)]
    up = [share > wanted for share, wanted in zip(shares, exact, strict=True)]
    largest = sorted(places, reverse=True)[: sum(up)]
    assert {place for place, raised in zip(places, up, strict=True) if raised} == set(largest)


@given(
    num_classes=st.integers(1, 12), num_clients=st.integers(1, 20), seed=st.integers(0, 99), data=st.data()
)
def test_every_class_is_held_by_the_same_number_of_clients_within_one(
    num_classes: int, num_clients: int, seed: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, num_classes))
    hands = deal_classes(num_classes, num_clients, size, np.random.default_rng(seed))
    assert [len(set(hand.tolist())) for hand in hands] == [size] * num_clients
    holders = np.bincount(np.concatenate(hands), minlength=num_classes)
    assert len(holders) == num_classes
    assert holders.max() - holders.min() <= 1


def test_consecutive_hands_are_not_complementary() -> None:
    """Dealing by quota alone would make hands 2k and 2k+1 of 5 of 10 classes disjoint, always."""
    hands = deal_classes(10, 50, 5, np.random.default_rng(0))
    overlaps = [len(np.intersect1d(a, b)) for a, b in zip(hands[::2], hands[1::2], strict=True)]
    assert sum(overlaps) > 25  # independent hands would share 2.5 classes on average


def test_published_partitions_are_dealt_as_they_were() -> None:
    """What seed 0 draws is part of every published result: it may not change, whatever else does."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    hands = deal_classes(7, 5, 3, rng())
    assert [hand.tolist() for hand in hands] == [[2, 3, 4], [0, 4, 6], [1, 2, 6], [1, 2, 5], [0, 3, 5]]
    divided = divide_class(np.arange(20, 31), [1, 4, 5, 9], rng())
    assert {client: rows.tolist() for client, rows in divided.items()} == {
        1: [24, 26, 27], 5: [22, 20, 23], 9: [25, 30, 29], 4: [28, 21],
    }  # fmt: skip
    sizes = split_sizes([6, 4, 1, 9, 0, 3], (72, 8, 20), rng())
    assert sizes.tolist() == [[4, 1, 1], [2, 1, 1], [1, 0, 0], [7, 0, 2], [0, 0, 0], [2, 0, 1]]
    splits = divide_into_splits([np.arange(9), np.arange(9, 15)], (3, 1, 2), rng())
    assert [rows.tolist() for rows in splits] == [[4, 10, 2, 11, 3, 9, 1, 0], [5, 12], [6, 8, 13, 14, 7]]
    limited = draw_limited(np.repeat([0, 1, 5], [9, 4, 8]), 8, rng())
    assert limited.tolist() == [2, 4, 5, 9, 11, 14, 15, 16]
    assert {rows.dtype for rows in (*hands, sizes, limited)} == {np.dtype(np.int64)}


def test_more_classes_per_client_than_classes_are_refused() -> None:
    expected = "^classes_per_client: 11 asked for, the data set has 10 classes$"
    with pytest.raises(InputError, match=expected):
        deal_classes(10, 3, 11, np.random.default_rng(0))
    (hand,) = deal_classes(10, 1, 10, np.random.default_rng(0))
    assert hand.tolist() == list(range(10))


@given(size=st.integers(1, 60), holders=st.sets(st.integers(0, 30), min_size=1), seed=st.integers(0, 99))
def test_a_class_is_divided_within_one_and_without_overlap(size: int, holders: set[int], seed: int) -> None:
    rows = np.arange(100, 100 + size)
    if len(holders) > size:
        with pytest.raises(InputError, match="some would get none"):
            divide_class(rows, sorted(holders), np.random.default_rng(seed))
        return
    parts = divide_class(rows, sorted(holders), np.random.default_rng(seed))
    assert set(parts) == holders
    sizes = [len(part) for part in parts.values()]
    assert max(sizes) - min(sizes) <= 1
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), rows)


def test_more_clients_than_samples_are_refused_in_words() -> None:
    expected = (
        "3 clients would share a class of 1 sample, so some would get none; ask for fewer clients, fewer "
        "classes per client or more samples"
    )
    with pytest.raises(InputError, match=f"^{expected}$"):
        divide_class(np.arange(1), [0, 1, 2], np.random.default_rng(0))


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=8), ratios=RATIOS, seed=st.integers(0, 99))
def test_splits_keep_the_ratios_as_a_whole_and_in_every_class(
    sizes: list[int], ratios: tuple[int, int, int], seed: int
) -> None:
    table = split_sizes(sizes, ratios, np.random.default_rng(seed))
    assert table.min() >= 0
    assert table.sum(axis=1).tolist() == sizes
    assert table.sum(axis=0).tolist() == largest_remainder(sum(sizes), ratios)
    for size, row in zip(sizes, table.tolist(), strict=True):
        for cell, ratio in zip(row, ratios, strict=True):
            assert abs(cell - Fraction(size * ratio, sum(ratios))) <= 1


def test_small_classes_do_not_all_round_the_same_way() -> None:
    """Five classes of 6 views: 0.48 validation views each would round to 5 in all; 2 of 30 are due."""
    table = split_sizes([6] * 5, (72, 8, 20), np.random.default_rng(0))
    assert table.sum(axis=0).tolist() == [22, 2, 6]


@given(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_splits_are_disjoint_and_complete(sizes: list[int], seed: int) -> None:
    ends = np.cumsum([0, *sizes])
    parts = [np.arange(first, last) for first, last in itertools.pairwise(ends)]
    splits = divide_into_splits(parts, (72, 8, 20), np.random.default_rng(seed))
    assert [len(split) for split in splits] == largest_remainder(sum(sizes), (72, 8, 20))
    assert np.array_equal(np.sort(np.concatenate(splits)), np.arange(ends[-1]))


@given(counts=st.lists(st.integers(1, 20), min_size=1, max_size=6), seed=st.integers(0, 99), data=st.data())
def test_a_limited_part_keeps_the_proportions_of_the_classes(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    limit = data.draw(st.integers(1, len(labels)))
    rows = draw_limited(labels, limit, np.random.default_rng(seed))
    assert len(set(rows.tolist())) == limit
    for y, count in enumerate(counts):
        assert abs(int((labels[rows] == y).sum()) - Fraction(limit * count, len(labels))) < 1


def test_a_limit_beyond_the_data_is_refused() -> None:
    with pytest.raises(InputError, match=r"^limit: 4 samples asked for, the data set has 3$"):
        draw_limited(np.zeros(3, np.int64), 4, np.random.default_rng(0))
