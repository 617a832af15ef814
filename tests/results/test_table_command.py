"""``fedml-spurious table`` over run folders whose numbers are known."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from finished_folders import EVERY_METHOD, GRID, constant, drawn, rows_of, table, write_decision, write_run
from rich.console import Console

from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import Personalizer
from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.method_names import SELECTED_BY, TRANSFERABILITY
from fedml_spurious.results.paper import TITLES
from fedml_spurious.results.run_table import make_run_table, show_table


def test_the_numbers_stand_beside_the_papers(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", constant, dataset="colored_coil20", methods=("global", "ft", "uw", "ours"),
        fl_seeds=(0, 1),
    )  # fmt: skip
    found = {row["method"]: row for row in rows_of(run)}
    assert (found["ft"]["acc_b"], found["ft"]["acc_b_paper"]) == ("0.75", "0.931")
    assert float(found["ft"]["acc_b_minus_paper"]) == pytest.approx(0.75 - 0.931)
    # Table 1, Coil20: 0.901 - 0.916 is the signed disparity of ours.
    assert float(found["ours"]["disparity_minus_paper"]) == pytest.approx(0.06 - (-0.015))
    assert float(found["ours"]["abs_disparity_minus_paper"]) == pytest.approx(0.06 - 0.015)
    assert float(found["ours"]["disparity_std"]) == pytest.approx(0.02 / 2**0.5)
    assert (found["uw"]["acc_b"], found["uw"]["acc_b_paper"], found["uw"]["seed_pairs"]) == ("", "", "0")
    # By federated seed ft minus ours is 0.2 or 0.18 for every client: at the ends one seed is drawn twice.
    assert float(found["ft"]["disparity_minus_ours"]) == pytest.approx(0.19)
    assert float(found["ft"]["disparity_minus_ours_low"]) == pytest.approx(0.18)
    assert float(found["ft"]["disparity_minus_ours_high"]) == pytest.approx(0.2)
    assert found["ft"]["compared_clients"] == "4"
    assert found["ours"]["disparity_minus_ours"] == found["uw"]["disparity_minus_ours"] == ""
    shown = table(run).output
    assert re.search(
        r"^ft +0\.750 ± 0\.000 +0\.500 ± 0\.000 +0\.250 ± 0\.000 +0\.250 ± 0\.000 +100% +0% +2 *$",
        shown,
        re.M,
    )
    assert re.search(r"^ft +\+0\.190 \[\+0\.180, \+0\.200\] *$", shown, re.M)
    assert re.search(r"^uw( +N/A){6} +0 *$", shown, re.M)
    assert re.search(r"^ft +0\.750 +0\.931 +-0\.181 ", shown, re.M)
    # Of Table 1's Coil20 alone: 0.901 - 0.882 and 0.916 - 0.903 are the paper's gains.
    assert re.search(r"^ours +\+6\.00 +-1\.50 .* \+12\.50 +\+1\.90 +\+6\.50 +\+1\.30 *$", shown, re.M)
    assert "Coefficients: ours lam_adv=1." in shown
    assert "Federated seeds 0, 1; personalization seeds 0; from" in shown
    assert "Setting: 3 federated rounds (the paper: 500); 2 epochs of fine-tuning (the paper: 10)." in shown


def test_the_weighted_average_counts_samples(tmp_path: Path) -> None:
    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
        return (1.0, 0.5) if client == 0 else (0.5, 0.0)

    run = write_run(tmp_path / "run", values, clients=2)
    assert {row["acc_b"] for row in rows_of(run)} == {"0.75"}
    weighted = rows_of(run, "--average", "weighted")
    assert [float(row["acc_b"]) for row in weighted] == pytest.approx([(10 * 1.0 + 20 * 0.5) / 30] * 3)
    few = " ".join(table(run).output.split())
    assert "client mean over 2 clients with bias-conflicting samples and 1 pair of seeds; 10,000" in few
    assert "With so few clients the intervals are too narrow. One pair of seeds tells nothing" in few
    assert "sample-weighted mean" in table(run, "--average", "weighted").output


def test_parts_of_an_experiment_join_to_the_whole(tmp_path: Path) -> None:
    """Other seeds, other methods, and rows that two runs share, among them the global model's."""
    whole = write_run(
        tmp_path / "whole", drawn, methods=("global", "ft", "uw", "ours"), fl_seeds=(0, 1), p_seeds=(0, 1)
    )
    parts = [
        write_run(tmp_path / "a", drawn, methods=("ours", "global"), fl_seeds=(0,), p_seeds=(0, 1)),
        write_run(tmp_path / "b", drawn, methods=("uw", "ft", "global"), fl_seeds=(0,), p_seeds=(1, 0)),
        write_run(
            tmp_path / "c", drawn, methods=("global", "ft", "uw", "ours"), fl_seeds=(1,), p_seeds=(0, 1)
        ),
    ]
    joined = rows_of(*parts)
    assert [row["method"] for row in joined] == ["global", "ft", "uw", "ours"]
    assert joined == rows_of(whole) == rows_of(whole, whole)
    assert [row["seed_pairs"] for row in joined] == ["2", "4", "4", "4"]


