"""One process, several workers and silos reach the same bits, in every round.

Server and workers run in threads here, over FedML's managers and a transport in memory that pickles as
FedML's own do; ``test_mpi.py`` and ``test_cross_silo.py`` do the same with processes.
"""

from __future__ import annotations

import copy
import queue
from pathlib import Path
from typing import Any

import pytest
from in_threads import CPU, remote
from jobs import require_same_weights
from memory_transport import Mailboxes, MemoryTransport

from data_partition.colored_mnist import Options, build
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import RunError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.divergence_step import ClientDirections
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.recordings import RecordClient
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import (
    BatchNormSums,
    CountFooled,
    MeasureGlobal,
    Personalize,
    Workers,
    in_order,
)
from fedml_spurious.fedml_adapter.local_workers import LocalWorkers
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.messages import Kind
from fedml_spurious.fedml_adapter.processes.situation import Situation
from fedml_spurious.fedml_adapter.processes.worker import Worker
from fedml_spurious.learning.fedavg import Round
from fedml_spurious.learning.state_dicts import State, copy_state
from fedml_spurious.personalization import make_method


def everything(settings: Settings, data: SplitFolder, workers: Workers) -> tuple[list[State], list[Any]]:
    """The global model after every round, and the answers to tasks of all kinds, without times."""
    model = initial_network(settings, data, 0)
    start = copy.deepcopy(model)
    states: list[State] = []
    workers.use(start, 0, "start")
    answers: list[Any] = [in_order(workers, [MeasureGlobal(client) for client in data.client_ids])]

    def after_round(finished: Round) -> None:
        states.append(copy_state(finished.model))
        answers.append((finished.clients, finished.losses))
        # The weights that a worker trained from are still these, though its model has moved on.
        workers.use(start, 0, "start")
        answers.append(in_order(workers, [MeasureGlobal(client) for client in data.client_ids]))
        workers.use(finished.model, 0, f"round {finished.index}")
        answers.append(in_order(workers, [MeasureGlobal(client) for client in data.client_ids]))

    workers.train(0, model, start_round=0, after_round=after_round)
    workers.use(model, 0, "fl0")
    answers.append(in_order(workers, [CountFooled(client, 0.031) for client in data.client_ids]))
    answers.append(in_order(workers, [BatchNormSums(client, "features.1") for client in data.client_ids]))
    tasks = [
        Personalize(ResultKey(method, 0, p_seed, client, make_method(method, **options).settings), 0.031)
        for client in data.client_ids
        for p_seed in (0, 1)
        for method, options in (("ft", {}), ("ours", {"lam_adv": 0.1, "lam_l2": 1.0}))
    ]
    recordings = [
        RecordClient(ResultKey(method, 0, p_seed, client, options), 0.031, ("gamma", "twins"))
        for client in data.client_ids[:2]
        for method, p_seed, options in (("global", None, None), ("ft", 1, make_method("ft").settings))
    ]
    answers += in_order(workers, recordings)
    for found in in_order(workers, [ClientDirections(client, 0, 2) for client in data.client_ids[:2]]):
        states += list(found.parts().values())
    for outcome in in_order(workers, tasks):
        answers.append({name: cell for name, cell in vars(outcome.result).items() if name != "seconds"})
        answers.append(outcome.trajectory)
        states.append(outcome.state)
    return states, answers


@pytest.fixture
def settings(tiny: dict[str, Any]) -> Settings:
    tiny["personalization_args"] |= {"trajectory_interval": 2, "save_models": True}
    return check_settings(tiny, source="test")


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[list[State], list[Any]]]:
    """What one process finds; filled by the first test that asks."""
    return {}


@pytest.mark.parametrize("silos", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_same_bits_as_one_process(
    workers: int,
    silos: bool,
    settings: Settings,
    splits: Path,
    alone: dict[str, tuple[list[State], list[Any]]],
) -> None:
    data = SplitFolder(splits)
    if not alone:
        alone["found"] = everything(settings, data, LocalWorkers(settings, {0: data}, CPU))
    expected_states, expected = alone["found"]
    with remote(settings, splits, workers, silos=silos) as (remote_workers, _):
        states, answers = everything(settings, data, remote_workers)
    assert answers == expected
    assert len(states) == len(expected_states) == 3 + 4 * 2 * 2 + 2 * 4
    for state, other in zip(states, expected_states, strict=True):
        require_same_weights(state, other)


def test_weights_travel_once_per_round_and_worker(settings: Settings, splits: Path) -> None:
    data = SplitFolder(splits)
    model = initial_network(settings, data, 0)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    with remote(settings, splits, 2, silos=False) as (remote_workers, endpoint):

        def after_round(finished: Round) -> None:
            remote_workers.use(finished.model, 0, "any name")
            in_order(remote_workers, [MeasureGlobal(client) for client in data.client_ids])

        remote_workers.train(0, model, start_round=0, after_round=after_round)
        remote_workers.use(model, 0, "fl0")
        in_order(
            remote_workers, [CountFooled(client, eps) for client in data.client_ids for eps in (0.01, 0.02)]
        )
        messages, sent = endpoint.traffic["messages"], endpoint.traffic["bytes"]
    assert messages[Kind.TRAIN] == 3 * 2
    assert messages[Kind.TASK] == 3 * 4 + 4 * 2
    # Four models, the first and one of every round, to two workers.
    assert sent[Kind.TRAIN] + sent[Kind.TASK] == 4 * 2 * size


def test_work_of_a_seed_reads_the_splits_of_that_seed(
    settings: Settings, splits: Path, tmp_path: Path
) -> None:
    """Also when the weights are the same, which do not travel again, and when the seeds take turns."""
    options = Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2)
    build(options, raw=None, out=tmp_path)
    places = {0: splits, 1: tmp_path}
    data = {fl_seed: SplitFolder(place) for fl_seed, place in places.items()}
    model = initial_network(settings, data[0], 0)

    def answers(workers: Workers) -> list[Any]:
        found: list[Any] = []
        for fl_seed in (0, 1, 0):
            workers.use(model, fl_seed, "the same weights")
            found.append(in_order(workers, [MeasureGlobal(client) for client in data[0].client_ids]))
        for fl_seed in (0, 1, 0):
            trained = copy.deepcopy(model)
            workers.train(fl_seed, trained, start_round=2, after_round=lambda _: None)
            found.append({name: value.tolist() for name, value in trained.state_dict().items()})
        return found

    expected = answers(LocalWorkers(settings, data, CPU))
    for first, second, third in (expected[:3], expected[3:]):
        assert first == third != second
    with remote(settings, places, 2, silos=False) as (remote_workers, _):
        assert answers(remote_workers) == expected


def test_a_silo_refuses_a_client_of_another(settings: Settings, splits: Path) -> None:
    data = SplitFolder(splits)
    mailboxes: Mailboxes = {0: queue.Queue(), 1: queue.Queue()}
    end = Endpoint(MemoryTransport(1, mailboxes), rank=1, size=2, backend="memory", timeout=60.0)
    server = Endpoint(MemoryTransport(0, mailboxes), rank=0, size=2, backend="memory", timeout=60.0)
    worker = Worker(end, settings, {0: data}, CPU, Situation(), own_clients=frozenset(data.client_ids[1:]))
    content = {"weights": "", "state": None, "fl_seed": 0, "round": 0, "clients": [0]}
    server.post(1, Kind.TRAIN, content)
    with pytest.raises(RunError, match=f"client {data.client_ids[0]}, which is not of this silo"):
        worker.serve()
    end.finish()
    server.finish()
