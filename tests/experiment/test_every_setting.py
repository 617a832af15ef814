"""Every key of the configuration: another value changes what a run finds, is refused, or is free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_runs import quick_config, quick_splits
from running import invoke, read_rows

from fedml_spurious.config.settings import Settings
from fedml_spurious.personalization.options import BUILT_IN

RESULTS = "results.csv"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    for seed in (0, 1):
        quick_splits(folder / f"splits{seed}", seed=seed)
    return folder


def changed(config: Mapping[str, Any], values: Mapping[str, Any], places: Path) -> dict[str, Any]:
    """A configuration with other values, by ``section.key`` or ``section.key.option``."""
    found = json.loads(json.dumps(config))
    for path, value in values.items():
        *sections, key = path.split(".")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = str(places / value) if path == "data_args.data_cache_dir" else value
    return found


def outcome(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All that a run finds, without the time that it takes."""
    result = invoke(config, folder)
    assert result.exit_code == 0, result.output
    rows = [{**row, "seconds": ""} for row in read_rows(folder / RESULTS)]
    found: dict[str, Any] = {RESULTS: rows}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in ("rounds.csv", "trajectory.csv", "decision.json", "budget.json"):
            found[name] = path.read_text()
        if path.name == "model.pt":
            found[name] = {key: value.tolist() for key, value in torch.load(path, weights_only=True).items()}
        if path.parent.name == "models":
            found[name] = "kept"
    return found


def method(name: str, **options: Any) -> dict[str, Any]:
    own = {f"personalization_args.{name}.{key}": value for key, value in options.items()}
    return {"experiment_args.methods": ["global", "ft", name]} | own


GRID = {
    "experiment_args.methods": ["global", "ft", "l2"],
    "experiment_args.grids": {"l2": {"lam_l2": [0.0, 9.0]}},
}
WIDE = {"attack_args.success_low": 0.0, "attack_args.success_high": 1.0}
RULE = {"attack_args.budget": "rule", "attack_args.success_low": 0.0, "attack_args.success_high": 0.2}

CHANGES: dict[str, tuple[dict[str, Any], Any, str]] = {
    # Key: what else is set in both runs, the other value, and a file in which the two differ.
    "common_args.random_seed": ({}, 1, "global/fl1/model.pt"),
    "data_args.data_cache_dir": ({}, "splits1", "global/fl0/model.pt"),
    "model_args.fc_width": ({}, 7, "global/fl0/model.pt"),
    "train_args.client_num_per_round": ({}, 3, "global/fl0/model.pt"),
    "train_args.comm_round": ({}, 3, "global/fl0/model.pt"),
    "train_args.epochs": ({}, 1, "global/fl0/model.pt"),
    "train_args.batch_size": ({}, 5, "global/fl0/model.pt"),
    "train_args.learning_rate": ({}, 0.02, "global/fl0/model.pt"),
    "train_args.weight_decay": ({}, 0.1, "global/fl0/model.pt"),
    "validation_args.frequency_of_the_test": ({"train_args.comm_round": 3}, 1, "global/fl0/rounds.csv"),
    "attack_args.norm": ({}, "l2", RESULTS),
    "attack_args.eps": ({}, 0.1, RESULTS),
    "attack_args.budget": ({**RULE, "attack_args.success_high": 0.01}, "fixed", "global/fl0/budget.json"),
    "attack_args.shrink": (RULE, 0.5, "global/fl0/budget.json"),
    "attack_args.success_low": (WIDE, 0.9, "global/fl0/budget.json"),
    "attack_args.success_high": (RULE, 1.0, "global/fl0/budget.json"),
    "attack_args.budget_samples": ({}, 3, "global/fl0/budget.json"),
    "attack_args.steps": ({}, 1, RESULTS),
    "attack_args.step_ratio": ({}, 0.9, RESULTS),
    "personalization_args.epochs": ({}, 2, RESULTS),
    "personalization_args.batch_size": ({}, 5, RESULTS),
    "personalization_args.learning_rate": ({}, 0.03, RESULTS),
    "personalization_args.clients": ({}, ["0001"], RESULTS),
    "personalization_args.trajectory_interval": ({}, 2, "personal/ft/fl0_p0/trajectory.csv"),
    "personalization_args.save_models": ({}, True, "personal/ft/fl0_p0/models/0000.pt"),
    "personalization_args.batchnorm": ({}, "local", "global/fl0/budget.json"),
    "personalization_args.batchnorm_mode": ({}, "batch", RESULTS),
    "personalization_args.selection_ties": ({}, "earliest", RESULTS),
    "personalization_args.ditto.lam": (method("ditto"), 5.0, RESULTS),
    "personalization_args.jtt.identification_epochs": (method("jtt"), 0, RESULTS),
    "personalization_args.jtt.multiplicity": (method("jtt"), 2, RESULTS),
    "personalization_args.adv.lam_adv": (method("adv"), 5.0, RESULTS),
    "personalization_args.l2.lam_l2": (method("l2"), 5.0, RESULTS),
    "personalization_args.ours.lam_adv": (method("ours"), 5.0, RESULTS),
    "personalization_args.ours.lam_l2": (method("ours"), 5.0, RESULTS),
    "personalization_args.head.layer": (method("head"), "1", RESULTS),
    "personalization_args.group_dro.step_size": (method("group_dro"), 1.0, RESULTS),
    "personalization_args.grad_align.lam": (method("grad_align"), 9.0, RESULTS),
    "personalization_args.local.epochs": (method("local"), 1, RESULTS),
    "experiment_args.methods": ({}, ["global"], RESULTS),
    "experiment_args.fl_seeds": ({}, [0, 1], RESULTS),
    "experiment_args.personalization_seeds": ({}, [1], RESULTS),
    "experiment_args.grids": (method("l2", lam_l2=0.0), {"l2": {"lam_l2": [9.0]}}, RESULTS),
    "experiment_args.tuning": (GRID, "client", "tuning/l2/decision.json"),
    "experiment_args.tuning_reference": (GRID, "smallest", "tuning/l2/decision.json"),
    "experiment_args.tuning_share": (GRID, 0.25, "tuning/l2/decision.json"),
    "experiment_args.tuning_tolerance": (GRID, 0.5, "tuning/l2/decision.json"),
}  # fmt: skip

