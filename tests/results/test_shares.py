"""Shares kept and taken back, with the numbers of the paper's Table 1, at the two ends, and of rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from finished_folders import client_row, rows_of, table, write_run
from running import read_rows

from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.paper import paper_shares
from fedml_spurious.results.rows import summarize
from fedml_spurious.results.run_table import make_run_table, write_table
from fedml_spurious.results.shares import Shares, shares


def row(acc_b: float, acc_bc: float | None) -> dict[str, float | None]:
    return {"acc_b": acc_b, "disparity": None if acc_bc is None else acc_b - acc_bc}


GLOBAL, FT, OURS = row(0.852, 0.847), row(0.989, 0.704), row(0.951, 0.870)


def test_the_papers_mnist() -> None:
    found = shares(OURS, FT, GLOBAL)
    assert found.kept == pytest.approx(99 / 137)
    assert found.taken_back == pytest.approx(204 / 280)
    assert paper_shares("colored_mnist", "ours") == found


def test_what_the_paper_lacks() -> None:
    """Table 1 has no UW on Coil20, no l2 at all, and nothing of one's own data set."""
    for dataset, method in (("colored_coil20", "uw"), ("colored_mnist", "l2"), ("own", "ours")):
        assert paper_shares(dataset, method) == Shares(None, None)


def test_the_ends() -> None:
    assert shares(FT, FT, GLOBAL) == Shares(1.0, 0.0)
    assert shares(GLOBAL, FT, GLOBAL) == Shares(0.0, 1.0)


def test_beyond_the_ends() -> None:
    found = shares(row(0.80, 0.90), FT, GLOBAL)
    assert found.kept == pytest.approx(-52 / 137)
    assert found.taken_back == pytest.approx(385 / 280)


def test_no_share_of_nothing() -> None:
    assert shares(OURS, row(0.852, 0.847), GLOBAL) == Shares(None, None)
    assert shares(OURS, row(0.80, 0.847), GLOBAL) == Shares(None, None)
    assert shares(row(0.951, None), FT, GLOBAL) == Shares(pytest.approx(99 / 137), None)
    assert shares(OURS, {}, GLOBAL) == Shares(None, None)
    assert shares(OURS, FT, {}) == Shares(None, None)


def test_sums_in_another_order_are_no_gain() -> None:
    """0.1 + 0.2 is 0.3 and 5e-17."""
    reference, tuned = {"acc_b": 0.3, "disparity": 0.3}, {"acc_b": 0.1 + 0.2, "disparity": 0.1 + 0.2}
    assert shares(reference, tuned, reference) == Shares(None, None)


def test_both_averages_by_hand() -> None:
    """Client 0 has 30 biased and 10 bias-conflicting test samples, client 1 has 10 and 30."""
    sizes = ({"n_test": 30, "n_test_bc": 10}, {"n_test": 10, "n_test_bc": 30})
    accuracies = {
        "global": [(0.5, 0.5), (0.5, 0.5)],
        "ft": [(1.0, 0.5), (0.5, 0.5)],
        "ours": [(0.75, 0.5), (0.75, 0.75)],
    }
    rows = [
        client_row(method, f"{client:04}", *cell, **sizes[client], p_seed=None if method == "global" else 0)
        for method, cells in accuracies.items()
        for client, cell in enumerate(cells)
    ]
    ours = {summary.method: summary.shares for summary in summarize(rows)}["ours"]
    # Client means: ft .75 and .25, ours .75 and .125. Weighted: ft .875 and .375, ours .75 and .0625.
    assert ours["mean"] == Shares(1.0, pytest.approx(0.125 / 0.25))
    assert ours["weighted"] == Shares(pytest.approx(0.25 / 0.375), pytest.approx(0.3125 / 0.375))


