"""Claims (a), (b), (c): a round of FedAvg beside FedML's, a bare loop, and the machine's limit.

python examples/benchmarks/claim_abc_rounds.py a --epochs 5 --anyway
"""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import click
import torch
import torch.nn.functional as F
from harness import Side, measure, require_quiet, show
from roofline import peaks, step_bound
from torch import Tensor, nn

from fedml_spurious.learning.models import IMAGE_SIZES, build_model


@dataclass(frozen=True)
class Setting:
    """A round of a claim.

    Attributes:
        network: name of the network.
        fc_width: width of its hidden layer.
        samples: training samples of a client.
        batch_size: samples per batch.
        clients: of a round.
        epochs: local epochs.
    """

    network: str
    fc_width: int
    samples: int
    batch_size: int
    clients: int
    epochs: int = 1

    def model(self) -> nn.Module:
        """The network with its first weights."""
        side = IMAGE_SIZES[self.network]
        return build_model(
            self.network, num_classes=10, image_shape=(side, side, 3), fc_width=self.fc_width, seed=0
        )

    def batches(self) -> dict[int, list[tuple[Tensor, Tensor]]]:
        """Random samples of every client, in batches; the same on every side."""
        rng, side = torch.Generator().manual_seed(0), IMAGE_SIZES[self.network]
        found = {}
        for client in range(self.clients):
            x = torch.rand(self.samples, 3, side, side, generator=rng)
            y = torch.randint(0, 10, (self.samples,), generator=rng)
            found[client] = list(zip(x.split(self.batch_size), y.split(self.batch_size), strict=True))
        return found


# Some of the claims' clients and of the paper's five epochs, for the sake of time. A step costs the same in
# all of them; what a client costs beside its steps weighs more the fewer there are.
SETTINGS = {
    "a": Setting("cnn_28x28", 4096, 1008, 64, clients=2),
    "b": Setting("cnn_64x64", 4096, 21, 8, clients=3, epochs=2),
    "c": Setting("cnn_64x64", 4096, 288, 64, clients=2),
    "small": Setting("cnn_28x28", 16, 24, 8, clients=2),
}


def fedml(setting: str, **changes: int) -> Callable[[], None]:
    """FedML's single-process FedAvg: its trainer, copies and average; no reports and measurements."""
    from fedml.simulation.sp.fedavg.fedavg_api import FedAvgAPI  # takes seconds

    chosen = replace(SETTINGS[setting], **changes)
    batches = chosen.batches()
    args = SimpleNamespace(
        client_num_per_round=chosen.clients, epochs=chosen.epochs, client_optimizer="adam",
        learning_rate=1e-4, weight_decay=0.0, dataset="random", federated_optimizer="FedAvg",
        enable_wandb=False,
    )  # fmt: skip
    counts = dict.fromkeys(batches, chosen.samples)
    dataset = [sum(counts.values()), 0, None, None, counts, batches, batches, 10]
    simulator = FedAvgAPI(args, torch.device("cpu"), dataset, chosen.model())

    def work() -> None:
        # The loop of FedAvgAPI.train().
        start, updates = simulator.model_trainer.get_model_params(), []
        for client in simulator.client_list:
            update = client.train(copy.deepcopy(start))
            updates.append((client.get_sample_number(), copy.deepcopy(update)))
        simulator.model_trainer.set_model_params(simulator._aggregate(updates))

    return work


def ours(setting: str, **changes: int) -> Callable[[], None]:
    """Our trainer, aggregator and simulator, as a run uses them."""
    from fedml_spurious.fedml_adapter.simulator import SingleProcessSimulator  # imports FedML

    chosen = replace(SETTINGS[setting], **changes)
    batches = chosen.batches()
    counts = dict.fromkeys(batches, chosen.samples)
    dataset: list[Any] = [sum(counts.values()), 0, None, None, counts, batches, batches, 10]
    model, rounds = chosen.model(), count()

    def work() -> None:
        number = next(rounds)
        args = Namespace(
            random_seed=0, comm_round=number + 1, epochs=chosen.epochs, batch_size=chosen.batch_size,
            learning_rate=1e-4, weight_decay=0.0, client_num_in_total=chosen.clients,
            client_num_per_round=chosen.clients, frequency_of_the_test=10**6,
        )  # fmt: skip
        SingleProcessSimulator(args, torch.device("cpu"), dataset, model, start_round=number).run()

    return work


def bare(setting: str, **changes: int) -> Callable[[], None]:
    """Forward, backward and fused Adam in a loop, and a plain mean: no less can be written in torch."""
    chosen = replace(SETTINGS[setting], **changes)
    batches = chosen.batches()
    model = chosen.model()
    parameters = list(model.parameters())

    def work() -> None:
        start = [parameter.detach().clone() for parameter in parameters]
        mean = [torch.zeros_like(parameter) for parameter in parameters]
        for client in batches.values():
            with torch.no_grad():
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)
            optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)
            model.train()
            for _ in range(chosen.epochs):
                for x, y in client:
                    optimizer.zero_grad(set_to_none=True)
                    F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
                    optimizer.step()
            with torch.no_grad():
                for total, parameter in zip(mean, parameters, strict=True):
                    total.add_(parameter, alpha=1 / len(batches))
        with torch.no_grad():
            for parameter, value in zip(parameters, mean, strict=True):
                parameter.copy_(value)

    return work


def measure_claim(
    claim: str, repeats: int, setting: str | None = None, **changes: int
) -> dict[str, dict[str, Any]]:
    """Seconds of a round on every side, with the machine's limit, where the setting is changed like this."""
    setting = setting or claim
    chosen, options = replace(SETTINGS[setting], **changes), {"setting": setting, **changes}
    here = "claim_abc_rounds"
    sides = [
        Side("FedML", f"{here}:fedml", options, allocator=False),
        Side("FedML, our allocator settings", f"{here}:fedml", options),
        Side("ours", f"{here}:ours", options),
        Side("bare loop", f"{here}:bare", options),
    ]
    found = measure(sides, repeats)
    found["ours"]["of the bare loop"] = found["ours"]["s"] / found["bare loop"]["s"]
    torch.set_num_threads(1)
    limits = peaks() if setting != "small" else peaks(size=64, megabytes=1)
    bound = sum(step_bound(chosen.model(), x, y, limits) for x, y in chosen.batches()[0])
    seconds = bound * chosen.clients * chosen.epochs
    found["roofline"] = {"s": seconds, "times as fast": found["FedML"]["s"] / seconds, **limits}
    return found


@click.command()
@click.argument("claim", type=click.Choice(sorted(SETTINGS)))
@click.option("--repeats", default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), help="Local epochs; the paper has 5.")
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(claim: str, repeats: int, epochs: int | None, anyway: bool) -> None:
    """Measure a claim and print its table."""
    require_quiet(anyway)
    changes = {"epochs": epochs} if epochs else {}
    found = measure_claim(claim, repeats, **changes)
    show(f"({claim}) a round: {replace(SETTINGS[claim], **changes)}", found)


if __name__ == "__main__":
    main()
