"""Score intervals against scipy and against the examples of the paper that introduced them."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from fedml_spurious.results.proportions import difference_interval, share_interval


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (36, 36), (29, 36), (5, 1000), (0, 12)])
def test_the_interval_of_a_share_is_wilsons(correct: int, count: int) -> None:
    expected = binomtest(correct, count).proportion_ci(confidence_level=0.95, method="wilson")
    assert share_interval(correct / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


# Table II of Newcombe (1998), "Interval estimation for the difference between independent proportions",
# rows of method 10.
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0000)),
        ((10, 10), (0, 10), (0.6075, 1.0000)),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]
) -> None:
    found = difference_interval(first[0] / first[1], first[1], second[0] / second[1], second[1])
    assert found == pytest.approx(expected, abs=5e-5)
