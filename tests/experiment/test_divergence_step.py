"""The recorded divergence is of the round that comes, on the weights before it, recomputed from the files."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from quick_runs import quick_config, quick_splits
from rich.console import Console
from running import read_rows
from torch import Tensor

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_csv
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.divergence_step import (
    COLUMNS,
    ClientDirections,
    check_divergence,
    is_recorded,
    record_divergence,
)
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.fedml_adapter.arguments import fedml_arguments
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.local_workers import LocalWorkers
from fedml_spurious.fedml_adapter.simulator import train_client
from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer
from fedml_spurious.learning.fedavg import Round, sample_clients

CPU = torch.device("cpu")
SAMPLES = 7


def settings_of(config: dict[str, Any], **analysis: Any) -> Settings:
    record = {"record": ["divergence"], "samples": SAMPLES} | analysis
    return check_settings(config | {"analysis_args": record}, source="a test")


def vector(parts: dict[str, Tensor]) -> Tensor:
    return torch.cat([parts[name].double().flatten() for name in sorted(parts)])


def test_it_is_of_the_clients_and_batches_of_the_next_round(
    tiny: dict[str, Any], splits: Path, tmp_path: Path
) -> None:
    """Cosines of what FedML's trainer moves in the next round, and of torch's gradients on few samples."""
    tiny["train_args"] |= {"client_num_per_round": 3, "epochs": 2}
    settings, data = settings_of(tiny), SplitFolder(splits)
    model = initial_network(settings, data, 0)
    clients = sample_clients(0, 2, total=4, per_round=3)
    assert set(clients) != set(sample_clients(0, 1, total=4, per_round=3)), "this test shows nothing"
    workers = LocalWorkers(settings, {0: data}, CPU)
    run = RunContext(settings, {0: data}, RunFolder(tmp_path), workers, Console(quiet=True), CPU)
    record_divergence(run, 0, Round(1, (), (), model))
    (path,) = tmp_path.rglob("round00001.csv")
    found = {
        kind: sum(float(row["cosine"]) * int(row["pairs"]) for row in rows) / 3
        for kind in ("pseudo", "gradient")
        if (rows := [row for row in read_rows(path) if (row["layer"], row["kind"]) == ("all", kind)])
    }
    args = fedml_arguments(settings, fl_seed=0, num_clients=4)
    args.round_idx = 2
    dataset = fedml_dataset(data, data.client_ids, batch_size=16)
    vectors: dict[str, list[Tensor]] = {"pseudo": [], "gradient": []}
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for client in clients:
        trained = copy.deepcopy(model)
        loaders = dataset[5][client], dataset[6][client]
        trainer = SpuriousTrainer(trained, args)
        train_client(trainer, client, trained.state_dict(), loaders, dataset[4][client], CPU, args)
        moved = {name: before[name] - value.detach() for name, value in trained.named_parameters()}
        vectors["pseudo"].append(vector(moved))
        x, y = (torch.cat(parts)[:SAMPLES] for parts in zip(*loaders[0], strict=True))
        copied = copy.deepcopy(model).train()
        loss = F.cross_entropy(copied(x), y)
        gradients = torch.autograd.grad(loss, list(copied.parameters()))
        names = [name for name, _ in copied.named_parameters()]
        vectors["gradient"].append(vector(dict(zip(names, gradients, strict=True))))
    for kind, own in vectors.items():
        cosines = [float(F.cosine_similarity(a, b, dim=0)) for a, b in combinations(own, 2)]
        assert found[kind] == pytest.approx(sum(cosines) / 3, abs=1e-6), kind


def test_random_colours_are_drawn_anew_in_every_round(tiny: dict[str, Any], splits: Path) -> None:
    """Every draw is addressed by seed, round and client: none of these shares its colours with another."""
    settings, data = settings_of(tiny), SplitFolder(splits)
    runner = TaskRunner(settings, {0: data}, CPU)
    runner.use(initial_network(settings, data, 0), 0)
    asked = [("0001", 0, 3), ("0001", 0, 4), ("0001", 1, 3), ("0001", 0, 3)]
    found = [runner.run(ClientDirections(client, seed, index)) for client, seed, index in asked]
    gradients, shapes = ([vector(getattr(one, name)) for one in found] for name in ("gradient", "shape"))
    assert all(torch.equal(other, gradients[0]) for other in gradients)
    assert torch.equal(shapes[0], shapes[3])
    assert not any(torch.equal(shapes[one], shapes[other]) for one, other in combinations(range(3), 2))


def test_rounds_are_recorded_by_the_interval_and_the_last_always(tmp_path: Path) -> None:
    config = quick_config(quick_splits(tmp_path / "splits"))
    config["train_args"]["comm_round"] = 6
    settings = settings_of(config, divergence_interval=2)
    recorded = [index for index in range(6) if is_recorded(settings, index)]
    assert recorded == [0, 2, 4, 5]
    folder = RunFolder(tmp_path / "run")
    part = folder.global_part(3) / "divergence"
    for index in (0, 2, 4):
        write_csv(part / f"round{index:05d}.csv", COLUMNS, [])
    check_divergence(settings, folder, 3, 5)
    with pytest.raises(InputError, match="round 5 is finished, and its divergence was not recorded"):
        check_divergence(settings, folder, 3, 6)
