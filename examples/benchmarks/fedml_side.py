"""What a user of FedML writes to fine-tune: its trainer with another loss, its test to choose an epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from fedml.ml.trainer.my_model_trainer_classification import ModelTrainerCLS
from torch import Tensor, nn

from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.modes import batchnorm_to_eval_mode

CPU = torch.device("cpu")
ARGS = SimpleNamespace(learning_rate=1e-4, weight_decay=0.0, dataset="random")


class LossTrainer(ModelTrainerCLS):  # type: ignore[misc]  # FedML has no types
    """FedML's trainer with a loss of one's own; the loop is that of ``ModelTrainerCLS.train``."""

    def train_with(
        self,
        loss_of: Callable[[nn.Module, Tensor], Tensor],
        epochs: Iterable[Iterable[Tensor]],
        after_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        """Train on batches of rows, given by epoch, with BatchNorm under its running statistics."""
        optimizer = torch.optim.Adam(
            filter(lambda p: p.requires_grad, self.model.parameters()),
            lr=ARGS.learning_rate,
            weight_decay=ARGS.weight_decay,
            amsgrad=True,
        )
        for batches in epochs:
            self.model.train()
            batchnorm_to_eval_mode(self.model)
            batch_loss = []
            for rows in batches:
                self.model.zero_grad()
                loss = loss_of(self.model, rows)
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
                optimizer.step()
                batch_loss.append(loss.item())
            after_epoch()

    def correct(self, samples: Labelled) -> int:
        """Correctly classified samples, by FedML's own test."""
        return int(self.test([(samples.x, samples.y)], CPU, ARGS)["test_correct"])


def fine_tune(
    global_model: nn.Module,
    loss_of: Callable[[nn.Module, Tensor], Tensor],
    rows: Tensor,
    *,
    epochs: int,
    batch_size: int,
    selected_on: Iterable[Labelled],
) -> LossTrainer:
    """Fine-tune a copy of the global model, and keep the epoch that the first of these sets chooses.

    Args:
        global_model: where training starts.
        loss_of: objective, given the model and rows of the training split.
        rows: of the training split, each as often as an epoch visits it.
        epochs: of the training.
        batch_size: rows per batch.
        selected_on: sets that are tested after every epoch.

    Returns:
        The trainer with the selected weights.
    """
    trainer = LossTrainer(copy.deepcopy(global_model), ARGS)
    best: list[Any] = [-1, None]
    sets = list(selected_on)

    def select() -> None:
        scores = [trainer.correct(samples) for samples in sets]
        if scores[0] >= best[0]:
            best[:] = scores[0], copy.deepcopy(trainer.get_model_params())

    shuffled = (rows[torch.randperm(len(rows))].split(batch_size) for _ in range(epochs))
    trainer.train_with(loss_of, shuffled, select)
    trainer.set_model_params(best[1])
    return trainer
