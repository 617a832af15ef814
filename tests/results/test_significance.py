"""The bootstrap against scipy, against all resamples counted one by one, and against known truths."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fedml_spurious.results import significance
from fedml_spurious.results.resampled import interval
from fedml_spurious.results.significance import (
    Disparities,
    compare,
    resampled_means,
    resampled_nested_means,
)


def one_run(values: np.ndarray) -> Disparities:
    return {(0, 0): {f"{client:04}": float(value) for client, value in enumerate(values)}}


def test_with_clients_alone_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, 0.05, size=40)
    zeros = np.zeros(40)
    found = compare(one_run(values), one_run(zeros))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=100_000, method="percentile", rng=np.random.default_rng(4)
    )
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    assert (found.clients, found.pairs) == (40, 1)
    # 10,000 resamples place a 2.5 % quantile of a normal to 0.027 standard errors; five of those.
    tolerance = 5 * 0.027 * expected.standard_error
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)


def every_resample(table: np.ndarray, fl_seeds: list[int]) -> dict[float, float]:
    """Probability of every mean, by going through all draws of seeds and clients."""
    pairs_of = {seed: [i for i, s in enumerate(fl_seeds) if s == seed] for seed in set(fl_seeds)}
    seeds, clients = sorted(pairs_of), range(table.shape[1])
    found: Counter[float] = Counter()
    for drawn in itertools.product(seeds, repeat=len(seeds)):
        inner = [itertools.product(pairs_of[seed], repeat=len(pairs_of[seed])) for seed in drawn]
        choices = [list(itertools.chain(*parts)) for parts in itertools.product(*inner)]
        people = list(itertools.product(clients, repeat=len(clients)))
        share = 1 / (len(seeds) ** len(seeds) * len(choices) * len(people))
        for rows, columns in itertools.product(choices, people):
            found[round(float(table[np.ix_(rows, columns)].mean()), 9)] += share
    return dict(found)


@pytest.mark.parametrize("fl_seeds", [[0, 0, 1, 1], [4, 4, 9]])
def test_seeds_and_clients_are_drawn_as_if_one_went_through_all_draws(fl_seeds: list[int]) -> None:
    table = np.random.default_rng(0).normal(size=(len(fl_seeds), 3))
    exact = every_resample(table, fl_seeds)
    assert sum(exact.values()) == pytest.approx(1)
    means = resampled_means(table, np.array(fl_seeds), resamples=200_000)
    values, shares = np.array(list(exact)), np.array(list(exact.values()))
    order = np.argsort(values)
    cumulated = np.cumsum(shares[order])
    for point in np.linspace(values.min(), values.max(), 9):
        expected = float(cumulated[np.searchsorted(values[order], point, side="right") - 1])
        # Five standard errors of a share among 200,000.
        assert (means <= point + 1e-8).mean() == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(200_000))


def every_nested_resample(tables: list[np.ndarray]) -> dict[float, float]:
    """Probability of every mean, by going through all draws of seeds and of what is in each."""

    def inside(table: np.ndarray) -> list[tuple[int, float]]:
        """Number of pairs and sum of their client means, of every draw of pairs and clients."""
        pairs, clients = (range(size) for size in table.shape)
        return [
            (len(rows), sum(float(np.mean([table[row, column] for column in columns])) for row in rows))
            for rows in itertools.product(pairs, repeat=len(pairs))
            for columns in itertools.product(clients, repeat=len(clients))
        ]

    found: Counter[float] = Counter()
    for drawn in itertools.product(tables, repeat=len(tables)):
        draws = [inside(table) for table in drawn]
        share = 1 / (len(tables) ** len(tables) * math.prod(len(each) for each in draws))
        for parts in itertools.product(*draws):
            mean = sum(total for _, total in parts) / sum(count for count, _ in parts)
            found[round(mean, 9)] += share
    return dict(found)


@pytest.mark.parametrize("shapes", [[(1, 3), (2, 2)], [(2, 1), (1, 2), (1, 1)]])
def test_clients_of_their_own_are_drawn_within_seeds_as_if_one_went_through_all_draws(
    shapes: list[tuple[int, int]],
) -> None:
    rng = np.random.default_rng(5)
    tables = [rng.normal(loc=place, size=shape) for place, shape in enumerate(shapes)]
    exact = every_nested_resample(tables)
    assert sum(exact.values()) == pytest.approx(1)
    means = resampled_nested_means(tables, resamples=200_000)
    values, shares = np.array(list(exact)), np.array(list(exact.values()))
    order = np.argsort(values)
    cumulated = np.cumsum(shares[order])
    for point in np.linspace(values.min(), values.max(), 9):
        expected = float(cumulated[np.searchsorted(values[order], point, side="right") - 1])
        assert (means <= point + 1e-8).mean() == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(200_000))


def plainly_resampled(tables: list[np.ndarray], resamples: int) -> np.ndarray:
    """One resample after the other, one draw after the other."""
    rng, means = np.random.default_rng(11), []
    for _ in range(resamples):
        rows = []
        for seed in rng.integers(len(tables), size=len(tables)):
            pairs, clients = tables[seed].shape
            columns = rng.integers(clients, size=clients)
            rows += [tables[seed][pair][columns].mean() for pair in rng.integers(pairs, size=pairs)]
        means.append(np.mean(rows))
    return np.array(means)


def by_pair(tables: dict[int, np.ndarray]) -> Disparities:
    return {
        (fl_seed, p_seed): {f"{client:04}": float(value) for client, value in enumerate(row)}
        for fl_seed, table in tables.items()
        for p_seed, row in enumerate(table)
    }


def test_with_clients_of_their_own_the_interval_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    tables = {
        fl_seed: rng.normal(0.1 * fl_seed, 0.2, size=(1, clients)) + rng.normal(0, 0.05, size=(3, clients))
        for fl_seed, clients in ((0, 5), (1, 7), (4, 6), (9, 5))
    }
    zeros = {fl_seed: np.zeros_like(table) for fl_seed, table in tables.items()}
    found = compare(by_pair(tables), by_pair(zeros), own_clients=True)
    assert found is not None
    assert (found.clients, found.pairs, found.fl_seeds) == (23, 12, 4)
    # Every pair of seeds counts the same, however many clients it has.
    assert found.mean == pytest.approx(np.mean([row.mean() for table in tables.values() for row in table]))
    means = plainly_resampled(list(tables.values()), 20_000)
    # As above: a 2.5 % quantile of 10,000 is known to 0.027 standard errors, of 20,000 to 0.019.
    tolerance = 5 * 0.033 * float(means.std())
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=tolerance)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=tolerance)
    assert compare(by_pair(tables), by_pair(zeros), own_clients=True) == found


def test_one_seed_alone_has_the_same_interval_either_way() -> None:
    runs = by_pair({3: np.random.default_rng(8).uniform(size=(3, 9))})
    zeros = {pair: dict.fromkeys(values, 0.0) for pair, values in runs.items()}
    own, shared = (compare(runs, zeros, own_clients=flag) for flag in (True, False))
    assert own is not None
    assert shared is not None
    for name, value in vars(own).items():
        assert value == pytest.approx(getattr(shared, name))


def test_a_client_that_one_side_lacks_with_one_seed_is_left_out_there_alone() -> None:
    ours = {(0, 0): {"a": 0.0, "b": 0.0}, (1, 0): {"a": 0.0, "b": 0.0}, (2, 0): {"a": 0.0}}
    ours[(1, 1)] = {"b": 0.0, "c": 0.0}
    other = {(0, None): {"a": 0.5}, (1, None): {"a": 0.5, "b": 0.25}, (2, None): {"b": 9.0}}
    found = compare(other, ours, own_clients=True)
    assert found is not None
    assert (found.mean, found.clients, found.pairs, found.fl_seeds) == ((0.5 + 0.25 + 0.25) / 3, 2, 3, 2)
    assert compare({(0, 0): {"z": 1.0}}, ours, own_clients=True) is None
    assert compare({}, ours, own_clients=True) is None
    alone = compare({(0, 0): {"a": 0.5}}, ours, own_clients=True)
    assert alone is not None
    assert (alone.mean, alone.low, alone.high) == (0.5, None, None)


def test_methods_of_a_table_share_their_draws() -> None:
    """A method and its copy that is worse by 0.125 everywhere differ by just that in every resample."""
    tables = [np.round(np.random.default_rng(k).uniform(size=(2, 4)), 2) for k in range(3)]
    means, worse = (resampled_nested_means([table + shift for table in tables]) for shift in (0.0, 0.125))
    np.testing.assert_allclose(worse - means, 0.125, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("own_clients", "low", "high"),
    [(False, 0.14581705729166683, 0.4218831380208332), (True, 0.1666585286458334, 0.4176432291666667)],
)
def test_clients_keep_the_interval_that_was_published(own_clients: bool, low: float, high: float) -> None:
    """Crossed ones as before they could be a seed's own; in 64ths, so that sums are exact in any order."""
    values = np.random.default_rng(6).integers(-16, 48, size=(6, 8)) / 64
    runs = {(fl, p): one_run(values[2 * fl + p])[(0, 0)] for fl in range(3) for p in range(2)}
    zeros = {pair: dict.fromkeys(found, 0.0) for pair, found in runs.items()}
    found = compare(runs, zeros, own_clients=own_clients)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.2854817708333333, low, high)


