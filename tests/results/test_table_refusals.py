"""Runs that ``fedml-spurious table`` refuses: unfinished, damaged, or not of one experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from finished_folders import GRID, constant, drawn, table, write_decision, write_run


def two_runs(folder: Path, **changes: Any) -> list[Path]:
    """Two runs of other seeds that can be joined, but for ``changes`` of the second."""
    second: dict[str, Any] = {"values": drawn, "fl_seeds": (1,)} | changes
    return [
        write_run(folder / "first", drawn, fl_seeds=(0,)),
        write_run(folder / "second", second.pop("values"), **second),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sections": {"train_args": {"comm_round": 5}}}, "train_args.comm_round: 3 there, 5 here"),
        (
            {"sections": {"personalization_args": {"ours": {"lam_adv": 10.0}}}},
            "personalization_args.ours: {'lam_adv': 1.0} there, {'lam_adv': 10.0} here",
        ),
        ({"sections": {"experiment_args": GRID}}, "experiment_args.grids: 'absent' there"),
        (
            {"sections": {"personalization_args": {"selection_ties": "earliest"}}},
            "personalization_args.selection_ties: 'absent' there, 'earliest' here",
        ),
        (
            {"sections": {"personalization_args": {"batchnorm_mode": "batch"}}},
            "personalization_args.batchnorm_mode: 'absent' there, 'batch' here",
        ),
        (
            {"sections": {"experiment_args": GRID | {"tuning_share": 0.9}}},
            "experiment_args.tuning_share: 'absent' there, 0.9 here",
        ),
        ({"data": "other"}, "the split files are not the same"),
        ({"clients": 3}, "the clients, or their numbers of samples, are not the same"),
        (
            {"values": lambda *address: (0.5, 0.5), "fl_seeds": (0,)},
            "ours with fl_seed 0 and p_seed 0: both have it, with different numbers",
        ),
    ],
)
def test_runs_that_do_not_belong_together(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    first, second = two_runs(tmp_path, **changes)
    if "experiment_args" in changes.get("sections", {}):
        write_decision(second, "ours")
    result = table(first, second)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{first} (there) and {second} (here) cannot be joined:" in result.stderr
    assert expected in result.stderr


@pytest.mark.parametrize(
    "other", [{"tuning": "client"}, {"tuning_tolerance": 0.01}, {"tuning_reference": "global"}]
)
def test_coefficients_tuned_by_another_rule(tmp_path: Path, other: dict[str, Any]) -> None:
    tuned = {"tuning": "shared", "tuning_tolerance": 0.0, "tuning_reference": "smallest"} | GRID
    runs = [
        write_run(tmp_path / name, drawn, fl_seeds=(seed,), sections={"experiment_args": tuned | change})
        for seed, (name, change) in enumerate({"first": {}, "same": {}, "other": other}.items())
    ]
    for run in runs:
        write_decision(run, "ours")
    assert table(*runs[:2]).exit_code == 0
    result = table(*runs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"experiment_args.{next(iter(other))}: " in result.stderr


@pytest.mark.parametrize(
    ("key", "values"), [("selection_ties", ("latest", "earliest")), ("batchnorm_mode", ("frozen", "batch"))]
)
def test_models_that_were_made_or_selected_otherwise(
    tmp_path: Path, key: str, values: tuple[str, str]
) -> None:
    runs = [
        write_run(tmp_path / value, drawn, fl_seeds=(seed,), sections={"personalization_args": {key: value}})
        for seed, value in enumerate(values)
    ]
    result = table(*runs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"personalization_args.{key}: '{values[0]}' there, '{values[1]}' here" in result.stderr


def test_what_does_not_matter_may_differ(tmp_path: Path) -> None:
    sections = {
        "device_args": {"using_gpu": True},
        "tracking_args": {"enable_wandb": True},
        "personalization_args": {"save_models": True, "jtt": {"multiplicity": 20}},  # no run has jtt
    }
    assert table(*two_runs(tmp_path, sections=sections)).exit_code == 0


def _remove(name: str) -> Any:
    return lambda run: (run / name).unlink()


def _write(name: str, content: str) -> Any:
    return lambda run: (run / name).write_text(content)


def _cut(run: Path) -> None:
    lines = (run / "results.csv").read_text().splitlines(keepends=True)
    (run / "results.csv").write_text("".join(line for line in lines if ",ours,1," not in line))


def _shorten(characters: int, more: str = "") -> Any:
    def damage(run: Path) -> None:
        text = (run / "results.csv").read_text()
        (run / "results.csv").write_text(text[: len(text) - characters] + more)

    return damage


def _without_last_line(run: Path) -> None:
    lines = (run / "results.csv").read_text().splitlines(keepends=True)
    (run / "results.csv").write_text("".join(lines[:-1]))


def _write_bytes(name: str, content: bytes) -> Any:
    return lambda run: (run / name).write_bytes(content)


def _twice(run: Path) -> None:
    text = (run / "results.csv").read_text()
    (run / "results.csv").write_text(text + text.splitlines(keepends=True)[-1])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_remove("config.yaml"), "is no run folder, it has no config.yaml"),
        (_remove("results.csv"), "the run is unfinished, it has no results.csv; finish it with --resume"),
        (_cut, "the run is unfinished, its configuration asks for ours with fl_seed 1 and p_seed 0"),
        (_twice, "results.csv: has two rows for one method, seeds and client"),
        (_write("results.csv", "a,b\n1,2\n"), "results.csv: broken table"),
        (_shorten(1), "results.csv: broken table, its last line is cut short"),
        (_shorten(0, "x,y\n"), "results.csv: broken table, line 26 has another number of cells"),
        (_without_last_line, "has no row of client 0003 for ours with fl_seed 1 and p_seed 0; write it"),
        (_write_bytes("results.csv", b"\xff\n"), "results.csv: cannot be read as a table"),
        (_write("config.yaml", "experiment_args: {methods: 5}\n"), "methods: expected a list, got 5"),
        (_write("config.yaml", "data_args: {dataset: [1]}\n"), "data_args.dataset: expected text"),
        (_write("config.yaml", "data_args: 5\n"), "config.yaml: is no configuration that a run wrote"),
        (_write("config.yaml", "data_args: [\n"), "config.yaml: broken YAML in line 2"),
        (_write("config.yaml", "5\n"), "config.yaml: is no configuration that a run wrote"),
        (_write("config.yaml", "data_args: {dataset: celeba_real}\n"), "has colored_mnist, but config.yaml"),
        (_write("global/fl0/identity.json", "{}"), "broken, expected determined_by; remove"),
        (_write("global/fl0/identity.json", '{"determined_by": 1}'), "identity.json: is broken"),
        (_write("global/fl0/identity.json", "{"), "identity.json: cannot be read as JSON"),
        (_remove("tuning/ours/decision.json"), "decision.json: is missing; continue the run"),
        (_write("tuning/ours/decision.json", "{}"), "decision.json: cannot be read (method: missing"),
        (_write("global/fl0/budget.json", "{"), "budget.json: cannot be read (broken JSON"),
        (_write("global/fl0/budget.json", '{"eps": 1}'), "budget.json: cannot be read (in_range: missing"),
        (
            _write("global/fl1/budget.json", '{"eps": 0.1, "in_range": true, "trail": []}'),
            "fl1/budget.json: cannot be read (trail: expected at least 1 item",
        ),
        (
            _write("global/fl0/budget.json", '{"eps": 0.1, "in_range": true, "trail": [0.1]}'),
            "budget.json: cannot be read (trail.0: expected a list, got 0.1); expected the attack's "
            "budget that a run stored; remove the file and continue with --resume",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_finished_run(tmp_path: Path, damage: Any, expected: str) -> None:
    run = write_run(tmp_path / "run", constant, fl_seeds=(0, 1), sections={"experiment_args": GRID})
    write_decision(run, "ours")
    assert table(run).exit_code == 0
    damage(run)
    result = table(run)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {run}")
    assert expected in result.stderr


def test_other_wrong_input(tmp_path: Path) -> None:
    missing = table(tmp_path / "nothing")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "no such folder; give folders of finished runs" in missing.stderr
    run = write_run(tmp_path / "run", constant)
    result = table(run, "--why", "--format", "csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--why: has no CSV form" in result.stderr
