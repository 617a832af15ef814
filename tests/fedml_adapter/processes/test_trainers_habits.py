"""A trainer's habits change no result of workers and silos: what it gives and takes is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from in_threads import CPU, remote

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.fedml_adapter import SpuriousTrainer
from fedml_spurious.fedml_adapter.local_workers import LocalWorkers
from fedml_spurious.fedml_adapter.processes import worker


class LiveSpurious(SpuriousTrainer):
    """Ours with FedML's habit, and with one that is worse: it spoils what it is given."""

    def get_model_params(self) -> Any:
        return self.model.state_dict()

    def set_model_params(self, model_parameters: Any) -> None:
        super().set_model_params(model_parameters)
        for value in model_parameters.values():
            value.zero_()


@pytest.mark.parametrize("silos", [False, True])
def test_workers_and_silos_copy_what_their_trainer_gives_and_takes(
    silos: bool, splits: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = check_settings(tiny | {"train_args": tiny["train_args"] | {"comm_round": 2}}, source="test")
    data = {0: SplitFolder(splits)}
    expected = initial_network(settings, data[0], 0)
    LocalWorkers(settings, data, CPU).train(0, expected, start_round=0, after_round=lambda _: None)
    monkeypatch.setattr(worker, "SpuriousTrainer", LiveSpurious)
    with remote(settings, splits, 1, silos=silos) as (workers, _):
        model = initial_network(settings, data[0], 0)
        workers.train(0, model, start_round=0, after_round=lambda _: None)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
