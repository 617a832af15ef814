"""Whole runs through the command line: results, resuming, refusals, silence."""

from __future__ import annotations

import csv
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result

from fedml_spurious import storage
from fedml_spurious.cli import main
from fedml_spurious.results import COLUMNS

CONTRACT = (
    "dataset,method,fl_seed,p_seed,client,n_train,n_val,n_test,n_test_bc,acc_b,acc_bc,disparity,loss_b,"
    "loss_bc,acc_adv,loss_adv,val_acc,selected_epoch,eps,lam_adv,lam_l2,seconds"
)


def invoke(config: dict[str, Any], folder: Path, *options: str) -> Result:
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return CliRunner().invoke(main, ["run", "--cf", str(path), "--output", str(folder), *options])


def without_time(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as stream:
        return [
            {name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(stream)
        ]


def weights(folder: Path, fl_seed: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"global/fl{fl_seed}/model.pt", weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def finished(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Result]:
    """One finished run, with a trajectory and models kept."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 3, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "validation_args": {"frequency_of_the_test": 2},
        "personalization_args": {"epochs": 2, "trajectory_interval": 2, "save_models": True},
        "attack_args": {"steps": 2},
        "experiment_args": {"methods": ["global", "ft", "ours"], "fl_seeds": [0, 1]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, config, invoke(config, folder)


def test_a_run_ends_with_the_folder_of_the_contract(finished: tuple[Path, dict[str, Any], Result]) -> None:
    folder, _, result = finished
    assert result.exit_code == 0, result.output
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"config.yaml", "environment.json", "run.log", "progress.jsonl", "results.csv"}
    expected |= {"table.csv", "table.md", "global/fl0/model.pt", "global/fl0/rounds.csv"}
    expected |= {"global/fl1/checkpoint.pt", "personal/global/fl0/clients.csv"}
    expected |= {"personal/ft/fl0_p0/clients.csv", "personal/ours/fl1_p0/trajectory.csv"}
    expected |= {"personal/ours/fl0_p0/models/0003.pt"}
    assert expected <= files
    assert not [name for name in files if "scratch" in name or name.endswith(".partial")]


def test_results_have_the_columns_of_the_contract_and_add_up(
    finished: tuple[Path, dict[str, Any], Result], splits: Path
) -> None:
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
    for row in rows:
        assert int(row["n_test"]) == meta["clients"][row["client"]]["counts"]["test"]
        assert float(row["disparity"]) == float(row["acc_b"]) - float(row["acc_bc"])
        for name, count in (("acc_b", "n_test"), ("acc_bc", "n_test_bc"), ("val_acc", "n_val")):
            correct = float(row[name]) * int(row[count])
            assert correct == pytest.approx(round(correct))
        assert (row["p_seed"] == "") == (row["method"] == "global")
        assert (row["lam_adv"] == "1.0") == (row["method"] == "ours")


def test_a_kept_model_gives_the_accuracy_of_its_row(
    finished: tuple[Path, dict[str, Any], Result], splits: Path
) -> None:
    """Recomputed from the files alone."""
    import h5py

    from fedml_spurious.models import build_model

    folder, *_ = finished
    model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=9).eval()
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


def test_the_trajectory_starts_at_the_global_model(finished: tuple[Path, dict[str, Any], Result]) -> None:
    folder, *_ = finished
    with (folder / "personal/ft/fl0_p0/trajectory.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["client"] == "0001"]
    start = next(
        r for r in without_time(folder) if (r["method"], r["fl_seed"], r["client"]) == ("global", "0", "0001")
    )
    assert [int(row["batch"]) for row in rows] == [0, 2, 4, 6]
    for column in ("acc_b", "acc_bc", "acc_adv", "loss_adv"):
        assert rows[0][column] == start[column]


def test_rounds_are_measured_as_often_as_asked(finished: tuple[Path, dict[str, Any], Result]) -> None:
    folder, *_ = finished
    with (folder / "global/fl0/rounds.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert [bool(row["acc_bc"]) for row in rows] == [True, False, True]


def test_the_table_is_shown_with_its_meaning(finished: tuple[Path, dict[str, Any], Result]) -> None:
    _, _, result = finished
    for part in ("Acc_B", "Acc_BC", "Disparity", "|Disparity|", "Acc_Adv", "Sample-weighted", "disparity"):
        assert part in result.output


def test_the_same_again_takes_the_finished_parts(
    finished: tuple[Path, dict[str, Any], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config, _ = finished
    before = (folder / "results.csv").read_bytes()
    monkeypatch.setattr("fedml_spurious.experiment.ClientStep", None)  # any work left would fail
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 0, result.output
    assert (folder / "results.csv").read_bytes() == before


def test_methods_and_seeds_may_join_later_and_old_rows_stay(
    finished: tuple[Path, dict[str, Any], Result], tmp_path: Path, splits: Path
) -> None:
    import shutil

    source, config, _ = finished
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    grown = config | {
        "experiment_args": {
            "methods": ["global", "ft", "l2", "ours"], "fl_seeds": [0, 1], "personalization_seeds": [0, 1],
        }
    }  # fmt: skip
    old = [tuple(row.items()) for row in without_time(folder)]
    assert invoke(grown, folder, "--resume").exit_code == 0
    new = [tuple(row.items()) for row in without_time(folder)]
    assert len(new) == 2 * 4 + 3 * 2 * 2 * 4
    assert set(old) <= set(new)
    shrunk = invoke(config, folder, "--resume")
    assert shrunk.exit_code == 2
    assert "['l2'] was there and is not any more" in shrunk.output


def test_a_folder_with_another_run_is_refused(finished: tuple[Path, dict[str, Any], Result]) -> None:
    folder, config, _ = finished
    again = invoke(config, folder)
    assert again.exit_code == 2
    assert "Continue it with --resume" in again.output
    other = invoke(config | {"train_args": config["train_args"] | {"epochs": 2}}, folder, "--resume")
    assert other.exit_code == 2
    assert "train_args.epochs: was 1, is 2" in other.output


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("survived", [3, 8, 13, 20, 26, 33])
def test_a_run_stopped_between_any_two_writes_resumes_to_the_same_bytes(
    survived: int,
    finished: tuple[Path, dict[str, Any], Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference, config, _ = finished
    writes = 0

    def replace(source: Any, target: Any) -> None:
        nonlocal writes
        writes += 1
        if writes > survived:
            raise Killed
        os.rename(source, target)

    folder = tmp_path / "run"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "replace", replace)
        with pytest.raises(Killed):
            main.main(["run", "--cf", str(path), "--output", str(folder)], standalone_mode=False)
    assert not (folder / "results.csv").exists()
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 0, result.output
    assert without_time(folder) == without_time(reference)
    for part in ("personal/ours/fl1_p0/trajectory.csv", "global/fl1/rounds.csv", "global/fl0/rounds.csv"):
        assert (folder / part).read_bytes() == (reference / part).read_bytes()
    for seed in (0, 1):
        expected = weights(reference, seed)
        assert all(torch.equal(value, expected[name]) for name, value in weights(folder, seed).items())


def start(config: Path, folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "fedml_spurious.cli",
        "run",
        "--cf",
        str(config),
        "--output",
        str(folder),
    ]
    return subprocess.Popen(
        [*command, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(folder: Path, event: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = folder / "progress.jsonl"
        if path.exists() and f'"event": "{event}"' in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {event} in {folder}: {process.communicate()}")


def test_kill_9_and_ctrl_c_then_resume(finished: tuple[Path, dict[str, Any], Result], tmp_path: Path) -> None:
    reference, config, _ = finished
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config))
    first = start(path, folder)
    wait_for(folder, "round", first)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    second = start(path, folder)
    wait_for(folder, "client", second)
    second.send_signal(signal.SIGINT)
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert f"--output {folder} --resume" in stderr
    assert invoke(config, folder, "--resume").exit_code == 0
    assert without_time(folder) == without_time(reference)
    assert all(torch.equal(value, weights(reference)[name]) for name, value in weights(folder).items())


def test_a_disk_that_fills_up_while_writing(
    finished: tuple[Path, dict[str, Any], Result], tmp_path: Path
) -> None:
    """The kernel refuses files over a limit, in the middle of the write, as a full disk does."""
    _, config, _ = finished
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config))
    limit = 100_000  # below a checkpoint, above everything that comes before it

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(path, folder, preexec_fn=limited)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "checkpoint.pt: cannot be written (File too large)" in stderr
    assert "Traceback" not in stderr
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.rglob("*.pt"))
    assert invoke(config, folder, "--resume").exit_code == 0


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


def change(config: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    return config | {section: config.get(section, {}) | values}


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("train_args", {"client_num_per_round": 5}, "has 4 clients; set it to 4 or less"),
        ("train_args", {"client_num_in_total": 9}, "is 9, but colored_mnist has 4 clients"),
        ("device_args", {"using_gpu": True, "gpu_id": 99}, "GPU 99 is asked for"),
        ("model_args", {"model": "cnn_64x64"}, "takes 64x64 images"),
        ("model_args", {"model": "resnet"}, "unknown network 'resnet'"),
        ("model_args", {"model": "nowhere:Net"}, "cannot import 'nowhere:Net'"),
        ("data_args", {"data_cache_dir": "/nowhere"}, "/nowhere"),
        ("data_args", {"dataset": "celeba"}, "celeba_meta.json"),
        ("personalization_args", {"clients": ["0099"]}, "no client '0099'"),
        ("comm_args", {"backend": "NCCL"}, "comm_args.backend"),
    ],
)
def test_settings_that_do_not_fit_end_with_one_message(
    section: str, values: dict[str, Any], expected: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = invoke(change(tiny, section, **values), folder)
    assert result.exit_code == 2
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not folder.exists()


def test_a_missing_gpu_is_named(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke(change(tiny, "device_args", using_gpu=True), tmp_path / "run")
    assert result.exit_code == 2
    assert "no CUDA GPU" in result.output


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_client_with_an_empty_split_is_named(split: str, splits: Path, tmp_path: Path) -> None:
    from fedml_spurious.clients import choose_clients
    from fedml_spurious.errors import InputError
    from fedml_spurious.splits import SplitFolder

    folder = SplitFolder(splits)
    counts = folder.meta.clients["0002"].counts
    empty = folder.meta.model_copy(
        update={
            "clients": folder.meta.clients
            | {"0002": folder.meta.clients["0002"].model_copy(update={"counts": counts | {split: 0}})}
        }
    )
    folder.meta = empty
    with pytest.raises(InputError, match=f"client 0002 has no sample in the {split} split"):
        choose_clients(folder, None)
    assert choose_clients(folder, ("0001",)) == ("0001",)


def test_an_output_that_cannot_be_written(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke(tiny, tmp_path / "run", "--output", str(tmp_path / "file" / "run"))
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    result = invoke(tiny, tmp_path / "mine")
    assert result.exit_code == 2
    assert "thesis.tex" in result.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["model.pt", "checkpoint.pt"])
@pytest.mark.parametrize("damage", ["other", "broken"])
def test_a_checkpoint_of_another_architecture_or_a_broken_one(
    name: str, damage: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert invoke(tiny, folder).exit_code == 0
    part = folder / "global/fl0"
    if name == "checkpoint.pt":
        (part / "model.pt").unlink()
    if damage == "other":
        state = {"features.0.weight": torch.zeros(1)}
        torch.save(state if name == "model.pt" else {"rounds": 1, "rows": [], "model": state}, part / name)
    else:
        (part / name).write_bytes((part / name).read_bytes()[:1000])
    result = invoke(tiny, folder, "--resume")
    assert result.exit_code == 2
    assert (
        "another architecture" if damage == "other" else "cannot be read as a checkpoint"
    ) in result.output
    assert str(part / name) in result.output


def test_splits_that_changed_under_a_run_are_noticed(tiny: dict[str, Any], tmp_path: Path) -> None:
    from data_partition.colored_mnist import Options, build

    data = tmp_path / "splits"
    config = change(tiny, "data_args", data_cache_dir=str(data))
    build(Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=1), raw=None, out=data)
    folder = tmp_path / "run"
    assert invoke(config, folder).exit_code == 0
    options = Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2)
    build(options, raw=None, out=data, overwrite=True)
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 2
    assert "was made from other settings or data (changed: data)" in result.output


def test_a_full_disk_keeps_the_old_file_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedml_spurious.errors import RunError

    path = tmp_path / "table.csv"
    storage.write_text(path, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_sockets_can_be_watched_at_all() -> None:
    """The silence test above relies on these audit events."""
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.") else None)
    with pytest.raises(OSError, match=r".*"), socket.socket() as connection:
        connection.connect(("127.0.0.1", 1))
    assert "socket.connect" in seen


def test_the_quickstart_shows_what_it_promises(tmp_path: Path) -> None:
    """As it ships: the disparity of fine-tuning against ours, and what ours costs in accuracy."""
    folder = tmp_path / "quickstart"
    result = CliRunner().invoke(main, ["run", "--cf", "quickstart", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    with (folder / "table.csv").open() as stream:
        table = {row["method"]: row for row in csv.DictReader(stream) if row["average"] == "mean"}
    assert float(table["ft"]["disparity"]) >= 1.2 * float(table["ours"]["disparity"])
    assert float(table["ours"]["acc_b"]) >= float(table["global"]["acc_b"]) - 0.01
    assert float(table["global"]["acc_b"]) > 0.8
    assert "of that rise" in result.output.replace("\n", "")


FULL_SIZE = ["train_args.client_num_per_round=1", "personalization_args.clients=['0007']"]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "changes", "clients", "rows"),
    [
        ("mnist_small", ["data_args.partition.limit=1000", "model_args.fc_width=16"], 10, 3 * 10),
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
    meta = json.loads((folder / "data/colored_mnist_meta.json").read_text())
    assert len(meta["clients"]) == clients
    assert all(row["acc_b"] and row["acc_bc"] for row in found)