def test_a_method_of_some_clients_is_compared_on_those(tmp_path: Path) -> None:
    """Clients 2 and 3 are easy, and UW does not apply to them: it gains 10 points, and loses none."""

    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
        if method == "uw":
            return (0.6, 0.5) if client < 2 else None
        easy = 0.4 * (client >= 2)
        return {"global": (0.5 + easy, 0.5 + easy), "ours": (0.5 + easy, 0.45)}[method]

    run = write_run(tmp_path / "run", values, methods=("global", "uw", "ours"), fl_seeds=(0, 1))
    found = {row["method"]: row for row in rows_of(run)}
    assert (found["uw"]["clients"], found["ours"]["clients"], found["uw"]["compared_clients"]) == (
        "2",
        "4",
        "2",
    )
    # 0.1 for UW and, on the same clients, 0.05 for ours, which has 0.25 over all.
    assert float(found["uw"]["disparity_minus_ours"]) == pytest.approx(0.05)
    shown = table(run).output
    assert re.search(r"^uw +\+10\.00 .* \+10\.00 .* \+0\.00 ", shown, re.M)
    said = " ".join(shown.split())
    assert "uw applies to 2 of 4 clients, and its row is of those." in said
    assert "With so few clients and federated seeds the intervals are too narrow." in said


def test_the_attack_budget_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", drawn, fl_seeds=(0, 1))
    for seed, rates, in_range in ((0, (0.9, 0.45), True), (1, (0.9, 0.125), False)):
        content = {"eps": 0.02, "in_range": in_range, "trail": [[0.03, rates[0]], [0.02, rates[1]]]}
        (run / f"global/fl{seed}/budget.json").write_text(json.dumps(content))
    said = " ".join(table(run).output.split())
    assert (
        "Attack budget: fl0 0.02 (45% of the attacks succeed), fl1 0.02 (12% of the attacks succeed, outside "
        "the wanted range)." in said
    )


def test_methods_with_other_seeds_are_named(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", drawn, methods=("global", "ft"), fl_seeds=(0, 1)),
        write_run(tmp_path / "b", drawn, methods=("global", "ours"), fl_seeds=(1,)),
    ]
    said = " ".join(table(*runs).output.split())
    assert "Not all methods have the same pairs of seeds: ft fl0 p0, fl1 p0; ours fl1 p0." in said
    assert "the same pairs of seeds" not in table(runs[0]).output


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """All data sets of the paper in another order, one of one's own, and all methods."""
    names = [*reversed(TITLES), "own_data"]
    return [
        write_run(
            tmp_path / name, drawn, dataset=name, methods=EVERY_METHOD, fl_seeds=(0, 1), p_seeds=(0, 1, 2),
        )
        for name in names
    ]  # fmt: skip


def test_everything_fits_on_110_columns_and_nothing_is_cut(four: list[Path]) -> None:
    result = table(*four[:4])
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 110
    assert "…" not in result.output
    headings = [
        line.split(" (")[0] for line in result.output.splitlines() if "client mean of 4 clients" in line
    ]
    assert [name for name in headings if name in TITLES.values()] == list(TITLES.values())
    assert sum(line.startswith("grad_align") for line in result.output.splitlines()) == 1 + 3 * 4 + 1


def test_the_table_of_a_run_fits_on_110_columns(four: list[Path]) -> None:
    """No cell is wrapped: on a terminal that is wider the rows are the same."""
    shown = []
    for width in (110, 200):
        stream = io.StringIO()
        show_table(Console(file=stream, width=width), make_run_table(load_run(four[0])))
        rows = [line for line in stream.getvalue().splitlines() if line.split(" ")[0] in EVERY_METHOD]
        shown.append(rows)
    assert len(shown[0]) == 3 * len(EVERY_METHOD)
    assert shown[0] == shown[1]


def test_another_setting_than_the_papers_is_said(tmp_path: Path) -> None:
    sections = {
        "train_args": {"comm_round": 500, "client_num_per_round": 1, "epochs": 5, "learning_rate": 1e-3},
        "model_args": {"fc_width": 512},
        "data_args": {"data_cache_dir": None, "partition": {"source": "digits", "clients": 4}},
    }
    shown = table(write_run(tmp_path / "run", constant, sections=sections)).output
    assert (
        "Setting: 500 federated rounds; 1 client per round (the paper: 5); 2 epochs of fine-tuning (the "
        "paper: 5); "
        "learning rate 0.001 (the paper: 0.0001); fc_width 512 (the paper: 4096); split files made with "
        "source=digits, clients=4."
    ) in " ".join(shown.split())


