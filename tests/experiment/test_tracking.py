"""Weights & Biases without a connection, and TensorBoard: what a run logs ends up in their files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from running import read_rows
from tensorboardX.proto import event_pb2

from fedml_spurious.cli import main

Scalars = dict[str, dict[int, float]]


def events(path: Path) -> Scalars:
    """Scalars of a TensorBoard file, by tag and step: length, checksum, content, checksum."""
    found: Scalars = {}
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        content = content[16 + length :]
    return found


@pytest.fixture(scope="module")
def logged(
    splits: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]], dict[str, str]]:
    """A run of two pairs of seeds, tracked by both; what W&B was given, and its step metrics."""
    import wandb

    rows: list[dict[str, Any]] = []
    steps: dict[str, str] = {}
    log, define = wandb.sdk.wandb_run.Run.log, wandb.sdk.wandb_run.Run.define_metric

    def log_too(run: Any, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows.append(data)
        log(run, data, *args, **kwargs)

    def define_too(run: Any, name: str, step_metric: Any = None, **kwargs: Any) -> Any:
        steps[name] = step_metric
        return define(run, name, step_metric=step_metric, **kwargs)

    config = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {"client_num_per_round": 2, "comm_round": 3, "epochs": 1, "batch_size": 16},
        "validation_args": {"frequency_of_the_test": 2},
        "personalization_args": {"epochs": 1},
        "attack_args": {"steps": 2},
        "tracking_args": {"enable_wandb": True, "enable_tensorboard": True},
        "experiment_args": {"methods": ["global", "ft"], "personalization_seeds": [0, 1]},
    }
    folder = tmp_path_factory.mktemp("tracked") / "run"
    (folder.parent / "run.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setattr(wandb.sdk.wandb_run.Run, "log", log_too)
        patch.setattr(wandb.sdk.wandb_run.Run, "define_metric", define_too)
        command = ["run", "--cf", str(folder.parent / "run.yaml"), "--output", str(folder)]
        result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return folder, rows, steps


@pytest.mark.parametrize("mode", ["", "online"])
def test_without_a_login_one_message_before_anything_is_written(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tiny | {"tracking_args": {"enable_wandb": True}}))
    folder = tmp_path / "run"
    result = CliRunner().invoke(main, ["run", "--cf", str(tmp_path / "run.yaml"), "--output", str(folder)])
    assert result.exit_code == 2
    assert result.output.startswith("Error: tracking_args.enable_wandb: nobody is logged in")
    assert result.output.count("\n") == 1
    assert not folder.exists()


def test_what_it_refuses_is_one_message(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def refuse(**_: Any) -> None:
        raise wandb.Error("permission denied")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", refuse)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tiny | {"tracking_args": {"enable_wandb": True}}))
    command = ["run", "--cf", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "Weights & Biases cannot be used (permission denied); mend that" in result.output
    assert "Traceback" not in result.output


def test_rounds_quantiles_and_table_are_logged_offline_with_their_steps(
    logged: tuple[Path, list[dict[str, Any]], dict[str, str]],
) -> None:
    folder, rows, steps = logged
    rounds = [row for row in rows if "federated/fl0/round" in row]
    assert [row["federated/fl0/round"] for row in rounds] == [0, 1, 2]
    assert ["federated/fl0/acc_b" in row for row in rounds] == [True, False, True]
    assert steps["federated/fl0/*"] == "federated/fl0/round"
    assert steps["personal/*"] == "personal/pair"
    assert "table/ft/disparity" in rows[-1]
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert not list(folder.parent.glob("wandb"))
    clients = {row["client"] for row in read_rows(folder / "results.csv")}
    assert not [name for row in rows for name in row if clients & set(name.split("/"))]


def test_tensorboard_has_the_same_scalars_at_the_same_steps(
    logged: tuple[Path, list[dict[str, Any]], dict[str, str]],
) -> None:
    folder, rows, _ = logged
    (path,) = (folder / "tensorboard").iterdir()
    found = events(path)
    expected: Scalars = {}
    for row in rows:
        (step,) = (name for name in row if name.rpartition("/")[2] in ("round", "pair", "step"))
        for name, value in row.items():
            if name != step:
                expected.setdefault(name, {})[row[step]] = float(np.float32(value))
    assert found == expected
    losses = [float(row["train_loss"]) for row in read_rows(folder / "global/fl0/rounds.csv")]
    assert list(found["federated/fl0/train_loss"].values()) == pytest.approx(losses, rel=1e-6)


def test_quantiles_are_over_the_clients_of_a_pair_of_seeds(
    logged: tuple[Path, list[dict[str, Any]], dict[str, str]],
) -> None:
    folder, rows, _ = logged
    pairs = [row for row in rows if "personal/pair" in row]
    assert [row["personal/pair"] for row in pairs] == [0, 1]
    table = read_rows(folder / "results.csv")
    for method, p_seed in (("ft", "1"), ("global", "")):
        values = [float(r["acc_bc"]) for r in table if (r["method"], r["p_seed"]) == (method, p_seed)]
        assert len(values) == 4
        for name, of_numpy in (("min", np.min), ("median", np.median), ("max", np.max)):
            assert pairs[1][f"personal/{method}/acc_bc/{name}"] == pytest.approx(of_numpy(values))
