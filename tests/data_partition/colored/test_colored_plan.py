from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_partition.colored.options import ColoredOptions
from data_partition.colored.plan import plan_clients, plan_shared_map
from data_partition.split_files.federation import PlannedClient
from fedml_spurious.common.errors import InputError

BIASED = ("train", "val", "test")


@st.composite
def federations(draw: st.DrawFn) -> tuple[np.ndarray, int, ColoredOptions]:
    """Labels, number of classes, and options that these labels can fulfil."""
    num_classes = draw(st.integers(2, 6))
    clients = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(clients, 40), min_size=num_classes, max_size=num_classes))
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(np.repeat(range(num_classes), sizes))
    options = ColoredOptions(
        seed=draw(st.integers(0, 99)),
        clients=clients,
        classes_per_client=draw(st.integers(2, num_classes)),
        ratios=draw(st.sampled_from([(72, 8, 20), (1, 1, 1), (1, 0, 1), (1, 0, 0)])),
        bias_conflicting_fraction=draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])),
        map_divergence=draw(st.sampled_from([0.0, 0.4, 1.0])),
        label_noise=draw(st.sampled_from([0.0, 0.25, 1.0])),
    )
    return labels, num_classes, options


def plan_all(labels: np.ndarray, num_classes: int, options: ColoredOptions) -> list[PlannedClient]:
    return plan_clients(labels, num_classes, plan_shared_map(options, num_classes), options)


def rows_of(plan: PlannedClient) -> list[int]:
    return [row for split in BIASED for row in plan.splits[split].rows.tolist()]


@settings(max_examples=60)
@given(federations())
def test_no_sample_is_in_two_clients_or_two_splits(federation: tuple) -> None:
    labels, num_classes, options = federation
    plans = plan_all(labels, num_classes, options)
    used = [row for plan in plans for row in rows_of(plan)]
    assert len(plans) == options.clients
    assert len(set(used)) == len(used)
    held = {y for plan in plans for y in plan.classes}
    assert set(used) == set(np.flatnonzero(np.isin(labels, list(held))).tolist())


@settings(max_examples=60)
@given(federations())
def test_the_bias_conflicting_test_set_shows_the_same_samples_in_the_colour_of_another_class(
    federation: tuple,
) -> None:
    for plan in plan_all(*federation):
        test, conflicting = plan.splits["test"], plan.splits["test_bc"]
        assert np.array_equal(test.rows, conflicting.rows)
        assert np.array_equal(test.label, conflicting.label)
        for y, color in zip(conflicting.label.tolist(), conflicting.spurious.tolist(), strict=True):
            assert color != plan.color_map[y]
            assert color in plan.color_map.values()
        assert sorted(plan.conflict_map.values()) == sorted(plan.color_map.values())
        assert len(set(plan.color_map.values())) == len(plan.classes) == len(plan.color_map)


def test_no_split_of_a_plain_federation_is_empty() -> None:
    """Guards the tests around against empty splits: 6 clients of 50 samples, 72:8:20 of them."""
    for plan in plan_all(np.repeat(np.arange(10), 30), 10, ColoredOptions(clients=6)):
        sizes = {split: len(samples.rows) for split, samples in plan.splits.items()}
        assert sizes == {"train": 36, "val": 4, "test": 10, "test_bc": 10}


@settings(max_examples=60)
@given(federations())
def test_mislabelled_training_samples_are_exact_counts_per_class(federation: tuple) -> None:
    """Half up by hand: floor(n * share + 1/2); the test splits are clean."""
    labels, num_classes, options = federation
    for plan in plan_all(labels, num_classes, options):
        for split in ("train", "val"):
            part = plan.splits[split]
            wrong = Counter(labels[part.rows][labels[part.rows] != part.label].tolist())
            for y, total in Counter(labels[part.rows].tolist()).items():
                assert wrong[y] == int(total * Fraction(str(options.label_noise)) + Fraction(1, 2))
        test = plan.splits["test"]
        assert np.array_equal(test.label, labels[test.rows])
        assert test.spurious.tolist() == [plan.color_map[y] for y in test.label.tolist()]


def conflicting_labels(plan: PlannedClient, split: str) -> list[int]:
    part = plan.splits[split]
    pairs = zip(part.label.tolist(), part.spurious.tolist(), strict=True)
    return [y for y, color in pairs if color != plan.color_map[y]]


@settings(max_examples=60)
@given(federations())
def test_conflicting_samples_are_an_exact_count_and_every_split_and_class_has_its_part(
    federation: tuple,
) -> None:
    """Half up by hand over the client; each part is its proportion rounded up or down."""
    *_, options = federation
    for plan in plan_all(*federation):
        found = {split: Counter(conflicting_labels(plan, split)) for split in ("train", "val")}
        sizes = {split: Counter(plan.splits[split].label.tolist()) for split in ("train", "val")}
        total = sum(size.total() for size in sizes.values())
        count = int(total * Fraction(str(options.bias_conflicting_fraction)) + Fraction(1, 2))
        assert sum(part.total() for part in found.values()) == count
        for split, size in sizes.items():
            parts = [(found[split].total(), size.total()), *((found[split][y], size[y]) for y in size)]
            assert all(abs(got - Fraction(count * n, total)) < 1 for got, n in parts)


