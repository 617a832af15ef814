"""Workers whose answers cannot be answers: one error at rank 0 that names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from in_threads import remote

from fedml_spurious.common.errors import RunError
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.tasks import MeasureGlobal
from fedml_spurious.fedml_adapter.processes.worker import Worker


def test_a_worker_that_answers_otherwise_is_named(
    tiny: dict[str, Any], splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, train = check_settings(tiny, source="test"), Worker._train

    def one_loss_more(self: Worker, **content: Any) -> dict[str, Any]:
        found = train(self, **content)
        return found | {"losses": [*found["losses"], 0.5]}

    monkeypatch.setattr(Worker, "_train", one_loss_more)
    monkeypatch.setattr(Worker, "_do", lambda *_, **__: {"@type": "Mystery"})
    seen: list[Sequence[Any]] = []
    with remote(settings, splits, 1, silos=False) as (workers, _):
        model = initial_network(settings, workers.data[0], 0)
        with pytest.raises(RunError, match=r"^rank 1 in training, seed fl0, round 0: .*3 for .* 2 clients\)"):
            workers.train(0, model, start_round=0, after_round=lambda found: seen.append([found]))
        workers.use(model, 0, "fl0")
        with pytest.raises(
            RunError, match=r"^rank 1 in measurement of the global model, client 0002: .*'Mystery', which is"
        ):
            list(workers.do([MeasureGlobal("0002")]))
    assert seen == []
