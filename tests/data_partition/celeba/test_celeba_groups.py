import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_partition.celeba import groups
from data_partition.celeba.groups import PAPER_COUNTS, find_group_counts, read_group_counts
from data_partition.celeba.reserve import divide, reserve_identities
from fedml_spurious.common.errors import InputError


def test_the_three_clients_have_the_counts_of_the_printed_tables() -> None:
    """Tables 3, 4 and 5, columns non-blond female, non-blond male, blond female, blond male."""
    table_3 = [[55, 31, 12, 2], [30, 68, 0, 2], [59, 28, 11, 2]]
    table_4 = [[115, 60, 45, 2], [60, 75, 79, 0], [86, 111, 14, 0]]
    table_5 = [[0, 0, 0, 200], [0, 0, 0, 203], [0, 0, 0, 204]]
    for client, counts in enumerate(PAPER_COUNTS.clients):
        assert counts.train_and_validation.array().tolist() == table_3[client]
        assert counts.test.array().tolist() == table_4[client]
        assert counts.test_bc.array().tolist() == table_5[client]
    assert PAPER_COUNTS.demand().sum(axis=0).tolist() == [405, 373, 161, 615]


def test_the_documented_example_is_read_as_yaml_and_as_json(tmp_path: Path) -> None:
    example = str(groups.__doc__).split("::\n", 1)[1]
    path = tmp_path / "counts.yaml"
    path.write_text(example)
    counts = read_group_counts(path)
    assert counts.demand().tolist() == [[60, 50, 18, 17], [50, 60, 18, 14]]
    path.write_text(json.dumps(counts.model_dump()))
    assert read_group_counts(path) == counts


def _one_client(together: str, test: str, test_bc: str) -> str:
    return f"clients:\n- train_and_validation: {{{together}}}\n  test: {{{test}}}\n  test_bc: {{{test_bc}}}"


WRONG_FILES = {
    "clients: [": "broken YAML in line 1",
    "clients: []": "clients: .*at least 1 item",
    "- 1": "expected a section",
    "clients:\n- {train_and_validation: {}, test: {}}": r"clients\.0\.test_bc: missing",
    _one_client("blond: 1", "", ""): r"clients\.0\.train_and_validation\.blond: unknown key",
    _one_client("blond_male: -1", "", ""): "at least 0",
    _one_client("", "blond_male: 1.5", ""): "whole number",
    _one_client("", "", "blond_female: 1"): r"clients\.0\.test_bc\.blond_female: not bias-conflicting; "
    "conflicting names blond_male",
    "conflicting: [blond]\n" + _one_client("", "", ""): r"conflicting\.0: .*'blond_male'",
    "conflicting: []\n" + _one_client("", "", ""): "conflicting: .*at least 1 item",
}


@pytest.mark.parametrize("content", WRONG_FILES)
def test_a_wrong_file_of_counts_is_explained(tmp_path: Path, content: str) -> None:
    path = tmp_path / "counts.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"counts.yaml: (?s:.)*{WRONG_FILES[content]}"):
        read_group_counts(path)


def test_a_missing_file_of_counts_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read"):
        read_group_counts(tmp_path / "nowhere.yaml")


def test_the_example_in_the_examples_folder_is_read() -> None:
    example = Path(__file__).parents[3] / "examples" / "celeba_group_counts.yaml"
    assert read_group_counts(example).demand().sum(axis=0).tolist() == [110, 110, 36, 31]


@given(st.lists(st.integers(0, 9), max_size=8), st.tuples(st.integers(0, 25), st.integers(0, 25)))
@settings(deadline=None)
def test_two_bins_are_filled_whenever_they_can_be(sizes: list[int], targets: tuple[int, int]) -> None:
    """The reference tries every way to put the items into two bins."""
    total = sum(sizes)
    possible = any(
        sum(subset) >= targets[0] and total - sum(subset) >= targets[1]
        for length in range(len(sizes) + 1)
        for subset in itertools.combinations(sizes, length)
    )
    bins = divide(np.array(sizes, np.int64), np.array(targets))
    assert (bins is not None) == possible
    if bins is not None:
        assert len(np.unique(np.concatenate(bins))) == sum(len(items) for items in bins)
        for items, target in zip(bins, targets, strict=True):
            assert sum(sizes[item] for item in items) >= target


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None)
def test_a_reserve_holds_what_is_wanted_or_is_refused(draw: int, num_clients: int, seed: int) -> None:
    rng = np.random.default_rng(draw)
    supply = rng.integers(0, 12, (20, 4)) * (rng.random((20, 4)) < 0.6)
    demand = rng.integers(0, 30, (num_clients, 4))
    try:
        reserve = reserve_identities(supply, demand, usual=10, limit=20, seed=seed)
    except InputError:
        return
    assert len(reserve.positions) == len(np.unique(reserve.positions)) in (10, 20)
    for share, wanted in zip(reserve.shares, demand, strict=True):
        assert (supply[share].sum(axis=0) >= wanted).all()
    again = reserve_identities(supply, demand, usual=10, limit=20, seed=seed)
    for share, same in zip(reserve.shares, again.shares, strict=True):
        np.testing.assert_array_equal(share, same)


def test_a_plain_demand_is_met() -> None:
    """Guards the test above against refusing everything: 4 clients of 3 celebrities each suffice."""
    supply = np.full((12, 4), 10)
    reserve = reserve_identities(supply, np.full((4, 4), 25), usual=12, limit=12, seed=0)
    assert [len(share) for share in reserve.shares] == [3, 3, 3, 3]


def test_too_few_blond_males_are_counted() -> None:
    supply = np.array([[10, 0, 0, 2], [10, 0, 0, 3]])
    with pytest.raises(InputError, match="want 6 images of blond_male, the images at hand hold 5"):
        reserve_identities(supply, np.array([[0, 0, 0, 6]]), usual=2, limit=2, seed=0)


def test_counts_that_ship_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demand = read_group_counts(find_group_counts(Path("celeba_s_small"))).demand()
    assert demand.shape == (10, 4)
    assert demand[3:, 2:].sum() == 0  # nobody is blond on clients 3 to 9
    (tmp_path / "own.yaml").write_text("clients: []")
    assert find_group_counts(Path("own.yaml")) == Path("own.yaml")
    with pytest.raises(
        InputError, match=r"nowhere: no such file with group counts; give one, or celeba_s_small"
    ):
        find_group_counts(Path("nowhere"))
