"""While anything is trained, chosen or summed, the bias-conflicting test sets of all seeds are sealed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from data_partition.colored_mnist import Options, build
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import RunError, SealedError
from fedml_spurious.config.file import load_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import BatchNormSums, CountFooled, MeasureGlobal, TaskRunner
from fedml_spurious.fedml_adapter.local_workers import LocalWorkers
from fedml_spurious.fedml_adapter.processes.situation import Situation
from fedml_spurious.fedml_adapter.processes.wire import to_plain
from fedml_spurious.fedml_adapter.processes.worker import Worker
from fedml_spurious.learning.state_dicts import copy_state

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A partition for each of two federated seeds."""
    other = tmp_path_factory.mktemp("other")
    build(Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2), raw=None, out=other)
    return {0: splits, 1: other}


@pytest.fixture
def data(folders: dict[int, Path]) -> dict[int, SplitFolder]:
    return {seed: SplitFolder(folder) for seed, folder in folders.items()}


@pytest.fixture
def settings(tiny: dict[str, Any], tmp_path: Path) -> Settings:
    tiny["train_args"] |= {"comm_round": 1}
    tiny["personalization_args"]["batchnorm"] = "local"  # the budget needs statistics of the client's own
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return load_settings(path)


class Spy:
    """Tries to read the bias-conflicting test sets of all folders whenever the network is called."""

    def __init__(self, data: dict[int, SplitFolder]) -> None:
        self.data = data
        self.sealed: list[bool] = []

    def __call__(self, *_: Any) -> None:
        for folder in self.data.values():
            try:
                folder.load("0000", "test_bc")
            except SealedError:
                self.sealed.append(True)
            else:
                self.sealed.append(False)

    def __deepcopy__(self, _: Any) -> Spy:
        return self  # copies of a network are watched too

    @contextmanager
    def watching(self, model: nn.Module, *, sealed: bool) -> Iterator[None]:
        self.sealed.clear()
        with model.register_forward_hook(self):
            yield
        assert self.sealed, "the network was not called"
        assert set(self.sealed) == {sealed}


def test_federated_rounds_in_one_process(settings: Settings, data: dict[int, SplitFolder]) -> None:
    workers = LocalWorkers(settings, data, CPU)
    model, spy = initial_network(settings, data[0], 0), Spy(data)
    rounds: list[int] = []
    with spy.watching(model, sealed=True):
        workers.train(0, model, start_round=0, after_round=lambda done: rounds.append(done.index))
    assert rounds == [0]
    spy(None)
    assert spy.sealed[-2:] == [False, False], "the seal is open again"


def test_training_in_a_worker(settings: Settings, data: dict[int, SplitFolder]) -> None:
    worker, spy = Worker(None, settings, data, CPU, Situation()), Spy(data)  # type: ignore[arg-type]
    worker._weights = ("w", copy_state(worker.model))
    with spy.watching(worker.model, sealed=True):
        worker._train(fl_seed=0, round=0, clients=[1, 2])


@pytest.mark.parametrize("task", [CountFooled("0001", 0.03), BatchNormSums("0001", "features.1")])
def test_the_budget_and_the_sums_of_batchnorm(
    task: Any, settings: Settings, data: dict[int, SplitFolder]
) -> None:
    runner, spy = TaskRunner(settings, data, CPU), Spy(data)
    model = initial_network(settings, data[0], 0)
    runner.use(model, 0)
    with spy.watching(model, sealed=True):
        runner.run(task)


def test_a_measurement_may_read_them_within_training_and_alone(
    settings: Settings, data: dict[int, SplitFolder]
) -> None:
    runner, spy = TaskRunner(settings, data, CPU), Spy(data)
    model = initial_network(settings, data[0], 0)
    runner.use(model, 0)
    with data[1].sealed():
        assert runner.run(MeasureGlobal("0001"))[1].count == data[0].count("0001", "test_bc")
        spy(None)
        assert set(spy.sealed) == {True}


def test_a_silo_does_nothing_for_the_clients_of_others(
    settings: Settings, data: dict[int, SplitFolder]
) -> None:
    own = frozenset({"0000", "0002"})
    worker = Worker(None, settings, data, CPU, Situation(), own_clients=own)  # type: ignore[arg-type]
    state = copy_state(worker.model)
    worker._weights = ("w", state)
    assert worker._do(fl_seed=0, task=to_plain(MeasureGlobal("0002")))[0].count
    for ask in (
        lambda: worker._do(fl_seed=0, task=to_plain(MeasureGlobal("0001"))),
        lambda: worker._do(fl_seed=0, task=to_plain(CountFooled("0003", 0.03))),
        lambda: worker._train(fl_seed=0, round=0, clients=[0, 1]),
        lambda: worker._collect([ResultKey("ft", 0, 0, "0002"), ResultKey("ft", 0, 0, "0003")]),
    ):
        with pytest.raises(RunError, match=r"client 000[13], which is not of this silo"):
            ask()
