"""Every column of the two CSV files and of the run's tables, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_folders import rows_of, table, write_run
from running import read_rows

from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.run_table import make_run_table, write_table

ROOT = 2**0.5  # the deviation of two values is their distance divided by this


def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
    """Client 1 has 0.03 more on the biased test set, in every row; it has 20 samples and client 0 has 10."""
    if method == "uw":
        return None
    by_seed = {
        "global": [(0.5, 0.5), (0.5, 0.5)],
        "ft": [(0.75, 0.5), (0.75, 0.5)],
        "ours": [(0.6, 0.5), (0.5, 0.7)],
    }
    acc_b, acc_bc = by_seed[method][fl_seed]
    return acc_b + 0.03 * client, acc_bc


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Its configuration has another order of methods than our tables."""
    return write_run(
        tmp_path / "run", values, dataset="colored_coil20", methods=("ours", "ft", "global", "uw"),
        fl_seeds=(0, 1), clients=2,
    )  # fmt: skip


def agrees(row: dict[str, str], expected: dict[str, str | float]) -> None:
    """Every column in its order; what is not expected is empty."""
    assert expected.keys() <= row.keys()
    for name, cell in row.items():
        wanted = expected.get(name, "")
        if isinstance(wanted, str):
            assert cell == wanted, name
        else:
            assert float(cell) == pytest.approx(wanted, abs=1e-12), name


JOINED_COLUMNS = [
    "dataset", "paper_dataset", "method", "average", "clients", "seed_pairs",
    "acc_b", "acc_b_std", "acc_b_paper", "acc_b_minus_paper",
    "acc_bc", "acc_bc_std", "acc_bc_paper", "acc_bc_minus_paper",
    "disparity", "disparity_std", "disparity_paper", "disparity_minus_paper",
    "abs_disparity", "abs_disparity_std", "abs_disparity_paper", "abs_disparity_minus_paper",
    "acc_b_paper_spread", "acc_bc_paper_spread", "acc_adv", "acc_adv_std",
    "disparity_minus_ours", "disparity_minus_ours_low", "disparity_minus_ours_high", "compared_clients",
    "selected_by", "coefficients", "kept", "kept_paper", "taken_back", "taken_back_paper", "epoch",
]  # fmt: skip


def joined(method: str, clients: str, pairs: str) -> dict[str, str | float]:
    return {
        "dataset": "colored_coil20", "paper_dataset": "Coil20", "method": method, "average": "mean",
        "clients": clients, "seed_pairs": pairs, "epoch": "selected",
    }  # fmt: skip


def cells(name: str, ours: float, std: float, paper: float) -> dict[str, str | float]:
    return {name: ours, f"{name}_std": std, f"{name}_paper": paper, f"{name}_minus_paper": ours - paper}


def part(
    kept: float, kept_paper: float, taken_back: float, taken_back_paper: float
) -> dict[str, str | float]:
    return {
        "kept": kept,
        "kept_paper": kept_paper,
        "taken_back": taken_back,
        "taken_back_paper": taken_back_paper,
    }


def test_every_column_of_the_joined_table(run: Path) -> None:
    """The paper's numbers are those of Table 1, Coil20: a gain of 0.049 and a rise of 0.061."""
    rows = rows_of(run)
    assert list(rows[0]) == JOINED_COLUMNS
    assert [row["method"] for row in rows] == ["global", "ft", "uw", "ours"]
    adversarial = {"acc_adv": 0.3125, "acc_adv_std": 0.125 / ROOT}
    by_global, by_ft, by_uw, by_ours = rows
    agrees(
        by_global,
        joined("global", "2", "2")
        | cells("acc_b", 0.515, 0, 0.882) | cells("acc_bc", 0.5, 0, 0.903)
        | cells("disparity", 0.015, 0, -0.021) | cells("abs_disparity", 0.015, 0, 0.021)
        | {"acc_b_paper_spread": 0.6e-4, "acc_bc_paper_spread": 7e-4} | adversarial
        | {"disparity_minus_ours": 0.05, "disparity_minus_ours_low": -0.1, "disparity_minus_ours_high": 0.2}
        | {"compared_clients": "2"} | part(0, 0, 1, 1),
    )  # fmt: skip
    agrees(
        by_ft,
        joined("ft", "2", "2")
        | cells("acc_b", 0.765, 0, 0.931) | cells("acc_bc", 0.5, 0, 0.891)
        | cells("disparity", 0.265, 0, 0.04) | cells("abs_disparity", 0.265, 0, 0.04)
        | {"acc_b_paper_spread": 1e-4, "acc_bc_paper_spread": 2e-4} | adversarial
        | {"disparity_minus_ours": 0.3, "disparity_minus_ours_low": 0.15, "disparity_minus_ours_high": 0.45}
        | {"compared_clients": "2", "selected_by": "validation accuracy"} | part(1, 1, 0, 0),
    )  # fmt: skip
    agrees(by_uw, joined("uw", "0", "0") | {"selected_by": "validation accuracy"})
    agrees(
        by_ours,
        joined("ours", "2", "2")
        | cells("acc_b", 0.565, 0.1 / ROOT, 0.901) | cells("acc_bc", 0.6, 0.2 / ROOT, 0.916)
        | cells("disparity", -0.035, 0.3 / ROOT, -0.015) | cells("abs_disparity", 0.15, 0.07 / ROOT, 0.015)
        | {"acc_b_paper_spread": 3e-4, "acc_bc_paper_spread": 5e-8} | adversarial
        | {"selected_by": "validation accuracy minus the decrease of adversarial transferability"}
        | {"coefficients": "lam_adv=1"} | part(0.05 / 0.25, 19 / 49, 0.3 / 0.25, 55 / 61),
    )  # fmt: skip


