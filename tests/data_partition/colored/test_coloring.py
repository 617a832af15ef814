from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_partition.colored.coloring import (
    PALETTE,
    draw_client_map,
    draw_derangement,
    draw_shared_map,
    rgb_of,
    tint,
)


def test_the_first_ten_colours_are_far_apart_and_all_reach_full_brightness() -> None:
    """127 of 255 is half the range; the mask of an object is its brightest channel."""
    colors = rgb_of(list(PALETTE)).astype(int)
    assert len(colors) == 20
    assert (colors.max(axis=1) == 255).all()
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(colors[:10], 2)]
    assert min(apart) >= 127
    assert len({tuple(color) for color in colors.tolist()}) == 20


def test_tint_multiplies_every_grey_with_every_colour() -> None:
    """Expected from floating-point arithmetic; no product over 255 has a fraction of one half."""
    grey, rgb = np.arange(256, dtype=np.uint8), rgb_of(list(PALETTE))
    images = np.broadcast_to(grey.reshape(1, 16, 16), (len(rgb), 16, 16))
    tinted = tint(images, rgb)
    assert (tinted.shape, tinted.dtype, rgb.dtype) == ((20, 16, 16, 3), np.uint8, np.uint8)
    expected = np.rint(np.multiply.outer(list(PALETTE.values()), grey.astype(float)) / 255)  # (20, 3, 256)
    assert (tinted.reshape(20, 256, 3) == expected.transpose(0, 2, 1)).all()
    assert (tinted.max(axis=3) == images).all()


@given(size=st.integers(2, 12), seed=st.integers(0, 999))
def test_a_derangement_moves_everything(size: int, seed: int) -> None:
    order = draw_derangement(size, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(size))
    assert all(order[i] != i for i in range(size))


@pytest.mark.parametrize("size", [0, 1])
def test_one_element_cannot_move(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a derangement needs at least 2 elements, got {size}$"):
        draw_derangement(size, np.random.default_rng(0))


def test_all_derangements_are_equally_likely() -> None:
    """Three elements have 2 derangements, four have 9 (the subfactorials)."""
    rng = np.random.default_rng(0)
    drawn = [tuple(draw_derangement(4, rng).tolist()) for _ in range(4500)]
    counts = {order: drawn.count(order) for order in set(drawn)}
    assert len(counts) == 9
    assert min(counts.values()) > 400  # 500 expected, standard deviation 21
    assert max(counts.values()) < 600


@given(
    num_classes=st.integers(2, 8),
    spare=st.integers(0, 4),
    divergence=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_client_map_is_injective_and_within_the_palette(
    num_classes: int, spare: int, divergence: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    num_colors = num_classes + spare
    shared = draw_shared_map(num_classes, num_colors, rng)
    assert shared is not None
    classes = np.sort(rng.permutation(num_classes)[: rng.integers(2, num_classes + 1)])
    mapping = draw_client_map(classes, shared, num_colors=num_colors, divergence=divergence, rng=rng)
    assert list(mapping) == classes.tolist()
    assert len(set(mapping.values())) == len(classes)
    assert set(mapping.values()) <= set(range(num_colors))


@settings(max_examples=8)
@given(
    divergence=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0]),
    num_colors=st.sampled_from([5, 6, 10]),
    seed=st.integers(0, 99),
)
def test_the_expected_divergence_equals_the_knob(divergence: float, num_colors: int, seed: int) -> None:
    """1,000 maps of 5 classes: the mean share varies by at most 0.5 / sqrt(1000) = 0.016 around the knob."""
    rng = np.random.default_rng(seed)
    shared, classes = np.arange(5), np.arange(5)
    shares = [
        np.mean([color != shared[y] for y, color in mapping.items()])
        for mapping in (
            draw_client_map(classes, shared, num_colors=num_colors, divergence=divergence, rng=rng)
            for _ in range(1000)
        )
    ]
    assert np.mean(shares) == pytest.approx(divergence, abs=0.07)
    if divergence in (0.0, 1.0):
        assert set(shares) == {divergence}


def test_fewer_colours_than_classes_leave_no_shared_map() -> None:
    rng = np.random.default_rng(0)
    assert draw_shared_map(20, 10, rng) is None
    mapping = draw_client_map(np.array([3, 7]), None, num_colors=2, divergence=1.0, rng=rng)
    assert sorted(mapping.values()) == [0, 1]
    with pytest.raises(ValueError, match="shorter"):
        draw_client_map(np.array([3, 7, 8]), None, num_colors=2, divergence=1.0, rng=rng)


# Share of changed classes, number of classes and of colours: the colours of a client that has all classes.
MAPS = {
    (0.0, 4, 4): [0, 1, 2, 3],
    (0.3, 4, 4): [2, 1, 0, 3],
    (0.9, 4, 4): [3, 2, 0, 1],
    (0.1, 6, 6): [4, 0, 2, 1, 5, 3],
    (0.3, 5, 7): [5, 0, 2, 4, 3],
    (0.5, 5, 7): [5, 0, 4, 1, 3],
    (1.0, 5, 7): [0, 1, 5, 3, 4],
}


def test_published_colours_are_drawn_as_they_were() -> None:
    """What seeds 0 and 1 draw is part of published results: it may not change, whatever else does."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    for (divergence, num_classes, num_colors), expected in MAPS.items():
        shared = draw_shared_map(num_classes, num_colors, np.random.default_rng(1))
        assert shared is not None
        assert shared.tolist() == {4: [0, 1, 2, 3], 5: [5, 0, 1, 4, 2], 6: [4, 0, 2, 1, 5, 3]}[num_classes]
        found = draw_client_map(
            np.arange(num_classes), shared, num_colors=num_colors, divergence=divergence, rng=rng()
        )
        assert list(found.items()) == list(enumerate(expected))
        assert {type(color) for color in found.values()} == {int}
    assert draw_client_map(np.array([0, 2, 3, 4]), None, num_colors=9, divergence=1.0, rng=rng()) == {
        0: 4, 2: 5, 3: 2, 4: 6,
    }  # fmt: skip
    order = draw_derangement(6, rng())
    assert (order.tolist(), order.dtype) == ([3, 2, 5, 4, 0, 1], np.int64)
