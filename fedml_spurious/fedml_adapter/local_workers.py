"""This process as the only worker of a run, the rounds in FedML's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import TaskRunner, TaskT, Workers
from fedml_spurious.fedml_adapter.arguments import fedml_arguments
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.learning.fedavg import Round


@contextmanager
def local_workers(
    settings: Settings, device: torch.device, given: object = None
) -> Iterator[Callable[[SplitsBySeed], Workers]]:
    """Let this process do the work of a run; no other is started."""
    yield lambda data: LocalWorkers(settings, data, device, given)


class LocalWorkers:
    """This process as the only worker, one task after the other; its twin is ``RemoteWorkers``.

    Args:
        settings: settings of the run.
        data: client split files by federated seed.
        device: where to compute.
        given: what is asked for beside the settings; see :class:`TaskRunner`.
    """

    def __init__(
        self, settings: Settings, data: SplitsBySeed, device: torch.device, given: object = None
    ) -> None:
        self.data = data
        self.runner = TaskRunner(settings, data, device, given=given)

    def train(
        self, fl_seed: int, model: nn.Module, *, start_round: int, after_round: Callable[[Round], None]
    ) -> None:
        """Run the rounds in FedML's classes; see :class:`Workers`."""
        # FedML takes seconds to import, which a run that finds its global models finished need not pay.
        from fedml_spurious.fedml_adapter.simulator import SingleProcessSimulator

        settings, data = self.runner.settings, self.data[fl_seed]
        simulator = SingleProcessSimulator(
            fedml_arguments(settings, fl_seed=fl_seed, num_clients=len(data.client_ids)),
            self.runner.device,
            fedml_dataset(
                data,
                data.client_ids,
                batch_size=settings.train_args.batch_size,
                cache=self.runner.cache,
            ),
            model,
            start_round=start_round,
            after_round=after_round,
        )
        with data.sealed():
            simulator.run()

    def use(self, model: nn.Module, fl_seed: int, name: str) -> None:
        """See :class:`Workers`."""
        self.runner.use(model, fl_seed)

    def do(self, tasks: Sequence[TaskT]) -> Iterator[tuple[TaskT, Any]]:
        """See :class:`Workers`."""
        for task in tasks:
            yield task, self.runner.run(task)

    def collect_models(self, plan: Sequence[ResultKey]) -> None:
        """Nothing: all models are in the run folder."""
