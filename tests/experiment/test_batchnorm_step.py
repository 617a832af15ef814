"""The BatchNorm policies in whole runs, recomputed from the files that a run leaves."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from running import invoke, weights, without_time
from torch import Tensor, nn

from fedml_spurious.experiment.stored_run import Run
from fedml_spurious.experiment.tasks import CountFooled, TaskRunner
from fedml_spurious.learning.models import build_model

CLIENTS = tuple(f"{client:04}" for client in range(4))


@pytest.fixture(scope="module")
def config(splits: Path) -> dict[str, Any]:
    return {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "personalization_args": {"epochs": 1, "local": {"epochs": 2}},
        "attack_args": {"steps": 2, "budget": "fixed"},
        "experiment_args": {"methods": ["global", "ft", "local"]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run per policy."""
    folders = {}
    for policy in ("aggregate", "local", "recalibrate"):
        folder = folders[policy] = tmp_path_factory.mktemp(policy) / "run"
        result = invoke(config, folder, "--set", f"personalization_args.batchnorm={policy}")
        assert result.exit_code == 0, result.output
    return folders


def samples(splits: Path, split: str, client: str) -> tuple[Tensor, Tensor]:
    with h5py.File(splits / f"colored_mnist_{split}.h5") as file:
        group = file[f"examples/{client}"]
        images = torch.from_numpy(group["image"][()]).permute(0, 3, 1, 2) / 255
        return images, torch.from_numpy(group["label"][()])


def with_torch_s_statistics(state: dict[str, Tensor], x: Tensor) -> nn.Module:
    """Layer after layer in training mode with ``momentum=None`` over one batch of everything.

    In double precision: torch's sums over so many values lose digits in single precision, ours do not.
    """
    model = build_model(
        "small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=3
    ).eval()
    model.load_state_dict(state)
    model.double()
    for layer in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
        with torch.no_grad():
            model(x.double())
        layer.eval()
    return model


def evaluated(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    with torch.no_grad():
        logits = model(x.double())
    loss = float(nn.functional.cross_entropy(logits, y))
    return float((logits.argmax(dim=1) == y).double().mean()), loss


def rows(folder: Path, method: str) -> dict[str, dict[str, str]]:
    found = {row["client"]: row for row in without_time(folder) if row["method"] == method}
    assert tuple(sorted(found)) == CLIENTS
    return found


def test_the_federated_step_does_not_know_the_policy(runs: dict[str, Path]) -> None:
    first, *others = (weights(folder) for folder in runs.values())
    for other in others:
        assert all(torch.equal(other[name], value) for name, value in first.items())
    assert len({(folder / "global/fl0/rounds.csv").read_bytes() for folder in runs.values()}) == 1
    # Nor does a client that trains alone; only its accuracy on attacks against the global model changes.
    alone = [[row["acc_b"] for row in rows(folder, "local").values()] for folder in runs.values()]
    assert alone[0] == alone[1] == alone[2]
    fine_tuned = [[row["loss_b"] for row in rows(folder, "ft").values()] for folder in runs.values()]
    assert fine_tuned[0] != fine_tuned[1] != fine_tuned[2] != fine_tuned[0]


def test_recalibrate_is_torch_s_statistics_of_all_clients_together(
    runs: dict[str, Path], splits: Path
) -> None:
    folder = runs["recalibrate"]
    everything = torch.cat([samples(splits, "train", client)[0] for client in CLIENTS])
    expected = with_torch_s_statistics(weights(folder), everything).state_dict()
    actual = torch.load(folder / "global/fl0/recalibrated.pt", weights_only=True)
    for name, value in actual.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)
    model = with_torch_s_statistics(weights(folder), everything)
    for client, row in rows(folder, "global").items():
        accuracy, loss = evaluated(model, *samples(splits, "test", client))
        assert float(row["acc_b"]) == pytest.approx(accuracy)
        assert float(row["loss_b"]) == pytest.approx(loss, rel=1e-4)


def test_local_is_torch_s_statistics_of_each_client(runs: dict[str, Path], splits: Path) -> None:
    folder = runs["local"]
    for client, row in rows(folder, "global").items():
        model = with_torch_s_statistics(weights(folder), samples(splits, "train", client)[0])
        for split, column in (("test", "acc_b"), ("test_bc", "acc_bc"), ("val", "val_acc")):
            accuracy, loss = evaluated(model, *samples(splits, split, client))
            assert float(row[column]) == pytest.approx(accuracy)
            if split == "test":
                assert float(row["loss_b"]) == pytest.approx(loss, rel=1e-4)
    assert not (folder / "global/fl0/recalibrated.pt").exists()


def test_a_continued_run_takes_the_stored_statistics_and_no_other_policy(
    runs: dict[str, Path], config: dict[str, Any]
) -> None:
    folder = runs["recalibrate"]
    path = folder / "global/fl0/recalibrated.pt"
    before, written = (folder / "results.csv").read_bytes(), path.stat().st_mtime_ns
    again = copy.deepcopy(config)
    again["experiment_args"]["methods"] = ["global", "ft", "local", "head"]
    result = invoke(again, folder, "--resume", "--set", "personalization_args.batchnorm=recalibrate")
    assert result.exit_code == 0, result.output
    assert path.stat().st_mtime_ns == written
    assert (folder / "results.csv").read_bytes().startswith(before)
    refused = invoke(config, folder, "--resume", "--set", "personalization_args.batchnorm=local")
    assert refused.exit_code == 2
    assert "personalization_args.batchnorm: was 'recalibrate', is 'local'" in refused.output


def test_a_network_without_batchnorm_is_left_alone_and_the_log_says_so(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "plain_network.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, image_shape, fc_width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, num_classes))\n"
    )
    changed = copy.deepcopy(config)
    changed["model_args"] = {"model": "plain_network:make"}
    changed["personalization_args"]["batchnorm"] = "recalibrate"
    changed["experiment_args"]["methods"] = ["global"]
    result = invoke(changed, tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "batchnorm: recalibrate has no effect" in (tmp_path / "run/run.log").read_text()
    assert not (tmp_path / "run/global/fl0/recalibrated.pt").exists()


@pytest.mark.parametrize("policy", ["aggregate", "local", "recalibrate"])
def test_the_budget_is_found_on_the_model_that_is_attacked(
    policy: str, runs: dict[str, Path], splits: Path
) -> None:
    """Of the samples that the attack starts from, those are counted that this very model has right."""
    found, expected = {}, {}
    run = Run(runs[policy])
    runner = TaskRunner(run.settings, {0: run.splits}, torch.device("cpu"))
    runner.use(run.global_model(), 0)
    everything = torch.cat([samples(splits, "train", client)[0] for client in CLIENTS])
    for client in CLIENTS:
        x, y = samples(splits, "train", client)
        model = with_torch_s_statistics(weights(runs[policy]), x if policy == "local" else everything)
        if policy == "aggregate":
            model.load_state_dict(weights(runs[policy]))
        found[client] = runner.run(CountFooled(client, 1e-6)).correct
        expected[client] = round(evaluated(model, x, y)[0] * len(y))
    assert found == expected
