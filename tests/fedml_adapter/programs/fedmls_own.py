"""FedML's cross-silo runner over MPI with FedML's own aggregator, and a trainer with FedML's habits.

Two clients with 10 and 20 samples start from 1.0 and move the weight by 0.5 and 0.75 in each of two rounds.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import fedml
import torch
from fedml.ml.aggregator.default_aggregator import DefaultServerAggregator
from fedml.ml.trainer.my_model_trainer_classification import ModelTrainerCLS

from fedml_spurious.fedml_adapter.offline import prepare


class Moving(ModelTrainerCLS):
    """FedML's own trainer, which hands out its live tensors, with another way to train."""

    def train(self, train_data: Any, device: Any, args: Any) -> None:
        with torch.no_grad():
            self.model.weight += train_data


class NotMeasured(DefaultServerAggregator):
    """FedML's own aggregator without its measurements, which want a data set."""

    def test(self, test_data: Any, device: Any, args: Any) -> tuple[None, None, None, None]:
        return None, None, None, None


args = prepare(
    Namespace(
        training_type="cross_silo", backend="MPI", federated_optimizer="FedAvg", dataset="numbers",
        client_num_in_total=2, client_num_per_round=2, comm_round=2, frequency_of_the_test=1,
    )
)  # fmt: skip
model = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.ones_(model.weight)
dataset = [30, 0, None, None, {0: 10, 1: 20}, {0: 0.5, 1: 0.75}, {0: None, 1: None}, 1]
aggregator = NotMeasured(model, args)
fedml.FedMLRunner(args, torch.device("cpu"), dataset, model, Moving(model, args), aggregator).run()
if args.rank == 0:
    torch.save(model.state_dict(), "weights.pt")