REFUSED: dict[str, tuple[dict[str, Any], Any]] = {
    "common_args.training_type": ({}, "cross_silo"),
    "common_args.scenario": ({}, "vertical"),
    "common_args.using_mlops": ({}, True),
    "data_args.dataset": ({}, "other"),
    "data_args.partition": ({}, {"clients": 3}),
    "model_args.model": ({}, "cnn_28x28"),
    "train_args.federated_optimizer": ({}, "FedProx"),
    "train_args.client_optimizer": ({}, "sgd"),
    "train_args.client_num_in_total": ({}, 4),
    "device_args.gpu_id": ({"device_args.using_gpu": True}, 99),
    "device_args.using_gpu": ({"device_args.gpu_id": 99}, True),
    "comm_args.grpc_addresses": ({}, ["127.0.0.1:1", "127.0.0.1:1"]),
}

FREE = {
    # Changes no number, or is read by something else, where it is tested.
    "common_args.config_version", "data_args.raw", "data_args.cache_mb", "validation_args.checkpoint_seconds",
    "device_args.threads", "device_args.worker_gpus", "comm_args.backend", "comm_args.timeout",
    "comm_args.start_timeout", "comm_args.silos", "comm_args.silo_clients", "comm_args.grpc_base_port",
    "comm_args.grpc_network", "tracking_args.enable_wandb", "tracking_args.wandb_project",
    "tracking_args.run_name", "tracking_args.enable_tensorboard", "experiment_args.trials",
    "experiment_args.report", "analysis_args.record", "analysis_args.divergence_interval",
    "analysis_args.samples",
}  # fmt: skip


def test_every_key_is_in_one_of_the_tables() -> None:
    keys = {
        f"{section}.{key}"
        for section, field in Settings.model_fields.items()
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }
    keys |= {
        f"personalization_args.{name}.{option}"
        for name, found in BUILT_IN.items()
        for option in found.settings_type.model_fields
    }
    listed = [*CHANGES, *REFUSED, *FREE]
    assert sorted(listed) == sorted(keys)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


_found: dict[str, dict[str, Any]] = {}


@pytest.mark.parametrize("key", CHANGES)
def test_another_value_changes_what_a_run_finds(key: str, places: Path, tmp_path: Path) -> None:
    given, value, file = CHANGES[key]
    base = changed(quick_config(places / "splits0"), given, places)
    name = json.dumps(base)
    if name not in _found:
        _found[name] = outcome(base, tmp_path / "base")
    other = outcome(changed(base, {key: value}, places), tmp_path / "other")
    assert other.get(file) != _found[name].get(file)


@pytest.mark.parametrize("key", REFUSED)
def test_another_value_is_refused(key: str, places: Path, tmp_path: Path) -> None:
    given, value = REFUSED[key]
    config = changed(quick_config(places / "splits0"), {**given, key: value}, places)
    result = invoke(config, tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert key.partition(".")[2] in result.output or str(value) in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()