@pytest.mark.parametrize("clients", [10, 50])
def test_few_conflicting_samples_are_in_validation_splits_in_proportion_over_clients(clients: int) -> None:
    """135 samples of 5 classes a client at 2 %: two or three of train and val together, .2 of them in val."""
    labels = np.repeat(np.arange(10), clients // 2 * 27)
    plans = plan_all(labels, 10, ColoredOptions(clients=clients, bias_conflicting_fraction=0.02))
    in_val = [len(conflicting_labels(plan, "val")) for plan in plans]
    assert set(in_val) == {0, 1}
    expected = 0.0
    for plan in plans:
        total = sum(len(plan.splits[split].rows) for split in ("train", "val"))
        expected += int(total * 0.02 + 0.5) * len(plan.splits["val"].rows) / total
    assert expected > 1.5
    assert abs(sum(in_val) - expected) <= 1.5


@settings(max_examples=30)
@given(federations())
def test_classes_and_their_samples_are_spread_evenly(federation: tuple) -> None:
    labels, num_classes, options = federation
    plans = plan_all(labels, num_classes, options)
    holders = Counter(y for plan in plans for y in plan.classes)
    counts = [holders[y] for y in range(num_classes)]
    assert max(counts) - min(counts) <= 1
    for y in range(num_classes):
        sizes = [int((labels[rows_of(plan)] == y).sum()) for plan in plans if y in plan.classes]
        assert not sizes or max(sizes) - min(sizes) <= 1


@settings(max_examples=20)
@given(federations())
def test_the_seed_decides_everything(federation: tuple) -> None:
    labels, num_classes, options = federation
    first, second = (plan_all(labels, num_classes, options) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.color_map == other.color_map
        assert all(np.array_equal(one.splits[s].rows, other.splits[s].rows) for s in BIASED)
        assert all(np.array_equal(one.splits[s].spurious, other.splits[s].spurious) for s in BIASED)


def test_the_plan_of_a_tiny_federation_never_changes() -> None:
    """Whoever publishes results relies on the draws of noise, conflicts, colours, classes and splits."""
    options = ColoredOptions(
        seed=2, clients=3, classes_per_client=3, limit=100, bias_conflicting_fraction=0.2, label_noise=0.3,
        map_divergence=0.5,
    )  # fmt: skip
    plans = plan_all(np.random.default_rng(0).integers(0, 5, 120), 5, options)
    digest = hashlib.sha256()
    for plan in plans:
        digest.update(repr((plan.classes, plan.color_map, plan.conflict_map)).encode())
        for split, samples in plan.splits.items():
            columns = (samples.rows, samples.label, samples.spurious)
            digest.update(repr((split, [column.tolist() for column in columns])).encode())
    assert digest.hexdigest() == "9d7e5f4ab4142f3513e8910f17e910cbbe2d3c96639d67d8fb97e41466ede128"


def test_another_seed_gives_other_clients() -> None:
    labels = np.repeat(np.arange(10), 30)
    options = ColoredOptions(clients=6)
    one = plan_all(labels, 10, options)
    other = plan_all(labels, 10, options.model_copy(update={"seed": 1}))
    assert [plan.classes for plan in one] != [plan.classes for plan in other]
    assert [plan.color_map for plan in one] != [plan.color_map for plan in other]


def test_colours_do_not_change_who_holds_which_sample() -> None:
    """Addressed draws: a knob of the colours leaves the splits alone, so that runs can be compared."""
    labels = np.repeat(np.arange(10), 30)
    plain = plan_all(labels, 10, ColoredOptions(clients=6))
    for change in ({"bias_conflicting_fraction": 0.5}, {"map_divergence": 0.0}, {"label_noise": 0.5}):
        changed = plan_all(labels, 10, ColoredOptions(clients=6, **change))
        for one, other in zip(plain, changed, strict=True):
            assert all(np.array_equal(one.splits[s].rows, other.splits[s].rows) for s in BIASED)


def test_one_map_for_all_clients_is_the_centralized_setting() -> None:
    labels = np.repeat(np.arange(10), 30)
    plans = plan_all(labels, 10, ColoredOptions(clients=8, map_divergence=0.0))
    shared: dict[int, int] = {}
    for plan in plans:
        for y, color in plan.color_map.items():
            assert shared.setdefault(y, color) == color
    assert len(set(shared.values())) == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_divergence": 0.5, "colors": 9}, "colour map for 10 classes, and only 9 colours"),
        ({"clients": 400}, "200 clients would share a class of 30 samples"),
        ({"limit": 301}, "301 samples asked for, the data set has 300"),
        ({"classes_per_client": 11, "colors": 11}, "11 asked for, the data set has 10 classes"),
    ],
)
def test_more_than_the_data_give_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_all(np.repeat(np.arange(10), 30), 10, ColoredOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes_per_client": 1}, "at least 2 are needed"),
        ({"colors": 4}, "colors: 4, too few for classes_per_client 5"),
        ({"palette": ["red", "gren"]}, "no colour 'gren'; did you mean green"),
        ({"palette": ["red", "red"]}, "palette: names red twice"),
        ({"palette": ["red", "blue"], "colors": 3, "classes_per_client": 2}, "palette names 2"),
        ({"ratios": (0, 8, 20)}, "some training"),
        ({"ratios": (72, -8, 20)}, "none below 0"),
        ({"ratios": "72:8"}, "three whole numbers such as 72:8:20, got '72:8'"),
        ({"ratios": "a:b:c"}, "three whole numbers such as 72:8:20"),
        ({"bias_conflicting_fraction": 1.01}, "less than or equal to 1"),
        ({"map_divergence": float("nan")}, "finite"),
        ({"label_noise": "0.1"}, "valid number"),
        ({"clients": 0}, "greater than or equal to 1"),
        ({"classes": 5}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColoredOptions(**options)
