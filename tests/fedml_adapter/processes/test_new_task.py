"""A kind of task that is defined here alone travels, is handed out and is answered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pytest
from in_threads import remote

from fedml_spurious.common.travelling import travels
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.tasks import Task, TaskRunner
from fedml_spurious.fedml_adapter.processes.hand_out import HandOut
from fedml_spurious.fedml_adapter.processes.wire import from_plain, to_plain


@travels
@dataclass(frozen=True)
class Brightness:
    """Sums of the red, green and blue of all training images of a client, and how many there are."""

    count: int
    sums: tuple[int, ...]


@travels
@dataclass(frozen=True)
class MeasureBrightness:
    client: str

    def describe(self) -> str:
        return f"measurement of brightness, client {self.client}"

    def run(self, runner: TaskRunner) -> Brightness:
        with runner.data.sealed():
            image = runner.data.load(self.client, "train").image
        return Brightness(len(image), tuple(int(part) for part in image.sum((0, 1, 2), dtype=int)))


@dataclass(frozen=True)
class Unregistered:
    client: str


def test_a_new_kind_of_task_needs_no_edit_elsewhere(tiny: dict[str, Any], splits: Path) -> None:
    settings = check_settings(tiny, source="test")
    with remote(settings, splits, 2, silos=True) as (workers, _):
        clients = workers.data[0].client_ids
        tasks: list[Task] = [MeasureBrightness(client) for client in clients]
        workers.use(initial_network(settings, workers.data[0], 0), 0, "start")
        answers = workers.do(tasks)
        first, answer = next(answers)
        # The server says in the task's own words what the other worker is at.
        (doing,) = workers.situation.doing.values()
        assert doing in {task.describe() for task in tasks if task != first}
        found = {task.client: answer for task, answer in [(first, answer), *answers]}
    assert sorted(found) == sorted(clients) == ["0000", "0001", "0002", "0003"]
    with h5py.File(splits / "colored_mnist_train.h5") as file:
        for client, answer in found.items():
            image = file[f"examples/{client}/image"][()]
            sums = tuple(int(image[..., channel].astype("int64").sum()) for channel in range(3))
            assert answer == Brightness(len(image), sums)


def test_it_is_handed_out_by_its_client() -> None:
    waiting = HandOut([MeasureBrightness("a"), MeasureBrightness("b")], {"a": 2, "b": 1})
    assert waiting.next_for(1) == MeasureBrightness("b")
    assert waiting.next_for(1) is None


def test_what_is_not_registered_neither_leaves_nor_arrives() -> None:
    with pytest.raises(TypeError, match="Unregistered cannot travel between processes"):
        to_plain(Unregistered("a"))
    with pytest.raises(ValueError, match="'Unregistered', which is not known here"):
        from_plain({"@type": "Unregistered", "client": "a"})


def test_a_type_that_took_the_name_of_a_registered_one_does_not_travel() -> None:
    other = dataclass(frozen=True)(type("Brightness", (), {"__annotations__": {"count": int}}))
    with pytest.raises(TypeError, match="Brightness cannot travel between processes"):
        to_plain(other(3))
