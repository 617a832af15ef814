"""``table --why`` on the error sets of JTT, from files written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_folders import GRID, constant, table, write_decision, write_run

from fedml_spurious.personalization.jtt import error_set_quality
from fedml_spurious.results.jtt_error_sets import ErrorSet

FOUND = {"samples": 100, "error_set": 8, "conflicting": 4, "hits": 2, "precision": 0.25, "recall": 0.5}
EMPTY = {"samples": 90, "error_set": 0, "conflicting": 3, "hits": 0, "precision": None, "recall": 0.0}
FILE = "personal/jtt/fl0_p0/details.json"


def with_jtt(folder: Path, **more: Any) -> Path:
    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
        return constant("ft" if method == "jtt" else method, fl_seed, p_seed, client)

    return write_run(folder, values, methods=("global", "ft", "jtt"), **more)


def write_details(run: Path, seeds: str, content: Mapping[str, Any]) -> None:
    path = run / "personal/jtt" / seeds / "details.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def cells(output: str, start: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if line.startswith(start)]


def test_a_row_for_every_pair_of_seeds_and_client(tmp_path: Path) -> None:
    run = with_jtt(tmp_path / "run", fl_seeds=(0, 1), p_seeds=(0, 1))
    write_details(run, "fl0_p0", {"0000": FOUND, "0001": EMPTY})
    write_details(run, "fl0_p1", {"0000": FOUND | {"recall": 1.0}})
    write_details(run, "fl1_p0", {"0003": FOUND | {"samples": 120}})
    result = table(run, "--why")
    assert result.exit_code == 0, result.output
    assert "jtt: error sets, and how well they find the bias-conflicting training samples\n" in result.output
    (heading,) = cells(result.output, "seeds")
    assert heading == ["seeds", "client", "samples", "conflicting", "error", "set", "precision", "recall"]
    assert cells(result.output, "fl") == [
        ["fl0", "p0", "0000", "100", "4", "8", "0.25", "0.50"],
        ["fl0", "p0", "0001", "90", "3", "0", "N/A", "0.00"],
        ["fl0", "p1", "0000", "100", "4", "8", "0.25", "1.00"],
        ["fl1", "p0", "0003", "120", "4", "8", "0.25", "0.50"],
    ]
    markdown = table(run, "--why", "--format", "markdown").output
    assert "| fl0 p0 | 0001 | 90 | 3 | 0 | N/A | 0.00 |\n" in markdown
    assert "fl0 p0 & 0001 & 90 & 3 & 0 & N/A & 0.00 \\\\\n" in table(run, "--why", "--format", "latex").output


def test_many_clients_are_pooled(tmp_path: Path) -> None:
    """20 clients have a row each; with one more there is their mean, with the range."""
    run = with_jtt(tmp_path / "run", clients=21)
    twenty = {f"{client:04}": FOUND for client in range(20)}
    write_details(run, "fl0_p0", twenty)
    assert len(cells(table(run, "--why").output, "fl0 p0")) == 20
    (run / FILE).write_text(json.dumps(twenty | {"0020": EMPTY | {"samples": 79}}))
    shown = table(run, "--why").output
    # (20 * 100 + 79) / 21 = 99, (80 + 3) / 21 = 3.95, 160 / 21 = 7.6; precision is of 20 clients.
    assert [line.strip() for line in shown.splitlines() if line.startswith("fl0 p0")] == [
        "fl0 p0       21  99.0 [79, 100]   4.0 [3, 4]  7.6 [0, 8]  0.25 [0.25, 0.25]  0.48 [0.00, 0.50]"
    ]
    assert "\nMean over clients [smallest, largest]" in shown
    assert max(map(len, shown.splitlines())) <= 110


def test_the_error_sets_stand_beside_the_tuning(tmp_path: Path) -> None:
    grid = GRID | {"grids": {"jtt": {"multiplicity": [20, 50]}}}
    run = with_jtt(tmp_path / "run", sections={"experiment_args": grid})
    write_decision(run, "jtt")
    write_details(run, "fl0_p0", {"0000": FOUND})
    shown = table(run, "--why").output
    assert "no coefficient was tuned" not in shown
    assert shown.index("jtt: lam_adv = 1") < shown.index("jtt: error sets")


def test_a_run_without_error_sets_says_nothing_of_them(tmp_path: Path) -> None:
    """An older run with JTT, and one without JTT that has a file of another run."""
    older, other = with_jtt(tmp_path / "older"), write_run(tmp_path / "other", constant)
    write_details(other, "fl0_p0", {"0000": FOUND})
    for run in (older, other):
        result = table(run, "--why", "--format", "markdown")  # a terminal would wrap a long path
        assert (result.exit_code, result.output.count("\n")) == (0, 1)
        assert "no coefficient was tuned; colored_mnist" in result.output


def changed(**values: Any) -> str:
    return json.dumps({"0000": FOUND | values})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "broken JSON"),
        ("[]", "expected a section"),
        ("{}", "expected at least 1 item"),
        ('{"0000": 1}', "0000: expected a section"),
        ('{"0000": {}}', "0000.samples: missing"),
        (changed(hits=-1), "0000.hits: expected at least 0"),
        (changed(samples=1.5), "0000.samples: expected a whole number"),
        (changed(precision=1.5), "0000.precision: expected at most 1"),
        (changed(recall="0.5"), "0000.recall: expected a number"),
        (changed(more=1), "0000.more: unknown key"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: str, problem: str) -> None:
    run = with_jtt(tmp_path / "run")
    write_details(run, "fl0_p0", {"0000": FOUND})
    (run / FILE).write_text(content)
    assert table(run).exit_code == 0  # the table does not need it
    result = table(run, "--why")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {run / FILE}: cannot be read ({problem}")
    assert result.stderr.endswith(
        f"expected the error sets that JTT stored; remove the folder {(run / FILE).parent} and continue with "
        "--resume, which makes it again\n"
    )


def test_what_jtt_tells_is_what_is_read() -> None:
    errors, conflicting = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, True])
    read = ErrorSet.model_validate(error_set_quality(errors, conflicting))
    assert (read.samples, read.error_set, read.conflicting, read.hits) == (4, 2, 3, 1)
    assert (read.precision, read.recall) == (1 / 2, 1 / 3)
    none = torch.zeros(4, dtype=torch.bool)
    assert ErrorSet.model_validate(error_set_quality(none, none)).precision is None