def test_a_method_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(1).uniform(size=12)
    runs = {(fl, p): one_run(values + fl + p)[(0, 0)] for fl in range(2) for p in range(3)}
    found = compare(runs, runs)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.clients, found.pairs) == (12, 6)


def test_the_interval_covers_a_known_difference_as_often_as_it_says() -> None:
    """Clients differ widely, in the same way for both methods: only pairing gives narrow intervals."""
    rng, truth, trials = np.random.default_rng(7), 0.08, 400
    covered, widths = 0, []
    for _ in range(trials):
        client = rng.normal(0.2, 0.3, size=50)
        found = compare(one_run(client + truth + rng.normal(0, 0.05, 50)), one_run(client))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    # 0.95 and five standard errors of a share among 400; the percentile interval of 50 is a little short.
    assert covered / trials == pytest.approx(0.945, abs=5 * math.sqrt(0.95 * 0.05 / trials))
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.05 / math.sqrt(50), rel=0.05)


def coverage(clients: int, over_clients: float, over_seeds: float) -> float:
    """How often the interval of 3 x 3 seeds covers a true difference of 0.05."""
    rng, fl_seeds, covered = np.random.default_rng(0), np.repeat(np.arange(3), 3), 0
    for _ in range(300):
        table = 0.05 + rng.normal(0, over_clients, (1, clients)) + rng.normal(0, 0.02, (9, clients))
        table += np.repeat(rng.normal(0, over_seeds, 3), 3)[:, None] + rng.normal(0, 0.01, (9, 1))
        low, high = np.quantile(resampled_means(table, fl_seeds), [0.025, 0.975])
        covered += bool(low <= 0.05 <= high)
    return covered / 300


