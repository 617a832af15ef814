"""What is read of runs that are not finished, that a kill ended in the middle of a line, or that diverged."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_folders import client_row, constant, write_run

from fedml_spurious.common.storage import append_csv, write_csv
from fedml_spurious.report.headline import headline
from fedml_spurious.report.open_run import open_run
from fedml_spurious.report.trajectories import read_trajectories
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import COLUMNS


def cut(path: Path) -> None:
    """Leave half a line at the end of a file, as a kill does."""
    path.write_text(path.read_text() + "0007,0.")


def open_folder(tmp_path: Path) -> Path:
    run = write_run(tmp_path / "run", constant, methods=["global", "ft"])
    (run / "results.csv").unlink()
    return run


def test_half_a_row_that_a_kill_left_is_dropped(tmp_path: Path) -> None:
    run = open_folder(tmp_path)
    rounds = run / "global/fl0/rounds.csv"
    write_csv(rounds, ["round", "train_loss"], [{"round": 0, "train_loss": 1.5}])
    clients, trajectory = (run / "personal/ft/fl0_p0" / name for name in ("clients.csv", "trajectory.csv"))
    append_csv(clients, COLUMNS, [vars(client_row("ft", "0000", 0.9, 0.8))])
    append_csv(trajectory, ["client", "batch"], [{"client": "0000", "batch": 0}])
    for path in (rounds, clients, trajectory):
        cut(path)
    found = open_run(run)
    assert found.rounds == {"fl0": [{"round": "0", "train_loss": "1.5"}]}
    assert found.finished is not None
    assert [row.client for row in found.finished.results] == ["0000"]
    assert read_trajectories(run, "ft", 0, 0) == {"0000": [{"client": "0000", "batch": "0"}]}


def test_of_a_client_that_stands_there_twice_the_later_row_holds(tmp_path: Path) -> None:
    run = open_folder(tmp_path)
    rows = [
        client_row("ft", *cells) for cells in (("0001", 0.5, 0.5), ("0000", 0.6, 0.6), ("0001", 0.9, 0.8))
    ]
    append_csv(run / "personal/ft/fl0_p0/clients.csv", COLUMNS, [vars(row) for row in rows])
    found = open_run(run)
    assert found.finished is not None
    assert [(row.client, row.acc_b) for row in found.finished.results] == [("0000", 0.6), ("0001", 0.9)]


@pytest.mark.parametrize("methods", [("global", "ours"), ("global", "ft", "ours")])
@pytest.mark.parametrize("diverged", ["global", "ours"])
def test_of_a_run_in_which_a_method_diverged_nothing_else_is_said(
    methods: tuple[str, ...], diverged: str
) -> None:
    rows = [
        client_row(name, "0001", None, None, selected_epoch=0) if (name, client) == (diverged, "0001")
        else client_row(name, client, 0.9, {"ours": 0.8}.get(name, 0.5), p_seed=None if name == GLOBAL else 0)
        for name in methods
        for client in ("0000", "0001")
    ]  # fmt: skip
    table = DatasetTable.of(DatasetRuns.of_one(FinishedRun(Path("run"), {}, tuple(rows), {}, {})), "mean")
    assert headline(table) == f"No conclusion: {diverged} diverged on 1 of 2 clients."


def test_rows_of_trials_are_no_results_while_nobody_knows_which_is_taken(tmp_path: Path) -> None:
    run = open_folder(tmp_path)
    for place, value in enumerate((0.1, 1.0)):
        path = run / f"personal/ft/lam={value}/fl0_p0/clients.csv"
        append_csv(path, COLUMNS, [vars(client_row("ft", "0000", 0.9, value / 2))])
        finished = open_run(run).finished
        found = [row.acc_bc for row in finished.results] if finished else []
        assert found == ([0.05] if place == 0 else [])