RUN_COLUMNS = [
    "method", "clients", "average", "acc_b", "acc_bc", "disparity", "abs_disparity", "acc_adv",
    "acc_b_std", "acc_bc_std", "disparity_std", "abs_disparity_std", "acc_adv_std", "runs",
    "disparity_minus_ours", "disparity_minus_ours_low", "disparity_minus_ours_high", "compared_clients",
    "kept", "taken_back",
]  # fmt: skip


def of_run(method: str, average: str, means: list[float], deviations: list[float]) -> dict[str, str | float]:
    """Acc_B, Acc_BC, disparity and |disparity|, then those of Acc_Adv, which are the same everywhere."""
    numbers = [*means, 0.3125, *deviations, 0.125 / ROOT]
    return {"method": method, "clients": "2", "average": average, "runs": "2"} | dict(
        zip(RUN_COLUMNS[3:13], numbers, strict=True)
    )


def test_every_column_of_the_table_of_a_run(run: Path, tmp_path: Path) -> None:
    write_table(tmp_path, make_run_table(load_run(run)))
    rows = read_rows(tmp_path / "table.csv")
    assert list(rows[0]) == RUN_COLUMNS
    difference, shares = RUN_COLUMNS[-6:-2], RUN_COLUMNS[-2:]
    ours = [0.1 / ROOT, 0.2 / ROOT, 0.3 / ROOT]
    none = [0.0, 0.0, 0.0, 0.0]
    ends = [dict(zip(shares, cells, strict=True)) for cells in ((1, 0), (0, 1))]
    between = {"kept": 0.2, "taken_back": 1.2}
    expected = [
        of_run("ours", "mean", [0.565, 0.6, -0.035, 0.15], [*ours, 0.07 / ROOT]) | between,
        of_run("ft", "mean", [0.765, 0.5, 0.265, 0.265], none)
        | dict(zip(difference, (0.3, 0.15, 0.45, "2"), strict=True))
        | ends[0],
        of_run("global", "mean", [0.515, 0.5, 0.015, 0.015], none)
        | dict(zip(difference, (0.05, -0.1, 0.2, "2"), strict=True))
        | ends[1],
        {"method": "uw", "clients": "0", "average": "mean", "runs": "0"},
        # Two of three samples are client 1's, which has 0.03 more.
        of_run("ours", "weighted", [0.57, 0.6, -0.03, 0.15], [*ours, 0.06 / ROOT]) | between,
        of_run("ft", "weighted", [0.77, 0.5, 0.27, 0.27], none) | ends[0],
        of_run("global", "weighted", [0.52, 0.5, 0.02, 0.02], none) | ends[1],
        {"method": "uw", "clients": "0", "average": "weighted", "runs": "0"},
    ]
    for row, wanted in zip(rows, expected, strict=True):
        agrees(row, wanted)


def test_the_same_run_as_text(run: Path, tmp_path: Path) -> None:
    write_table(tmp_path, make_run_table(load_run(run)))
    adversarial = "0.312 ± 0.088"
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "Client mean of 2 clients, mean ± standard deviation over 2 runs"
    assert lines[2:8] == [
        "| method | Acc_B | Acc_BC | Disparity | \\|Disparity\\| | Acc_Adv | kept | taken back |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ours | 0.565 ± 0.071 | 0.600 ± 0.141 | -0.035 ± 0.212 | 0.150 ± 0.049 "
        f"| {adversarial} | 20% | 120% |",
        f"| ft | 0.765 ± 0.000 | 0.500 ± 0.000 | 0.265 ± 0.000 | 0.265 ± 0.000 | {adversarial} | 100% | 0% |",
        "| global | 0.515 ± 0.000 | 0.500 ± 0.000 | 0.015 ± 0.000 | 0.015 ± 0.000 "
        f"| {adversarial} | 0% | 100% |",
        "| uw | N/A | N/A | N/A | N/A | N/A | N/A | N/A |",
    ]
    assert lines[9] == "Sample-weighted mean of 2 clients, mean ± standard deviation over 2 runs"
    assert (
        lines[11] == "| method | Acc_B | Acc_BC | Disparity | \\|Disparity\\| | Acc_Adv | kept | taken back |"
    )
    assert lines[13] == (
        "| ours | 0.570 ± 0.071 | 0.600 ± 0.141 | -0.030 ± 0.212 | 0.150 ± 0.042 "
        f"| {adversarial} | 20% | 120% |"
    )
    assert lines[18] == "Client mean of 2 clients: disparity minus that of ours"
    assert lines[20:26] == [
        "| method | Disparity minus ours' [95% CI] |",
        "| --- | ---: |",
        "| ours |  |",
        "| ft | +0.300 [+0.150, +0.450] |",
        "| global | +0.050 [-0.100, +0.200] |",
        "| uw |  |",
    ]


def test_the_joined_table_as_text(run: Path) -> None:
    lines = table(run, "--format", "markdown").output.splitlines()
    assert (
        lines[0]
        == "Coil20 (colored_coil20), selected epoch: client mean of 2 clients ± standard deviation over n "
        "pairs of seeds"
    )
    assert (
        lines[7]
        == "| ours | 0.565 ± 0.071 | 0.600 ± 0.141 | -0.035 ± 0.212 | 0.150 ± 0.049 | 20% | 120% | 2 |"
    )
    assert lines[9] == "Coil20 (colored_coil20), selected epoch: beside the paper's Table 1"
    assert lines[16] == (
        "| ours | 0.565 | 0.901 | -0.336 | 0.600 | 0.916 | -0.316 | -0.035 | -0.015 | -0.020 "
        "| 0.150 | 0.015 | +0.135 |"
    )
    assert lines[15] == "| uw | N/A | N/A |  | N/A | N/A |  | N/A | N/A |  | N/A | N/A |  |"