def test_many_clients_give_the_level_and_three_of_anything_do_not() -> None:
    assert coverage(50, over_clients=0.1, over_seeds=0.01) == pytest.approx(0.94, abs=0.05)
    # A known limit of the percentile interval: were it gone, its description would be wrong.
    assert coverage(50, over_clients=0.02, over_seeds=0.05) == pytest.approx(0.75, abs=0.08)
    assert coverage(3, over_clients=0.1, over_seeds=0.01) == pytest.approx(0.75, abs=0.08)


def test_what_only_one_side_has_is_left_out_and_counted() -> None:
    """``global`` has no personalization seed: it stands beside each of its federated seed."""
    shared = {(0, None): {"a": 0.1, "b": 0.2, "c": 0.9}, (1, None): {"a": 0.3, "b": 0.0, "c": 0.9}}
    ours = {
        (0, 0): {"a": 0.0, "b": 0.0},
        (0, 1): {"a": 0.1, "b": 0.1},
        (1, 0): {"a": 0.0, "b": 0.0, "d": 5.0},
        (2, 0): {"a": 9.0, "b": 9.0},
    }
    found = compare(shared, ours)
    assert found is not None
    assert (found.clients, found.pairs) == (2, 3)
    assert found.mean == pytest.approx((0.1 + 0.2 + 0.0 + 0.1 + 0.3 + 0.0) / 6)
    assert compare({(5, 0): {"a": 1.0}}, ours) is None
    assert compare({(0, 0): {"z": 1.0}}, ours) is None


def test_clients_are_paired_by_id_and_seeds_by_number_whatever_their_order() -> None:
    """Clients and seeds differ widely; the difference is 0.125 for each, so the interval has no width."""
    ours = {
        (fl, p): {f"{client:04}": client / 16 + fl / 4 + p / 32 for client in range(12)}
        for fl in range(2)
        for p in range(2)
    }
    turned = {
        pair: {client: value + 0.125 for client, value in reversed(values.items())}
        for pair, values in reversed(ours.items())
    }
    found = compare(turned, ours)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.125, 0.125, 0.125)
    # A client that one side lacks shifts the places of those behind it.
    some = {
        pair: {name: v for name, v in values.items() if name != "0005"} for pair, values in turned.items()
    }
    fewer = compare(some, ours)
    assert fewer is not None
    assert (fewer.mean, fewer.low, fewer.high, fewer.clients) == (0.125, 0.125, 0.125, 11)


