"""The frontier of a table whose shares are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from running import read_rows
from swept import Wanted, write_sweep

from fedml_spurious.cli import main

# Acc_B and disparity: the global model 0.5 and 0, fine-tuning 0.75 and 0.5.
POINTS = {
    ("global", ""): (0.5, 0.0),
    ("ft", ""): (0.75, 0.5),
    ("l2", "lam_l2=0.1"): (0.75, 0.375),
    ("l2", "lam_l2=1.0"): (0.625, 0.125),
    ("ours", "lam_adv=1.0,lam_l2=0.1"): (0.6875, 0.125),
    ("ours", "lam_adv=9.0,lam_l2=0.1"): (0.53125, 0.0),
    ("uw", ""): (0.75, 0.5),
}
VARIANTS: dict[str, list[str]] = {}
for method, options in POINTS:
    VARIANTS.setdefault(method, []).append(options)


def accuracies(wanted: Wanted) -> tuple[float, float] | None:
    acc_b, gap = POINTS[wanted.method, wanted.options]
    if wanted.epoch == "last":
        gap = gap / 2
    return acc_b, acc_b - gap


def figure(*arguments: Path | str) -> Result:
    return CliRunner().invoke(main, ["figure", "frontier", *map(str, arguments)])


def test_shares_and_the_advantage_over_l2_are_those_of_the_definition(tmp_path: Path) -> None:
    table = write_sweep(tmp_path / "sweep.csv", accuracies, variants=VARIANTS)
    result = figure(table, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = [row for row in read_rows(tmp_path / "out" / "frontier.csv") if row["epoch"] == "selected"]
    points = {(row["method"], row["options"]): row for row in rows if not row["level"]}
    assert points.keys() == POINTS.keys()
    shares = {key: (float(row["kept"]), float(row["taken_back"])) for key, row in points.items()}
    assert shares["ft", ""] == (1.0, 0.0)
    assert shares["global", ""] == (0.0, 1.0)
    assert shares["l2", "lam_l2=1.0"] == (0.5, 0.75)
    assert shares["ours", "lam_adv=9.0,lam_l2=0.1"] == (0.125, 1.0)
    assert (
        points["l2", "lam_l2=1.0"]["taken_back_low"]
        == points["l2", "lam_l2=1.0"]["taken_back_high"]
        == "0.75"
    )
    # Who wants half of the gain takes lam_l2 1, and the first of ours; who wants 75 %, lam_l2 0.1.
    advantage = {row["level"]: row for row in rows if row["level"]}
    found = {level: row["less_disparity"] for level, row in advantage.items()}
    assert found == {"0.25": "0.0", "0.5": "0.0", "0.75": "0.25", "0.9": ""}
    assert advantage["0.75"]["options"] == "lam_adv=1.0,lam_l2=0.1"
    assert advantage["0.75"]["reference_options"] == "lam_l2=0.1"
    assert advantage["0.9"]["options"] == ""
    assert advantage["0.75"]["less_disparity_low"] == "0.25"


def test_only_clients_that_all_options_have_are_compared(tmp_path: Path) -> None:
    def partly(wanted: Wanted) -> tuple[float, float] | None:
        if wanted.client == 2:  # another client, of whom the last trial is missing
            return None if wanted.options == "lam_l2=1.0" else (0.0, 1.0)
        return accuracies(wanted)

    table = write_sweep(tmp_path / "sweep.csv", partly, variants=VARIANTS)
    assert figure(table, "--out", tmp_path).exit_code == 0
    rows = read_rows(tmp_path / "frontier.csv")
    assert {row["clients"] for row in rows} == {"4"}
    assert float(rows[0]["acc_b"]) == 0.5


def test_an_interval_spans_what_seeds_and_clients_differ_by(tmp_path: Path) -> None:
    def differing(wanted: Wanted) -> tuple[float, float] | None:
        acc_b, acc_bc = accuracies(wanted) or (0.0, 0.0)
        more = 0.125 * wanted.fl_seed if wanted.method == "l2" else 0.0
        return acc_b, acc_bc - more

    table = write_sweep(tmp_path / "sweep.csv", differing, variants=VARIANTS)
    assert figure(table, "--out", tmp_path).exit_code == 0
    rows = [row for row in read_rows(tmp_path / "frontier.csv") if row["options"] == "lam_l2=1.0"]
    # Disparity 0.125 and 0.25 of a rise of 0.5 by seed; either may be drawn twice.
    low, mean, high = (float(rows[0][name]) for name in ("taken_back_low", "taken_back", "taken_back_high"))
    assert (low, mean, high) == pytest.approx((0.5, 0.625, 0.75))


def test_without_trials_it_says_how_to_get_them(tmp_path: Path) -> None:
    fixed = {"global": [""], "ft": [""], "ours": ["lam_adv=1.0,lam_l2=0.1"]}
    table = write_sweep(tmp_path / "sweep.csv", accuracies, variants=fixed)
    result = figure(table, "--out", tmp_path)
    assert result.exit_code == 2
    assert "experiment_args.trials=all" in result.output
