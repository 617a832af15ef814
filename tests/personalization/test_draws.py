"""What a network draws in training: others for every seed, round, client and batch, always the same."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import torch
from client_views import view
from torch import Tensor, nn

from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer
from fedml_spurious.learning.training import LocalTraining
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import ClientView, fine_tune_stage

DRAWN: list[float] = []


class Drawing(nn.Module):
    """Writes down what a dropout layer in its place would draw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            DRAWN.append(float(torch.rand((), dtype=torch.float64)))
        return self.layer(x)


class Loader(list[tuple[Tensor, Tensor]]):
    client_index: int


def federated(seed: int, round_index: int, client: int) -> list[float]:
    args = Namespace(
        random_seed=seed, comm_round=3, epochs=2, batch_size=2, learning_rate=1e-3, client_num_in_total=2,
        client_num_per_round=1, round_idx=round_index, rank=0,
    )  # fmt: skip
    loader = Loader([(torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))])
    loader.client_index = client
    DRAWN.clear()
    SpuriousTrainer(Drawing(), args).train(loader, torch.device("cpu"), args)
    return list(DRAWN)


def test_federated_draws_are_addressed_by_seed_round_client_and_batch() -> None:
    found = [federated(seed, number, client) for seed in (0, 1) for number in (0, 1, 2) for client in (0, 1)]
    assert all(len(draws) == 4 for draws in found)
    assert len({draw for draws in found for draw in draws}) == 12 * 4
    assert federated(1, 2, 1) == found[-1]


def test_personal_draws_are_addressed_by_both_seeds_client_stage_and_batch() -> None:

    def draws(given: ClientView, stage: int) -> list[float]:
        DRAWN.clear()
        flat = replace(given.train, x=given.train.x.flatten(1)[:, :3], y=given.train.y % 2)
        given = replace(given, train=flat, training=LocalTraining(2, 10), global_model=Drawing())
        fine_tune_stage(METHODS["ft"](METHODS["ft"].settings_type()), given, stage=stage, epochs=2)
        return list(DRAWN)

    given = view()
    views = [given, replace(given, client=1), replace(given, p_seed=1), replace(given, fl_seed=1)]
    found = [draws(one, stage) for one in views for stage in (0, 1)]
    assert len({draw for numbers in found for draw in numbers}) == 8 * 4
    assert draws(views[-1], 1) == found[-1]