def test_the_order_of_the_rows_is_no_part_of_the_interval() -> None:
    """Runs that were continued or joined have their seeds in other orders."""
    values = np.random.default_rng(4).normal(size=(2, 3, 5))
    runs = {(fl, p): one_run(values[fl, p])[(0, 0)] for fl in range(2) for p in range(3)}
    zeros = {pair: dict.fromkeys(found, 0.0) for pair, found in runs.items()}
    orders = ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [4, 0, 2, 5, 1, 3])
    for own_clients in (False, True):
        turned = [{list(zeros)[place]: list(zeros.values())[place] for place in order} for order in orders]
        assert len({compare(runs, reference, own_clients=own_clients) for reference in turned}) == 1


def test_draws_that_are_not_defined_leave_no_interval_where_they_are_more_than_its_tails() -> None:
    """Fine-tuning that gains nothing in a resample has no share to be kept there."""
    draws = np.arange(1000.0)
    draws[:50] = np.nan
    assert interval(draws) == pytest.approx((50 + 0.025 * 949, 50 + 0.975 * 949))
    draws[50] = np.nan
    assert interval(draws) == (None, None)


def test_one_number_has_no_interval() -> None:
    found = compare({(0, 0): {"a": 0.5}}, {(0, 0): {"a": 0.25}})
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.25, None, None)
    alone = compare({(0, 0): {"a": 0.5}}, {(0, 0): {"a": 0.25}}, own_clients=True)
    assert alone == found


@pytest.mark.parametrize("own_clients", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        {(0, 0): {"a": 0.0, "b": 0.5}},  # two clients
        {(0, 0): {"a": 0.0}, (0, 1): {"a": 0.5}},  # two personalization seeds
        {(0, 0): {"a": 0.0}, (1, 0): {"a": 0.5}},  # two federated seeds
    ],
)
def test_two_numbers_have_an_interval(method: Disparities, own_clients: bool) -> None:
    """Two are drawn from two: both are the first, or the second, in a quarter of all draws."""
    zeros = {pair: dict.fromkeys(values, 0.0) for pair, values in method.items()}
    found = compare(method, zeros, own_clients=own_clients)
    assert found is not None
    assert (found.mean, found.low, found.high) == (0.25, 0.0, 0.5)


def test_a_client_that_one_seed_alone_has_is_left_out_unless_it_is_that_seeds_own() -> None:
    method = {(0, 0): {"a": 0.5, "b": 0.25}, (1, 0): {"b": 0.75, "c": 1.0}}
    zeros = {pair: dict.fromkeys(values, 0.0) for pair, values in method.items()}
    crossed, nested = (compare(method, zeros, own_clients=own) for own in (False, True))
    assert crossed is not None
    assert nested is not None
    assert (crossed.mean, crossed.clients, crossed.pairs, crossed.fl_seeds) == (0.5, 1, 2, 2)
    assert (nested.mean, nested.clients, nested.pairs, nested.fl_seeds) == (0.625, 4, 2, 2)
    for own in (False, True):
        assert compare({}, zeros, own_clients=own) is None
        assert compare({(0, 0): {"z": 1.0}}, zeros, own_clients=own) is None


def test_draws_of_many_clients_are_made_and_kept_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    table, fl_seeds = np.random.default_rng(5).normal(size=(3, 11)), np.array([0, 0, 1])

    def means() -> list[np.ndarray]:
        for draws in (significance._client_counts, significance._nested_counts):
            draws.cache_clear()
        return [
            resampled_means(table, fl_seeds, resamples=100),
            resampled_nested_means([table, table[:2, :4]], resamples=100),
        ]

    at_once = means()
    monkeypatch.setattr(significance, "_AT_ONCE", 30)
    for expected, found in zip(at_once, means(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert {block.dtype for block in significance._client_counts(11, 100)._blocks} == {np.dtype(np.uint8)}
    assert max(block.size for block in significance._client_counts(11, 100)._blocks) <= 30
