"""Averages by hand, and tables that can be read again."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from finished_folders import client_row as row
from running import read_rows

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.averages import Spread, client_mean, disparity, spread, weighted_mean
from fedml_spurious.results.budgets import Budget
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.notes import clients_note
from fedml_spurious.results.rows import read_results, summarize, write_results
from fedml_spurious.results.run_table import make_run_table, write_table


def test_rows_survive_the_file_digit_by_digit(tmp_path: Path) -> None:
    rows = [
        row("ours", "0000", 1 / 3, 0.1 + 0.2, lam_adv=1.0, p_seed=2),
        row("global", "0001", None, None, p_seed=None, seconds=None, selected_epoch=None),
    ]
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_a_loss_that_diverged_is_equal_to_its_copy(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [row("ft", "0000", 0.2, 0.2, loss_b=float("nan"))])
    assert read_results(tmp_path / "results.csv") == read_results(tmp_path / "results.csv")


@pytest.mark.parametrize("value", [7.5, -0.1, float("nan")])
def test_an_accuracy_that_is_no_share_is_refused(value: float, tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [row("ft", "0000", value, 0.2)])
    with pytest.raises(InputError, match=re.escape(f"(acc_b is {value}, not from 0 to 1); expected")):
        read_results(tmp_path / "results.csv")


@pytest.mark.parametrize("content", ["dataset\nx\n", "method,acc_b\nft,0.5\n"])
def test_a_broken_table_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(content)
    with pytest.raises(InputError, match="expected the columns dataset,method"):
        read_results(tmp_path / "results.csv")


@pytest.mark.parametrize(("content", "problem"), [("", "its last line is cut short"), (None, "no such file")])
def test_an_empty_table_or_none_is_refused(content: str | None, problem: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "results.csv").write_text(content)
    with pytest.raises(InputError, match=problem):
        read_results(tmp_path / "results.csv")


def test_client_mean_and_weighted_mean_by_hand() -> None:
    assert client_mean([0.5, None, 1.0]) == 0.75
    assert client_mean([None]) is None
    assert weighted_mean([0.5, None, 1.0], [30, 5, 10]) == (0.5 * 30 + 10) / 40
    assert weighted_mean([0.5], [0]) is None
    assert weighted_mean([0.5, 1.0], [1, 3]) == 0.875
    with pytest.raises(ValueError, match="shorter"):
        weighted_mean([0.5, 1.0], [1])
    assert disparity(0.25, 0.75) == -0.5
    assert disparity(0.9, None) is disparity(None, 0.9) is disparity(None, None) is None


def test_the_spread_of_values_by_hand() -> None:
    """Distances of 3, 3 and 0 from the mean 5: the root of 18 / 2."""
    assert spread([2.0, None, 8.0, 5.0]) == Spread(5.0, 3.0, 3)
    assert spread([2.0, 4.0]) == Spread(3.0, 2**0.5, 2)
    assert spread([0.5, None]) == Spread(0.5, None, 1)
    assert spread([None]) is spread([]) is None


def test_the_summary_averages_clients_first_and_seeds_then() -> None:
    rows = [
        row("ft", "0000", 1.0, 0.6, n_test=30, n_test_bc=10, acc_adv=0.75),
        row("ft", "0001", 0.8, 0.6, n_test=10, n_test_bc=30, acc_adv=0.25),
        row("ft", "0000", 0.7, 0.8, n_test=30, n_test_bc=10, fl_seed=1),
        row("ft", "0001", 0.7, 0.9, n_test=10, n_test_bc=30, fl_seed=1),
    ]
    (summary,) = summarize(rows)
    assert summary.clients == 2
    mean, weighted = summary.mean, summary.weighted
    # Seed 0: 0.9 - 0.6 = 0.3; seed 1: 0.7 - 0.85 = -0.15.
    assert mean["disparity"].mean == pytest.approx(0.075)
    assert mean["disparity"].std == pytest.approx(statistics.stdev([0.3, -0.15]))
    assert mean["abs_disparity"].mean == pytest.approx(0.225)
    # Weighted, seed 0: 38 of 40 against 0.6; seed 1: 0.7 against 35 of 40.
    assert weighted["acc_b"].mean == pytest.approx((0.95 + 0.7) / 2)
    assert weighted["disparity"].mean == pytest.approx((0.35 - 0.175) / 2)
    # Adversarial examples are of the biased test set: 25 of 40 with seed 0, half with seed 1.
    assert weighted["acc_adv"].mean == pytest.approx((0.625 + 0.5) / 2)
    assert mean["disparity"].count == 2


def test_a_disparity_compares_the_same_clients() -> None:
    """Client 1 has no bias-conflicting sample, client 2 nothing at all."""
    rows = [row("uw", "0000", 0.9, 0.6), row("uw", "0001", 0.5, None), row("uw", "0002", None, None)]
    (summary,) = summarize(rows)
    for values in (summary.mean, summary.weighted):
        assert values["acc_b"].mean == pytest.approx(0.7)
        assert values["acc_bc"].mean == 0.6
        assert values["disparity"].mean == values["abs_disparity"].mean == pytest.approx(0.3)
    assert (summary.clients, summary.conflicting_clients, summary.all_clients) == (2, 1, 3)
    assert clients_note([summary]) == (
        "uw applies to 2 of 3 clients, and its row is of those. "
        "uw: of 2 clients 1 has bias-conflicting samples, of which Acc_BC and disparities are."
    )
    assert clients_note(summarize([row("ft", "0000", 0.9, 0.6), row("uw", "0000", None, None)])) == ""


def test_table_files_of_a_run_in_memory(tmp_path: Path) -> None:
    """The folder of the run is not read: there is none."""
    rows = (
        row("grad_align", "0000", 0.75, 0.5),
        row("ft", "0000", 0.9, 0.5),
        row("uw", "0000", None, None, acc_adv=None),
        row("ours", "0000", 0.75, 0.5),
    )
    config = {"personalization_args": {"ours": {"lam_adv": 10.0}}}
    budgets = {"fl0": Budget(eps=0.0123, in_range=False, trail=((0.1, 0.9), (0.0123, 0.25)))}
    run = FinishedRun(tmp_path / "nowhere", config, rows, {}, budgets)
    write_table(tmp_path, make_run_table(run))
    lines = read_rows(tmp_path / "table.csv")
    methods = ("grad_align", "ft", "uw", "ours")
    assert [(line["method"], line["average"]) for line in lines] == [
        (method, average) for average in ("mean", "weighted") for method in methods
    ]
    found = {(line["method"], line["average"]): line for line in lines}
    assert float(found["ft", "mean"]["disparity"]) == 0.4
    assert float(found["ft", "mean"]["disparity_minus_ours"]) == pytest.approx(0.15)
    assert found["ft", "mean"]["disparity_minus_ours_low"] == ""  # one client and one pair of seeds
    assert found["uw", "mean"]["disparity"] == found["uw", "mean"]["disparity_minus_ours"] == ""
    assert found["ft", "weighted"]["disparity_minus_ours"] == ""
    markdown = (tmp_path / "table.md").read_text()
    assert "| ft | 0.900 | 0.500 | 0.400 | 0.400 | 0.500 | N/A | N/A |" in markdown
    assert "| ft | +0.150 |" in markdown
    assert "| uw | N/A | N/A | N/A | N/A | N/A | N/A | N/A |" in markdown
    assert "| uw |  |" in markdown
    latex = (tmp_path / "table.tex").read_text()
    assert "ft & 0.900 & 0.500 & 0.400 & 0.400 & 0.500 & N/A & N/A \\\\" in latex
    assert "ft & +0.150 \\\\" in latex
    # The notes have our order of methods, whatever the order of the rows.
    assert "Selected epoch: ft, uw, grad_align by validation accuracy; ours by validation" in markdown
    assert "Selected epoch: ft, uw, grad\\_align by validation accuracy; ours by validation" in latex
    assert "\nCoefficients: ours lam_adv=10.\n" in markdown
    assert "\nAttack budget: fl0 0.0123 (25% of the attacks succeed, outside the wanted range).\n" in markdown


def test_shares_are_of_the_seeds_that_method_fine_tuning_and_global_model_all_have() -> None:
    """Runs that are joined need not have the same methods: only seed 0 has fine-tuning here."""
    cells = {
        ("global", 0): (0.8, 0.8), ("ours", 0): (0.85, 0.8), ("ft", 0): (0.9, 0.6),
        ("global", 1): (0.5, 0.5), ("ours", 1): (0.9, 0.1),
    }  # fmt: skip
    rows = [
        row(method, "0000", *found, fl_seed=seed, p_seed=None if method == "global" else 0)
        for (method, seed), found in cells.items()
    ]
    (ours,) = [summary for summary in summarize(rows) if summary.method == "ours"]
    assert ours.shares["mean"].kept == pytest.approx(0.5)
    assert ours.shares["mean"].taken_back == pytest.approx(0.25 / 0.3)
