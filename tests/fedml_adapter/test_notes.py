"""What FedML's MPI simulation makes of our messages, by its own averaging loop."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from fedml.simulation.mpi.fedavg.FedAVGAggregator import FedAVGAggregator

from fedml_spurious.fedml_adapter.notes import Notes, separate, to_be_averaged, with_notes
from fedml_spurious.learning.attacks import SuccessCount

COUNTS = (10, 21, 33)


def averaged_by_fedml(messages: list[Any]) -> Any:
    """As FedML does it between two transports, which pickle."""
    received = [pickle.loads(pickle.dumps(message)) for message in messages]
    loop = FedAVGAggregator._fedavg_aggregation_
    return pickle.loads(pickle.dumps(loop(None, list(zip(COUNTS, received, strict=True)))))


def test_fedml_averages_our_weights_exactly() -> None:
    """Against fractions, rounded once; means that lie half way between two numbers are among them."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(200, generator=generator)
    ulps = torch.randint(-50, 50, (3, 200), generator=generator)
    ulp = torch.from_numpy(np.spacing(base.numpy()))
    states = [{"w": base + row * ulp, "n": torch.tensor(k)} for k, row in enumerate(ulps)]
    weights, _ = separate(averaged_by_fedml([to_be_averaged(state, Notes()) for state in states]))
    rows = [state["w"].tolist() for state in states]
    exact = [
        sum(n * Fraction(v) for n, v in zip(COUNTS, values, strict=True)) / 64
        for values in zip(*rows, strict=True)
    ]
    assert weights["w"].tolist() == [float(np.float32(float(mean))) for mean in exact]
    assert weights["n"].item() == 2  # a counter: the largest, and still a whole number


def test_fedml_joins_notes_whatever_it_does_to_them() -> None:
    notes = [Notes({f"{k}": {0.1: SuccessCount(k, 10)}}, failure="late" if k == 2 else "") for k in range(3)]
    for message in (to_be_averaged, with_notes):
        sent = [message({"w": torch.zeros(1)}, note) for note in notes]
        _, found = separate(averaged_by_fedml(sent))
        assert {client: counts[0.1].fooled for client, counts in found.counts.items()} == {
            "0": 0,
            "1": 1,
            "2": 2,
        }
        assert found.failure == "late"
    assert notes[0].to(torch.device("cpu")) is notes[0]  # FedML's cross-silo runner moves all values