def test_either_table_has_the_shares_of_its_own_average(tmp_path: Path) -> None:
    """Client 0 has a third of the samples and all that fine-tuning does; ours does half of it to client 1."""

    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
        return {"global": (0.5, 0.5), "ft": (1 - client / 2, 0.5), "ours": (0.5 + client / 4, 0.5)}[method]

    run = write_run(tmp_path / "run", values, clients=2)
    # Client means: 0.125 of 0.25. Weighted: two thirds of 0.25, of a third of 0.5.
    expected = {"mean": (0.5, 0.5), "weighted": (1.0, 0.0)}
    write_table(tmp_path, make_run_table(load_run(run)))
    of_run = [row for row in read_rows(tmp_path / "table.csv") if row["method"] == "ours"]
    joined = [rows_of(run, "--average", average)[-1] for average in expected]
    for rows in (of_run, joined):
        found = {row["average"]: (float(row["kept"]), float(row["taken_back"])) for row in rows}
        assert found == {average: pytest.approx(shares) for average, shares in expected.items()}
    markdown = (tmp_path / "table.md").read_text()
    assert re.findall(r"^\| ours .*\| (\S+%) \| (\S+%) \|$", markdown, re.M) == [
        ("50%", "50%"),
        ("100%", "0%"),
    ]
    assert (
        "\nFine-tuning gains 0.250 in Acc_B and raises the accuracy disparity from 0.000 to 0.250; ours "
        in (markdown)
    )
    for average, shown in (("mean", "50% +50%"), ("weighted", "100% +0%")):
        assert re.search(rf"^ours .* {shown} +1 *$", table(run, "--average", average).output, re.M)


def test_seeds_are_averaged_first() -> None:
    """Half of 0.4 on one seed and all of 0.1 on another are 0.3 of 0.5, and not three quarters."""
    gains = {"global": (0.0, 0.0), "ft": (0.4, 0.1), "ours": (0.2, 0.1)}
    rows = [
        client_row(method, "0000", 0.5 + gain, 0.5, fl_seed=seed)
        for method, found in gains.items()
        for seed, gain in enumerate(found)
    ]
    ours = summarize(rows)[-1].shares["mean"]
    assert ours == Shares(pytest.approx(0.6), pytest.approx(0.4))


def test_a_method_of_some_clients_is_compared_on_those(tmp_path: Path) -> None:
    """Clients 2 and 3 are easy, and UW does not apply to them."""

    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
        if client > 1:
            return None if method == "uw" else (0.9, 0.9)
        return {"global": (0.5, 0.5), "ft": (0.7, 0.5), "uw": (0.6, 0.5)}[method]

    run = write_run(tmp_path / "run", values, methods=("global", "ft", "uw"))
    uw = rows_of(run)[-1]
    assert (float(uw["kept"]), float(uw["taken_back"])) == pytest.approx((0.5, 0.5))


def test_a_method_of_some_federated_seeds_is_compared_on_those(tmp_path: Path) -> None:
    """Fine-tuning gains 0.4 with seed 0, and 0.2 with seed 1, of which ours keeps half."""

    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
        return {"global": (0.5, 0.5), "ft": (0.9 - 0.2 * fl_seed, 0.5), "ours": (0.6, 0.5)}[method]

    runs = [
        write_run(tmp_path / "a", values, methods=("global", "ft"), fl_seeds=(0, 1)),
        write_run(tmp_path / "b", values, methods=("global", "ours"), fl_seeds=(1,)),
    ]
    ours = rows_of(*runs)[-1]
    assert (float(ours["kept"]), float(ours["taken_back"])) == pytest.approx((0.5, 0.5))


def test_the_papers_shares_stand_beside_ours(tmp_path: Path) -> None:
    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
        return {"global": (0.5, 0.5), "ft": (0.75, 0.5), "l2": (0.6, 0.55), "ours": (0.7, 0.5)}[method]

    run = write_run(tmp_path / "run", values, methods=("global", "ft", "l2", "ours"))
    found = {row["method"]: row for row in rows_of(run)}
    assert [float(found["ours"][name]) for name in ("kept", "kept_paper")] == pytest.approx([0.8, 99 / 137])
    names = ("taken_back", "taken_back_paper")
    assert [float(found["ours"][name]) for name in names] == pytest.approx([0.2, 204 / 280])
    assert (found["l2"]["kept_paper"], found["l2"]["taken_back_paper"]) == ("", "")
    assert [float(found["global"][name]) for name in ("kept", *names)] == pytest.approx([0, 1, 1])
    shown = table(run).output
    assert re.search(r"^ours .* 80% +20% +1 *$", shown, re.M)
    assert re.search(r"^l2 .* 40% +80% +1 *$", shown, re.M)
    assert "Kept and taken back in the paper's Table 1: ours 72% and 73%." in shown


def test_without_fine_tuning_there_are_no_shares(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", lambda *address: (0.75, 0.5), dataset="own", methods=("global", "ours"))
    assert {row[name] for row in rows_of(run) for name in ("kept", "taken_back", "kept_paper")} == {""}
    shown = table(run).output
    assert re.search(r"^ours .* N/A +N/A +1 *$", shown, re.M)
    assert "paper's Table 1" not in shown
