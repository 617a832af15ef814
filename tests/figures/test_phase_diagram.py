"""The phase diagram of a table whose disparities are known."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from running import read_rows
from swept import Wanted, write_sweep

from fedml_spurious.cli import main

KEYS = (
    "data_args.partition.bias_conflicting_fraction",
    "data_args.partition.map_divergence",
    "data_args.partition.classes_per_client",
)
CELLS = [
    (share, divergence, classes) for share in (0.0, 0.5) for divergence in (0.0, 1.0) for classes in (3, 5)
]
VARIANTS = {"global": [""], "ft": [""], "ours": ["lam_adv=1.0,lam_l2=0.1"]}

# Disparity of the global model by divergence of the maps, and how much more the others have.
GLOBAL, MORE = {0.0: 0.25, 1.0: 0.0}, {"global": 0.0, "ft": 0.375, "ours": 0.03125}


def accuracies(wanted: Wanted) -> tuple[float, float]:
    gap = GLOBAL[wanted.cell[1]] + MORE[wanted.method]
    return (0.75, 0.75 - gap) if wanted.epoch == "selected" else (0.5, 0.5)


def figure(*arguments: Path | str) -> Result:
    return CliRunner().invoke(main, ["figure", "phase_diagram", *map(str, arguments)])


def test_disparities_and_where_personalization_brings_the_shortcut_back(tmp_path: Path) -> None:
    table = write_sweep(tmp_path / "sweep.csv", accuracies, keys=KEYS, cells=CELLS, variants=VARIANTS)
    result = figure(table, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = read_rows(tmp_path / "out" / "phase_diagram.csv")
    assert len(rows) == len(CELLS) * 3
    found = {
        (row[KEYS[1]], row["method"]): row for row in rows if row[KEYS[2]] == "5" and row[KEYS[0]] == "0.5"
    }
    assert float(found["0.0", "ft"]["disparity"]) == 0.625
    assert float(found["0.0", "ft"]["acc_b"]) == 0.75
    assert found["0.0", "global"]["excess"] == ""
    # 0.625 - 2 * 0.25; without disparity of the global model, beyond 0.05.
    assert float(found["0.0", "ft"]["excess"]) == pytest.approx(0.125)
    assert float(found["1.0", "ft"]["excess"]) == pytest.approx(0.375 - 0.05)
    assert float(found["1.0", "ours"]["excess"]) == pytest.approx(0.03125 - 0.05)
    assert float(found["1.0", "ours"]["excess_low"]) == pytest.approx(0.03125 - 0.05)
    # Clients and seeds are all alike, so that drawing them again changes nothing.
    assert found["0.0", "ft"]["low"] == found["0.0", "ft"]["high"] == "0.625"
    assert (found["0.0", "ft"]["fl_seeds"], found["0.0", "ft"]["clients"]) == ("2", "6")


def test_numbers_stand_in_the_cells_and_a_missing_cell_is_left_white(tmp_path: Path) -> None:
    table = write_sweep(tmp_path / "sweep.csv", accuracies, keys=KEYS, cells=CELLS[:-1], variants=VARIANTS)
    assert figure(table, "--out", tmp_path).exit_code == 0
    first = (tmp_path / "phase_diagram.svg").read_bytes()
    texts = [node.text for node in ElementTree.fromstring(first).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("0.62") == 4  # 0.625, of fine-tuning under one map
    assert texts.count("0.38") == 3  # 0.375, under different ones, of which a cell is missing
    assert {"fine-tuning, 5 classes", "disparity"} <= set(texts)
    assert figure(table, "--out", tmp_path).exit_code == 0
    assert (tmp_path / "phase_diagram.svg").read_bytes() == first


def test_a_sweep_over_something_else_is_refused(tmp_path: Path) -> None:
    table = write_sweep(
        tmp_path / "sweep.csv",
        lambda _: (0.5, 0.5),
        keys=("train_args.epochs",),
        cells=[(1,)],
        variants=VARIANTS,
    )
    result = figure(table, "--out", tmp_path)
    assert result.exit_code == 2
    assert "no axis data_args.partition.bias_conflicting_fraction" in result.output
    assert figure(tmp_path / "nothing", "--out", tmp_path).exit_code == 2


@pytest.mark.parametrize(
    ("further", "said"),
    [
        ([(0.0, 0.0, 3, 1), (0.0, 0.0, 3, 2)], "the sweep varies train_args.epochs too"),
        ([(0, 0.0, 3, 1), (0.0, 0.0, 3, 1)], "two cells stand in one place"),
        ([(0.0, "some", 3, 1)], "map_divergence: expected numbers on this axis, got 'some'"),
    ],
)
def test_no_cell_stands_silently_for_another(
    further: list[tuple[object, ...]], said: str, tmp_path: Path
) -> None:
    def values(wanted: Wanted) -> tuple[float, float]:
        return (0.75, 0.5)

    keys = (*KEYS, "train_args.epochs")
    table = write_sweep(tmp_path / "sweep.csv", values, keys=keys, cells=further, variants=VARIANTS)
    refused = figure(table, "--out", tmp_path / "out")
    assert refused.exit_code == 2, refused.output
    assert said in refused.output
    assert not (tmp_path / "out").exists()


def test_sweeps_of_two_data_sets_or_other_axes_are_not_drawn_into_each_other(tmp_path: Path) -> None:
    first = write_sweep(tmp_path / "a.csv", accuracies, keys=KEYS, cells=CELLS, variants=VARIANTS)
    second = tmp_path / "b.csv"
    second.write_text(re.sub(r",d,(global|ft|ours),", r",e,\1,", first.read_text()))
    assert "is of one data set; got d, e" in figure(first, second, "--out", tmp_path).output
    cells = [cell[:2] for cell in CELLS[:1]]
    other = write_sweep(
        tmp_path / "c.csv", lambda _: (0.5, 0.5), keys=KEYS[:2], cells=cells, variants=VARIANTS
    )
    refused = figure(first, other, "--out", tmp_path)
    assert refused.exit_code == 2, refused.output
    assert f"varies {KEYS[2]} too" in refused.output
