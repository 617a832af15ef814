"""What a sweep's tables mean together: cells, clients and seeds that are averaged, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from finished_folders import client_row

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json, write_csv
from fedml_spurious.results.frontier import Frontier
from fedml_spurious.results.phase import PhasePoint, phase_points
from fedml_spurious.results.rows import COLUMNS, DIVERGED, ClientResult
from fedml_spurious.results.stored_rows import StoredRow
from fedml_spurious.results.sweep_table import SweptRow, SweptRun, write_index
from fedml_spurious.results.swept_rows import read_rows


def row(
    method: str, client: str, gap: float | None, *, fl_seed: int = 0, p_seed: int | None = 0
) -> ClientResult:
    """Acc_B 0.75 with a disparity; None: it diverged."""
    found = client_row(method, client, 0.75, 0.75 - (gap or 0.0), fl_seed=fl_seed, p_seed=p_seed)
    if gap is None:
        return replace(found, acc_b=None, acc_bc=None, disparity=None, selected_epoch=DIVERGED)
    return found


def swept(found: ClientResult, *, options: str = "", splits: str = "s", cell: str = "1") -> SweptRow:
    return SweptRow({"key": cell}, StoredRow(found, options, "selected", True, splits), "run")


def gaps(rows: Sequence[SweptRow]) -> dict[str, PhasePoint]:
    return {point.method: point for point in phase_points(rows)}


WITHIN = [swept(row("global", client, 0.125, p_seed=None)) for client in "ab"] + [
    swept(row("ft", client, 0.25)) for client in "ab"
]


def test_a_method_that_applies_to_no_client_takes_no_cell_away() -> None:
    nothing = [swept(replace(row("gdro", client, None), selected_epoch=None)) for client in "ab"]
    found = gaps([*WITHIN, *nothing])
    assert found.keys() == {"global", "ft"}
    assert found["ft"].disparity == 0.25


def test_clients_with_options_of_their_own_are_one_method() -> None:
    tuned = [
        swept(row("l2", client, gap), options=f"lam_l2={lam}")
        for client, gap, lam in (("a", 0.0, 0.1), ("b", 0.25, 1.0))
    ]
    found = gaps([*WITHIN, *tuned])
    assert found["l2"].disparity == 0.125
    assert found["l2"].clients == 2


def test_a_client_that_diverged_with_one_seed_is_left_out_for_all() -> None:
    other = [swept(row("ft", "a", 0.5, p_seed=1)), swept(row("ft", "b", None, p_seed=1))]
    found = gaps([*WITHIN, *other])
    assert (found["ft"].clients, found["ft"].disparity) == (1, 0.375)
    assert found["global"].disparity == 0.125


def test_seeds_that_share_a_partition_have_the_same_clients_whatever_other_cells_have() -> None:
    rows = [
        swept(row(method, "a", 0.25, fl_seed=seed, p_seed=p_seed), splits=f"of {cell}", cell=cell)
        for cell in "12"
        for method, p_seed in (("global", None), ("ft", 0))
        for seed in (0, 1)
    ]
    assert {point.clients for point in phase_points(rows)} == {1}


def test_options_that_diverged_take_no_client_from_the_others() -> None:
    rows = {
        ("global", ""): [row("global", client, 0.0, p_seed=None) for client in "abc"],
        ("ft", ""): [row("ft", client, 0.5) for client in "abc"],
        ("l2", "lam_l2=0.1"): [row("l2", client, 0.25) for client in "abc"],
        ("l2", "lam_l2=10"): [row("l2", client, None if client in "ab" else 0.0) for client in "abc"],
    }
    frontier = Frontier.of(rows, own_clients=False)
    assert frontier is not None
    assert frontier.group.clients == {0: ("a", "b", "c")}
    assert frontier.diverged == {("l2", "lam_l2=10"): 2}
    assert ("l2", "lam_l2=10") not in frontier.disparity


def table(path: Path, found: ClientResult, splits: str = "s") -> Path:
    kinds = {"run": f"runs/{path.stem}", "epoch": "selected", "final": 1, "options": "", "splits": splits}
    write_csv(path, [*kinds, *COLUMNS], [kinds | vars(found)])
    return path


@pytest.mark.parametrize(
    ("gap", "splits", "said"), [(0.5, "s", "other numbers"), (0.25, "t", "other split files")]
)
def test_tables_of_different_experiments_are_refused_with_both_names(
    tmp_path: Path, gap: float, splits: str, said: str
) -> None:
    one = table(tmp_path / "one.csv", row("ft", "a", 0.25))
    other = table(tmp_path / "other.csv", row("ft", "a", gap), splits)
    with pytest.raises(InputError, match=said) as refused:
        read_rows([one, other])
    assert str(one) in str(refused.value)
    assert str(other) in str(refused.value)


def test_the_same_numbers_twice_are_no_other_experiment(tmp_path: Path) -> None:
    found = row("ft", "a", 0.25)
    one = table(tmp_path / "one.csv", found)
    other = table(tmp_path / "other.csv", replace(found, seconds=9.0))
    assert len(read_rows([one, other])) == 2


def test_values_that_are_added_hide_none_of_before(tmp_path: Path) -> None:
    def write(*folders: str) -> list[str]:
        runs = [SweptRun(f"runs/{name}/fl0", {"key": name}) for name in folders]
        write_index(tmp_path, ["key"], runs)
        return [run["folder"] for run in read_json(tmp_path / "sweep.json", "keys", "runs")["runs"]]

    assert write("a", "b") == ["runs/a/fl0", "runs/b/fl0"]
    assert write("b", "c") == ["runs/a/fl0", "runs/b/fl0", "runs/c/fl0"]


def test_the_share_of_a_resample_is_of_its_own_rise() -> None:
    """Of seed 0 half of a rise of 0.5 is taken back, of seed 1 a quarter of one of 0.25."""
    rises, left = (0.5, 0.25), (0.25, 0.1875)
    rows = {
        ("global", ""): [row("global", c, 0.0, fl_seed=s, p_seed=None) for s in (0, 1) for c in "ab"],
        ("ft", ""): [row("ft", c, rises[s], fl_seed=s) for s in (0, 1) for c in "ab"],
        ("l2", "lam_l2=1"): [row("l2", c, left[s], fl_seed=s) for s in (0, 1) for c in "ab"],
    }
    frontier = Frontier.of(rows, own_clients=False)
    assert frontier is not None
    point = frontier.points()[-1]
    assert point.taken_back == pytest.approx(1 - 0.4375 / 0.75)
    assert point.taken_back_interval == pytest.approx((0.25, 0.5))
    assert (point.kept, point.kept_interval) == (None, (None, None))  # all have the same Acc_B


@pytest.mark.parametrize("own_clients", [False, True])
def test_every_pair_of_seeds_counts_the_same_whatever_number_of_clients_it_has(own_clients: bool) -> None:
    """Seed 0 has three clients with a gap of 0.5, seed 1 one with 0.125; shared ones are one."""
    rows = [
        swept(row(method, client, gap, fl_seed=seed, p_seed=p_seed), splits=f"of {seed * own_clients}")
        for seed, clients, gap in ((0, "abc", 0.5), (1, "c", 0.125))
        for client in clients
        for method, p_seed in (("global", None), ("ft", 0))
    ]
    found = gaps(rows)
    assert found["ft"].disparity == found["global"].disparity == 0.3125
    assert found["ft"].clients == (4 if own_clients else 1)
    assert (found["ft"].low, found["ft"].high) == (0.125, 0.5)


def test_trials_and_the_last_epoch_are_no_part_of_a_phase_diagram() -> None:
    """A coefficient that was tried and not taken, and rows of another epoch."""
    others = [swept(row("ft", client, 0.5), options="lr=9") for client in "ab"]
    tried = [replace(one, stored=replace(one.stored, final=False)) for one in others]
    last = [replace(one, stored=replace(one.stored, options="", epoch="last")) for one in others]
    for rows in ([*tried, *WITHIN], [*WITHIN, *tried], [*last, *WITHIN], [*WITHIN, *last]):
        assert gaps(rows)["ft"].disparity == 0.25
