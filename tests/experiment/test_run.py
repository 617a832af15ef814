"""Whole runs through the command line: the folder, the numbers, silence, real digits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from finished_folders import table
from running import Finished, invoke, read_rows, without_time

from fedml_spurious.cli import main
from fedml_spurious.results.rows import COLUMNS

CONTRACT = (
    "dataset,method,fl_seed,p_seed,client,n_train,n_val,n_test,n_test_bc,acc_b,acc_bc,disparity,loss_b,"
    "loss_bc,acc_adv,loss_adv,val_acc,selected_epoch,eps,lam_adv,lam_l2,seconds"
)


def test_a_run_ends_with_the_folder_of_the_contract(finished: Finished) -> None:
    folder, _, result = finished
    assert result.exit_code == 0, result.output
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"config.yaml", "environment.json", "run.log", "progress.jsonl", "results.csv"}
    expected |= {"table.csv", "table.md", "table.tex", "global/fl0/model.pt", "global/fl0/rounds.csv"}
    expected |= {"global/fl1/checkpoint.pt", "personal/global/fl0/clients.csv"}
    expected |= {"personal/ft/fl0_p0/clients.csv", "personal/ours/fl1_p0/trajectory.csv"}
    expected |= {"personal/ours/fl0_p0/models/0003.pt"}
    expected |= {"results_last.csv", "personal/ours/fl0_p0/clients_last.csv"}
    assert expected <= files
    assert not [name for name in files if "scratch" in name or name.endswith(".partial")]


def test_the_last_epoch_stands_beside_the_selected_one(tiny: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    tiny["personalization_args"]["selection_ties"] = "earliest"
    tiny["experiment_args"]["methods"] = ["global", "ft"]
    assert invoke(tiny, folder).exit_code == 0
    selected, last = without_time(folder), without_time(folder, "results_last.csv")
    assert {row["selected_epoch"] for row in last} == {"", "2"}  # the global model has none
    for row, at_the_end in zip(selected, last, strict=True):
        same = row["selected_epoch"] == at_the_end["selected_epoch"]
        assert (row == at_the_end) == same
        assert [row[name] for name in ("method", "fl_seed", "p_seed", "client")] == [
            at_the_end[name] for name in ("method", "fl_seed", "p_seed", "client")
        ]
    assert {row["selected_epoch"] for row in selected} == {"", "1", "2"}  # both cases are there


def test_results_have_the_columns_of_the_contract_and_add_up(finished: Finished, splits: Path) -> None:
    folder, *_ = finished
    assert (folder / "results.csv").read_text().splitlines()[0] == CONTRACT == ",".join(COLUMNS)
    rows = without_time(folder)
    assert [(row["method"], row["fl_seed"], row["client"]) for row in rows] == [
        (method, seed, f"{client:04}")
        for method in ("global", "ft", "ours")
        for seed in ("0", "1")
        for client in range(4)
    ]
    meta = json.loads((splits / "colored_mnist_meta.json").read_text())
    # Every global model has a budget of its own.
    budgets = {s: json.loads((folder / f"global/fl{s}/budget.json").read_text())["eps"] for s in "01"}
    for row in rows:
        assert float(row["eps"]) == budgets[row["fl_seed"]]
        assert int(row["n_test"]) == meta["clients"][row["client"]]["counts"]["test"]
        assert float(row["disparity"]) == float(row["acc_b"]) - float(row["acc_bc"])
        for name, count in (("acc_b", "n_test"), ("acc_bc", "n_test_bc"), ("val_acc", "n_val")):
            correct = float(row[name]) * int(row[count])
            assert correct == pytest.approx(round(correct))
        assert (row["p_seed"] == "") == (row["method"] == "global")
        assert (row["lam_adv"] == "1.0") == (row["method"] == "ours")


def test_a_kept_model_gives_the_accuracy_of_its_row(finished: Finished, splits: Path) -> None:
    """Recomputed from the files alone."""
    import h5py

    from fedml_spurious.learning.models import build_model

    folder, *_ = finished
    model = build_model(
        "small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=9
    ).eval()
    row = next(
        r for r in without_time(folder) if (r["method"], r["fl_seed"], r["client"]) == ("ours", "0", "0003")
    )
    model.load_state_dict(torch.load(folder / "personal/ours/fl0_p0/models/0003.pt", weights_only=True))
    for split, column in (("test", "acc_b"), ("test_bc", "acc_bc")):
        with h5py.File(splits / f"colored_mnist_{split}.h5") as file:
            group = file["examples/0003"]
            x = torch.from_numpy(group["image"][()]).permute(0, 3, 1, 2) / 255
            y = torch.from_numpy(group["label"][()])
        with torch.no_grad():
            correct = (model(x).argmax(dim=1) == y).sum().item()
        assert float(row[column]) == correct / len(y)


def test_the_trajectory_starts_at_the_global_model(finished: Finished) -> None:
    folder, *_ = finished
    stored = read_rows(folder / "personal/ft/fl0_p0/trajectory.csv")
    rows = [row for row in stored if row["client"] == "0001"]
    start = next(
        r for r in without_time(folder) if (r["method"], r["fl_seed"], r["client"]) == ("global", "0", "0001")
    )
    assert [int(row["batch"]) for row in rows] == [0, 2, 4, 6]
    for column in ("acc_b", "acc_bc", "acc_adv", "loss_adv"):
        assert rows[0][column] == start[column]


def test_rounds_are_measured_as_often_as_asked(finished: Finished) -> None:
    folder, *_ = finished
    rows = read_rows(folder / "global/fl0/rounds.csv")
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert [bool(row["acc_bc"]) for row in rows] == [True, False, True]


def test_the_table_is_shown_with_its_meaning(finished: Finished) -> None:
    _, _, result = finished
    for part in ("Acc_B", "Acc_BC", "Disparity", "|Disparity|", "Acc_Adv", "Sample-weighted", "disparity"):
        assert part in result.output


def test_a_run_opens_no_connection_and_writes_only_into_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, FedML's import included; everything it opens for writing is recorded."""
    recorder = tmp_path / "record.py"
    recorder.write_text(
        "import os, sys\n"
        "out = os.path.realpath(sys.argv[1])\n"
        "def hook(event, args):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'socket.gethostbyname'):\n"
        "        raise ConnectionRefusedError(f'NETWORK {event} {args[1:]}')\n"
        "    written = None\n"
        "    if event == 'open' and isinstance(args[0], str) and args[1] and set(args[1]) & set('wax+'):\n"
        "        written = args[0]\n"
        "    if event in ('os.mkdir', 'os.rename', 'os.truncate', 'os.symlink'):\n"
        "        written = args[-1] if event == 'os.symlink' else args[0]\n"
        "    if isinstance(written, (str, bytes)):\n"
        "        path = os.path.realpath(os.fsdecode(written))\n"
        "        if not path.startswith((out, '/dev/')) and '__pycache__' not in path:\n"
        "            sys.stderr.write(f'OUTSIDE {event} {path}\\n')\n"
        "sys.addaudithook(hook)\n"
        "from fedml_spurious.cli import main\n"
        "main.main(['run', '--cf', 'quickstart', '--output', out, '--set', 'train_args.comm_round=1',\n"
        "           '--set', 'model_args.fc_width=8', '--set', 'attack_args.steps=1',\n"
        "           '--set', 'experiment_args.fl_seeds=[0]', '--set', 'personalization_args.epochs=1'])\n"
    )
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    finished = subprocess.run(
        [sys.executable, str(recorder), str(tmp_path / "out")],
        cwd=here,
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr
    assert "OUTSIDE" not in finished.stderr, finished.stderr
    assert "Warning" not in finished.stderr + finished.stdout
    assert list(here.iterdir()) == []
    assert list(home.iterdir()) == []
    log = (tmp_path / "out/run.log").read_text()
    assert "NETWORK" not in log
    assert "Warning" not in log


def test_sockets_can_be_watched_at_all() -> None:
    """The silence test above relies on these audit events."""
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.") else None)
    with pytest.raises(ConnectionRefusedError, match="Connection refused"), socket.socket() as connection:
        connection.connect(("127.0.0.1", 1))
    assert "socket.connect" in seen


def test_the_quickstart_shows_what_it_promises(tmp_path: Path) -> None:
    """As it ships: the disparity of fine-tuning against ours, and what ours costs in accuracy."""
    folder = tmp_path / "quickstart"
    result = CliRunner().invoke(main, ["run", "--cf", "quickstart", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    table = {row["method"]: row for row in read_rows(folder / "table.csv") if row["average"] == "mean"}
    acc_b, acc_bc, disparity = (
        {method: float(row[name]) for method, row in table.items()}
        for name in ("acc_b", "acc_bc", "disparity")
    )
    assert disparity["ft"] >= 2 * max(disparity["global"], disparity["ours"])
    assert acc_b["ft"] > acc_b["ours"] > acc_b["global"] > 0.85
    assert acc_bc["ours"] >= acc_bc["ft"] + 0.05
    assert list(table) == ["global", "ft", "l2", "ours"]
    assert "of the rise (Acc_B" in " ".join(result.output.split())


# What a report shows of real data, the tests below with fewer weights ask for.
FULL_SIZE = [
    "experiment_args.report=false",
    "train_args.client_num_per_round=1",
    "personalization_args.clients=['0007']",
    "experiment_args.grids={}",
]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "changes", "clients", "rows"),
    [
        ("mnist_small", ["data_args.partition.limit=1000", "model_args.fc_width=16"], 50, 3 * 10),
        # The paper's size with one client and one epoch: that it starts.
        ("mnist", [*FULL_SIZE, "attack_args.budget_samples=16"], 50, 3),
    ],
)
def test_real_digits_go_through(
    name: str, changes: list[str], clients: int, rows: int, real_data: Path, tmp_path: Path
) -> None:
    short = ["train_args.comm_round=1", "train_args.epochs=1", "personalization_args.epochs=1"]
    short += ["attack_args.steps=1", "experiment_args.methods=[global, ft, ours]"]
    short += ["experiment_args.fl_seeds=[0]", "experiment_args.personalization_seeds=[0]"]
    sets = [part for item in (*short, *changes, f"data_args.raw={real_data}") for part in ("--set", item)]
    folder = tmp_path / "run"
    result = CliRunner().invoke(main, ["run", "--cf", name, "--output", str(folder), *sets])
    assert result.exit_code == 0, result.output
    found = without_time(folder)
    assert len(found) == rows
    meta = json.loads((folder / "data/fl0/colored_mnist_meta.json").read_text())
    assert len(meta["clients"]) == clients
    assert all(row["acc_b"] and row["acc_bc"] for row in found)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "dataset", "clients", "changes"),
    [
        ("coil20_small", "colored_coil20", 50, ["personalization_args.clients=['0007']"]),
        ("celeba_r_small", "celeba_real", 20, []),
        ("celeba_s_small", "celeba_synthetic", 10, []),
        ("coil20", "colored_coil20", 50, [*FULL_SIZE, "model_args.fc_width=4096"]),
    ],
)
def test_real_images_go_through(
    name: str, dataset: str, clients: int, changes: list[str], real_data: Path, tmp_path: Path
) -> None:
    short = ["train_args.comm_round=1", "train_args.epochs=1", "train_args.client_num_per_round=1"]
    short += ["personalization_args.epochs=1", "attack_args.steps=1", "attack_args.budget_samples=4"]
    short += ["experiment_args.methods=[global, ft, ours]", "experiment_args.grids={}"]
    short += ["experiment_args.fl_seeds=[0]", "experiment_args.personalization_seeds=[0]"]
    short += ["model_args.fc_width=8", f"data_args.raw={real_data}"]
    sets = [part for item in (*short, *changes) for part in ("--set", item)]
    folder = tmp_path / "run"
    result = CliRunner().invoke(main, ["run", "--cf", name, "--output", str(folder), *sets])
    assert result.exit_code == 0, result.output
    (described,) = folder.glob(f"data/**/{dataset}_meta.json")
    meta = json.loads(described.read_text())
    assert len(meta["clients"]) == clients
    found = without_time(folder)
    assert {row["method"] for row in found} == {"global", "ft", "ours"}
    assert all(row["acc_b"] and row["acc_bc"] for row in found)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["celeba_r", "celeba_s"])
def test_the_papers_celeba_needs_all_images(name: str, real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--cf", name, "--output", str(folder), "--set", f"data_args.raw={real_data}"]
    result = CliRunner().invoke(main, ["run", *options])
    assert result.exit_code == 2
    assert "missing" in result.output
    assert "Traceback" not in result.output
    assert not folder.exists()


def test_small_digits_in_split_files_are_not_called_mnist(finished: Finished, tmp_path: Path) -> None:
    assert json.loads((finished.folder / "environment.json").read_text())["data_source"] == "digits"
    assert "scikit-learn's digits (colored_mnist)" in table(finished.folder).output


def test_a_run_that_finds_nothing_to_resume_says_that_it_is_a_new_one(tmp_path: Path) -> None:
    config = {"data_args": {"dataset": "d", "data_cache_dir": str(tmp_path / "nowhere")}}
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        result = invoke(config, tmp_path / name, "--resume")
        assert f"Nothing to continue in {tmp_path / name}: this is a new run\n" in result.output
        assert result.output.count("Error: ") == 1