@pytest.mark.parametrize(
    ("data", "title", "beside"),
    [
        ({"data_cache_dir": "d"}, "MNIST (colored_mnist), ", "Table 1"),
        ({"partition": {"clients": 4}, "raw": "r"}, "MNIST (colored_mnist), ", "Table 1"),
        (
            {"partition": {"clients": 4}},
            "scikit-learn's digits (colored_mnist), ",
            "Table 1, which is of MNIST",
        ),
        (
            {"partition": {"source": "digits"}, "raw": "r"},
            "scikit-learn's digits (colored_mnist), ",
            "Table 1, which is of MNIST",
        ),
    ],
)
def test_the_small_digits_are_not_called_mnist(
    tmp_path: Path, data: dict[str, Any], title: str, beside: str
) -> None:
    shown = table(write_run(tmp_path / "run", constant, sections={"data_args": data})).output
    assert shown.startswith(title)
    (line,) = [line for line in shown.splitlines() if "beside the paper's" in line]
    assert line.strip() == f"{title}selected epoch: beside the paper's {beside}"


def test_a_data_set_of_ones_own_has_no_paper_columns(four: list[Path]) -> None:
    own = table(four[-1]).output
    assert "own_data, selected epoch: client mean" in own
    assert "beside the paper" not in own
    assert {row["acc_b_paper"] for row in rows_of(four[-1])} == {""}
    # Averaged over five data sets, of which the paper has four, there is nothing to stand beside.
    assert re.search(r"^ours +5 +\S+ +\S+ +\S+ +\S+ *$", table(*four).output, re.M)


def test_latex_and_markdown_are_whole(four: list[Path]) -> None:
    latex = table(*four, "--format", "latex").output
    assert latex.count("\\begin{table}") == latex.count("\\end{table}") == 1 + 3 * 4 + 2 + 1
    for block in latex.split("\\begin{tabular}{")[1:]:
        alignment, body = block.split("\\end{tabular}")[0].split("}\n", 1)
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(alignment) - 1}
        assert len(rows) == 1 + len(EVERY_METHOD)
    assert "colored\\_coil20" in latex
    assert not re.search(r"(?<!\\)_", latex)
    markdown = table(*four, "--format", "markdown").output
    blocks = re.findall(r"(?:^\|.*\n)+", markdown, re.M)
    assert len(blocks) == 16
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_why_a_coefficient_was_chosen(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant, sections={"experiment_args": GRID})
    write_decision(run, "ours")
    shown = table(run, "--why").output
    assert "ours: lam_adv = 1 (10 lowers the validation accuracy, from 0.9500 to 0.5000)." in shown
    assert "Rule: the largest harmless (tolerance 0.05); tried with fl_seed 3 and p_seed 7." in shown
    assert "Meanwhile lam_l2=0.01." in shown.replace("\n", " ")
    assert [line.split() for line in shown.splitlines() if re.match(r"\d", line)] == [
        ["0.1", "0.9500"], ["1", "0.9000", "chosen"], ["10", "0.5000"],
    ]  # fmt: skip
    assert "| 1 | 0.9000 | chosen |" in table(run, "--why", "--format", "markdown").output
    assert "Coefficients: ours lam_adv=1 (tuned)." in table(run).output
    untuned = write_run(tmp_path / "untuned", constant)
    assert "no coefficient was tuned" in table(untuned, "--why").output


def test_every_client_may_have_coefficients_of_its_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant, sections={"experiment_args": GRID | {"tuning": "client"}})
    write_decision(run, "ours")
    trail = json.loads((run / "tuning/ours/decision.json").read_text())["trail"]
    other = [trail[0] | {"chosen": 0.1, "reason": "1 lowers it"}]
    clients = {
        "0000": {"chosen": {"lam_adv": 10.0}, "trail": [trail[0] | {"chosen": 10.0}]},
        "0001": {"chosen": {"lam_adv": 0.1}, "trail": other},
    }
    write_decision(run, "ours", scope="client", chosen=None, trail=None, clients=clients)
    lines = [line.split() for line in table(run, "--why").output.splitlines()]
    assert ["client", "0.1", "1", "10", "chosen", "because"] in lines
    assert ["0001", "0.9500", "0.9000", "0.5000", "0.1", "1", "lowers", "it"] in lines
    assert "ours lam_adv=0.1 or 10 (tuned)" in table(run).output


def test_a_table_needs_neither_torch_nor_fedml(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    code = (
        "import sys\nfrom fedml_spurious.cli import main\n"
        "main(['table', sys.argv[1]], standalone_mode=False)\n"
        "print([name for name in ('torch', 'fedml', 'h5py') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_what_is_said_of_the_selection_is_what_the_methods_do() -> None:
    assert set(SELECTED_BY) == set(METHODS)
    own_score = {name for name, method in METHODS.items() if method.score is not Personalizer.score}
    assert {name for name, rule in SELECTED_BY.items() if rule == TRANSFERABILITY} == own_score
