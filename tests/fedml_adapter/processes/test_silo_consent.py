"""What a silo gives is what it was started for, whatever a server asks of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from in_threads import CPU

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.audit.client import make_options
from fedml_spurious.audit.peers import PeerCounts
from fedml_spurious.audit.tasks import AuditClient, CountAtPeer, FindModels
from fedml_spurious.common.errors import RunError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import MeasureGlobal, TaskRunner
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received
from fedml_spurious.fedml_adapter.processes.ranks import Rank
from fedml_spurious.fedml_adapter.processes.situation import Situation
from fedml_spurious.fedml_adapter.processes.wire import to_plain
from fedml_spurious.fedml_adapter.processes.worker import Worker
from fedml_spurious.fedml_adapter.processes.worker_process import _require_agreed, _require_own_clients
from fedml_spurious.learning.checkpoints import save_tensors
from fedml_spurious.learning.state_dicts import copy_state


@pytest.fixture
def settings(tiny: dict[str, Any]) -> Settings:
    silos = {"common_args": {"training_type": "cross_silo"}, "comm_args": {"backend": "MPI"}}
    return check_settings(tiny | silos, source="test")


def silo(settings: Settings, splits: Path, folder: Path, *, peers: bool) -> TaskRunner:
    """The first of two silos, with a global model in use."""
    data, store = SplitFolder(splits), ResultStore(RunFolder(folder / "silos/rank1"))
    options = make_options(None, peers=peers, tolerance=0.05, truth=False)
    runner = TaskRunner(settings, {0: data}, CPU, store, options)
    runner.use(initial_network(settings, data, 0), 0)
    return runner


def test_it_counts_for_peers_only_where_it_was_asked_for_them(
    settings: Settings, splits: Path, tmp_path: Path
) -> None:
    asked = silo(settings, splits, tmp_path, peers=True)
    task = CountAtPeer("0000", "0001", tuple(range(10)), (copy_state(asked.model),))
    (counts,) = asked.run(task)
    assert counts == PeerCounts(images=counts.images, gained=0, lost=0)  # the model is the global one
    assert counts.images > 0
    with pytest.raises(RunError, match="asked client 0000 to count, and this process has no --peers"):
        silo(settings, splits, tmp_path, peers=False).run(task)


@pytest.mark.parametrize(
    "key",
    [
        ResultKey("ft", 0, 0, "0001"),  # of the other silo, whose folder may be this one's
        ResultKey("../../../../elsewhere", 0, 0, "0000"),
        ResultKey("ft", "0/../../../../../../elsewhere/fl0", 0, "0000"),  # type: ignore[arg-type]
    ],
)
def test_it_shows_no_model_but_those_of_its_client_in_its_folder(
    key: ResultKey, settings: Settings, splits: Path, tmp_path: Path
) -> None:
    runner = silo(settings, splits, tmp_path / "run", peers=True)
    own = ResultKey("ft", 0, 0, "0000")
    kept = tmp_path / "run/silos/rank1/personal/ft/fl0_p0/models/0000.pt"
    for path in (kept, kept.with_stem("0001"), tmp_path / "elsewhere/fl0_p0/models/0000.pt"):
        save_tensors(path, copy_state(runner.model))
    assert runner.run(FindModels("0000", (own,))) == (True,)
    (found,) = runner.run(AuditClient("0000", (own,), 0.0)).states
    assert found.keys() == runner.model.state_dict().keys()
    for task in (FindModels("0000", (own, key)), AuditClient("0000", (key,), 0.0)):
        with pytest.raises(RunError, match="as a model of client 0000, which it is not"):
            runner.run(task)


def test_its_own_settings_say_that_it_is_a_silo_and_of_which_clients(
    settings: Settings, splits: Path
) -> None:
    def require(clients: list[str] | None, made: list[str] | None = None) -> None:
        order = {"clients": clients, "made": made}
        _require_agreed(settings, order)
        _require_own_clients(settings, order, {0: SplitFolder(splits)}, Rank(1, 3, 3))

    require(["0000", "0002"])  # dealt in turn
    for clients, made in ((None, None), (["0000", "0002"], [str(splits)])):
        with pytest.raises(RunError, match="other split files or clients than the settings of this process"):
            require(clients, made)
    for clients in (["0000", "0001", "0002"], ["0001", "0003"], []):
        with pytest.raises(RunError, match="other clients than the settings of this silo give to it"):
            require(clients)


class _Server:
    """An end on which one message has come in."""

    def __init__(self, kind: Kind, content: dict[str, Any]) -> None:
        self._message = Received(0, kind, content)

    def receive(self) -> Received:
        return self._message


@pytest.mark.parametrize("kind", [Kind.TRAIN, Kind.COLLECT, Kind.TASK])
def test_it_does_nothing_but_what_the_command_is_for(
    kind: Kind, settings: Settings, splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that leads an audit gets nothing measured or trained as in a run, and nothing sealed read."""
    data = {0: SplitFolder(splits)}
    state = to_plain(copy_state(initial_network(settings, data[0], 0)))
    content: dict[Kind, dict[str, Any]] = {
        Kind.TRAIN: {"weights": "w", "state": state, "fl_seed": 0, "round": 0, "clients": [0]},
        Kind.COLLECT: {"plan": []},
        Kind.TASK: {"weights": "w", "state": state, "fl_seed": 0, "task": to_plain(MeasureGlobal("0000"))},
    }
    monkeypatch.setattr(SplitFolder, "load", lambda *_: pytest.fail("read samples"))
    worker = Worker(
        _Server(kind, content[kind]),  # type: ignore[arg-type]
        settings, data, CPU, Situation(), own_clients=frozenset(["0000"]), only=(AuditClient, FindModels),
    )  # fmt: skip
    with pytest.raises(RunError, match="which is no part of this command"):
        worker.serve()


def test_it_gives_no_other_silos_models_a_name(settings: Settings, splits: Path, tmp_path: Path) -> None:
    """Two silos on one machine may share the folder in which their models lie."""
    content = {"plan": to_plain([ResultKey("ft", 0, 0, client) for client in ("0000", "0001")])}
    server, messages = _Server(Kind.COLLECT, content), [Received(0, Kind.FINISH, {})]
    messages.append(server.receive())
    server.receive = messages.pop  # type: ignore[method-assign]
    worker = Worker(
        server,  # type: ignore[arg-type]
        settings, {0: SplitFolder(splits)}, CPU, Situation(), own_clients=frozenset(["0000"]),
        silo_folder=tmp_path,
    )  # fmt: skip
    with pytest.raises(RunError, match="asked for client 0001, which is not of this silo"):
        worker.serve()
