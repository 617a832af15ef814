"""A sweep that is killed and goes on: ordinary runs, shared split files and global models, one table."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml
from click.testing import CliRunner, Result
from running import read_rows, without_time

from fedml_spurious.cli import main
from fedml_spurious.common.errors import InputError
from fedml_spurious.results.sweep_table import join_sweep, read_sweep
from fedml_spurious.sweep.grid import Axis
from fedml_spurious.sweep.plan import by_global_model, plan_runs
from fedml_spurious.sweep.same_settings import require_same_settings

LIMIT, LAM = "data_args.partition.limit", "personalization_args.ours.lam_adv"
CONFIG: dict[str, Any] = {
    "data_args": {
        "dataset": "colored_mnist",
        "partition": {"source": "digits", "clients": 3, "classes_per_client": 3, "seed": None},
    },
    "model_args": {"model": "small_network:cnn", "fc_width": 8},
    "train_args": {
        "client_num_per_round": 2,
        "comm_round": 2,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 0.003,
    },
    "device_args": {"threads": 1},
    "personalization_args": {"epochs": 1},
    "attack_args": {"steps": 2, "budget_samples": 8},
    "experiment_args": {"methods": ["global", "ft", "ours"], "fl_seeds": [0, 1], "report": False},
    "analysis_args": {"record": ["divergence"]},
}


class Swept(NamedTuple):
    """A sweep that was killed once and then went on to its end."""

    folder: Path
    finished_before: set[str]
    orphans: list[int]
    result: Result


def sweep(folder: Path) -> list[str]:
    # Of three samples not every client gets one: half of the cells fail.
    grid = ["--grid", f"{LIMIT}=[180, 3]", "--grid", f"{LAM}=[0.1, 1.0]"]
    return ["sweep", "--cf", str(folder.parent / "sweep.yaml"), *grid, "--out", str(folder), "--jobs", "1"]


def results(folder: Path) -> set[str]:
    return {str(path.parent.relative_to(folder)) for path in folder.glob("runs/*/*/table.tex")}


def wait_for_a_result(folder: Path, process: psutil.Popen) -> None:
    end = time.monotonic() + 120
    while not results(folder) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def swept(quick_processes: None, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sweep") / "out"
    (folder.parent / "sweep.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "fedml_spurious.cli", *sweep(folder)]
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    wait_for_a_result(folder, process)
    workers = process.children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    orphans = [worker.pid for worker in alive]
    finished = results(folder)
    return Swept(folder, finished, orphans, CliRunner().invoke(main, sweep(folder)))


def test_processes_end_with_a_sweep_that_is_killed(swept: Swept) -> None:
    assert swept.orphans == []
    assert 1 <= len(swept.finished_before) < 4


def test_failed_cells_are_named_at_the_end_and_the_others_are_finished(swept: Swept) -> None:
    assert swept.result.exit_code == 1
    assert "4 of 8 runs failed" in swept.result.output
    assert "limit=3,lam_adv=1.0 fl1: " in swept.result.output
    assert results(swept.folder) == {
        f"runs/limit=180,lam_adv={lam}/fl{seed}" for lam in ("0.1", "1.0") for seed in (0, 1)
    }
    report = (swept.folder / "failed" / "limit=3,lam_adv=0.1_fl0.txt").read_text()
    assert "ask for fewer clients" in report


def test_every_run_is_an_ordinary_one(swept: Swept, tmp_path: Path) -> None:
    """The partition that the run would make itself, and a model that it would train itself."""
    own = CONFIG | {"personalization_args": {"epochs": 1, "ours": {"lam_adv": 1.0}}}
    own = json.loads(json.dumps(own))
    own["data_args"]["partition"]["limit"] = 180
    own["experiment_args"]["fl_seeds"] = [1]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    command = ["run", "--cf", str(tmp_path / "own.yaml"), "--output", str(tmp_path / "own")]
    assert CliRunner().invoke(main, command).exit_code == 0
    cell = swept.folder / "runs" / "limit=180,lam_adv=1.0" / "fl1"
    for name in ("results.csv", "results_last.csv"):
        assert without_time(cell, name) == without_time(tmp_path / "own", name)
    model = "global/fl1/model.pt"
    assert (cell / model).read_bytes() == (tmp_path / "own" / model).read_bytes()
    again = CliRunner().invoke(
        main, ["run", "--cf", str(cell / "config.yaml"), "--output", str(cell), "--resume"]
    )
    assert again.exit_code == 0, again.output


def test_split_files_and_global_models_are_made_once(swept: Swept) -> None:
    assert len(list((swept.folder / "splits").glob("*/*_meta.json"))) == 2
    for seed in (0, 1):
        trained = []
        for path in swept.folder.glob(f"runs/limit=180,*/fl{seed}/progress.jsonl"):
            events = map(json.loads, path.read_text().splitlines())
            # The sweep was killed once, and a round whose checkpoint was not due then is trained again.
            trained.append({event["round"] for event in events if event["event"] == "round"})
        assert sorted(trained, key=len) == [set(), {0, 1}]


def test_what_was_recorded_while_a_global_model_trained_goes_with_it(swept: Swept) -> None:
    for seed in (0, 1):
        one, other = sorted(swept.folder.glob(f"runs/limit=180,*/fl{seed}/divergence.csv"))
        assert one.read_bytes() == other.read_bytes()
    # Cells that record something else of the same model train it themselves.
    axes = [Axis("analysis_args.record", ([], ["divergence"]))]
    config = swept.folder.parent / "sweep.yaml"
    first, others = by_global_model(plan_runs(config, [f"{LIMIT}=180"], axes, swept.folder))
    assert (len(first), others) == (4, [])


def test_the_table_has_every_row_of_every_run(swept: Swept) -> None:
    table = read_rows(swept.folder / "sweep.csv")
    assert len(table) == 4 * 2 * 3 * 3  # runs x epochs x methods x clients
    for epoch, name in (("selected", "results.csv"), ("last", "results_last.csv")):
        found = [row for row in table if row["epoch"] == epoch]
        expected = [row for run in results(swept.folder) for row in read_rows(swept.folder / run / name)]
        columns = list(expected[0])
        assert sorted([row[c] for c in columns] for row in found) == sorted(
            [row[c] for c in columns] for row in expected
        )
    assert {row["final"] for row in table} == {"1"}
    assert len({(row["fl_seed"], row["splits"]) for row in table}) == 2
    assert all(row[LAM] == row["lam_adv"] for row in table if row["method"] == "ours")
    assert {row["options"] for row in table if row["method"] == "ours"} == {
        "lam_adv=0.1,lam_l2=0.1", "lam_adv=1.0,lam_l2=0.1",
    }  # fmt: skip
    rows = read_sweep(swept.folder)
    assert [str(row.stored.row.acc_b) for row in rows] == [row["acc_b"] for row in table]
    assert rows[0].cell == {LIMIT: "180", LAM: "0.1"}


def test_rows_of_a_run_that_is_not_finished_are_not_final(swept: Swept, tmp_path: Path) -> None:
    table = swept.folder / "sweep.csv"
    before = table.read_bytes()
    run = swept.folder / "runs" / "limit=180,lam_adv=0.1" / "fl0"
    (run / "results.csv").rename(tmp_path / "results.csv")
    try:
        assert join_sweep(swept.folder) == {}
        rows = read_rows(table)
    finally:
        (tmp_path / "results.csv").rename(run / "results.csv")
    kinds = {(row["run"], row["epoch"]) for row in rows if row["final"] == "0"}
    assert kinds == {("runs/limit=180,lam_adv=0.1/fl0", "selected")}
    assert join_sweep(swept.folder) == {}
    assert table.read_bytes() == before


def test_a_broken_file_of_one_run_is_named_and_keeps_no_other_from_the_table(swept: Swept) -> None:
    run = "runs/limit=180,lam_adv=1.0/fl1"
    broken = swept.folder / run / "personal" / "ft" / "fl1_p0" / "clients.csv"
    before = broken.read_bytes()
    broken.write_bytes(before.replace(b",", b";"))
    try:
        problems = join_sweep(swept.folder)
        rows = read_rows(swept.folder / "sweep.csv")
    finally:
        broken.write_bytes(before)
    assert list(problems) == [run]
    assert str(broken) in problems[run]
    assert len({row["run"] for row in rows}) == 3
    assert join_sweep(swept.folder) == {}


def test_what_is_wrong_with_any_cell_is_said_before_anything_is_run(swept: Swept, tmp_path: Path) -> None:
    config = str(swept.folder.parent / "sweep.yaml")

    def refused(*options: str) -> str:
        result = CliRunner().invoke(main, ["sweep", "--cf", config, *options])
        assert result.exit_code == 2, result.output
        return result.output

    new = ["--out", str(tmp_path / "new")]
    assert "cell epochs=0: " in refused("--grid", "train_args.epochs=[1, 0]", *new)
    assert "comm_args.backend" in refused("--set", "comm_args.backend=MPI", *new)
    assert not (tmp_path / "new").exists()
    said = refused("--grid", "train_args.epochs=[1]", "--out", str(swept.folder))
    assert "holds a sweep over" in said
    assert LIMIT in said


def test_the_report_of_a_failure_has_a_command_that_parses(swept: Swept) -> None:
    first = (swept.folder / "failed" / "limit=3,lam_adv=0.1_fl0.txt").read_text().splitlines()[0]
    words = shlex.split(first)
    assert words[:3] == ["fedml-spurious", "run", "--cf"]
    assert "personalization_args.ours.lam_adv=0.1" in words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train_args.epochs=2", "train_args.epochs: was 1, is 2"),
        ("data_args.partition.map_divergence=0.5", "data_args.partition.map_divergence: was 1.0, is 0.5"),
    ],
)
def test_other_settings_are_refused_once_and_nothing_is_run(swept: Swept, change: str, said: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in swept.folder.rglob("*") if path.is_file()}
    refused = CliRunner().invoke(main, [*sweep(swept.folder), "--set", change])
    assert refused.exit_code == 2, refused.output
    assert refused.output == (
        f"Error: {swept.folder}: holds a sweep with other settings\n  {said}\n"
        "Use the settings of that sweep, or give another --out\n"
    )
    assert {path: path.stat().st_mtime_ns for path in swept.folder.rglob("*") if path.is_file()} == before


def test_what_does_not_matter_may_change_and_a_broken_run_speaks_for_itself(swept: Swept) -> None:
    config, out = swept.folder.parent / "sweep.yaml", swept.folder
    axes = [Axis(LIMIT, (180,)), Axis(LAM, (0.1, 1.0))]
    free = ["device_args.threads=2", "experiment_args.methods=[global, ft, ours, l2]"]
    require_same_settings(plan_runs(config, free, axes, out), out)
    changed = plan_runs(config, ["train_args.epochs=2"], axes, out)
    broken = changed[0].folder / "config.yaml"
    before = broken.read_bytes()
    broken.write_bytes(before + b"{")
    try:
        require_same_settings(changed[:1], out)
        with pytest.raises(InputError, match="epochs"):
            require_same_settings(changed, out)
    finally:
        broken.write_bytes(before)


def test_a_report_of_a_failure_goes_when_its_run_is_finished(swept: Swept, tmp_path: Path) -> None:
    """Finished by this command, or by the one that the report names."""
    failed = swept.folder / "failed"
    failed.rename(tmp_path / "failed")
    failed.mkdir()
    (failed / "limit=180,lam_adv=0.1_fl0.txt").write_text("failed once")
    try:
        finished = [argument.replace("[180, 3]", "[180]") for argument in sweep(swept.folder)]
        result = CliRunner().invoke(main, finished)
        assert result.exit_code == 0, result.output
        assert not failed.exists()
    finally:
        (tmp_path / "failed").rename(failed)
