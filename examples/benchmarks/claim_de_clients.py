"""Claims (d) and (e): personalizing clients with ``ours``, and measuring a model on all clients.

python examples/benchmarks/claim_de_clients.py d --anyway
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import click
import torch
import torch.nn.functional as F
from harness import Side, measure, require_quiet, show
from torch import Tensor, nn

from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import IMAGE_SIZES, build_model
from fedml_spurious.learning.training import LocalTraining
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import AdversarialReference, ClientView

ATTACK = Attack("linf", 0.031)
LAM_ADV, LAM_L2 = 1.0, 0.1


@dataclass(frozen=True)
class Setting:
    """Clients of a claim.

    Attributes:
        network: name of the network.
        fc_width: width of its hidden layer.
        samples: training, validation and test samples of a client.
        batch_size: samples per batch.
        clients: how many.
        epochs: of the fine-tuning.
    """

    network: str
    fc_width: int
    samples: tuple[int, int, int]
    batch_size: int
    clients: int
    epochs: int = 5

    def model(self) -> nn.Module:
        """The global model."""
        side = IMAGE_SIZES[self.network]
        return build_model(
            self.network, num_classes=10, image_shape=(side, side, 3), fc_width=self.fc_width, seed=0
        )

    def data(self) -> list[tuple[Labelled, Labelled, Labelled]]:
        """Random samples of every client, the same on every side."""
        rng, side = torch.Generator().manual_seed(0), IMAGE_SIZES[self.network]

        def draw(count: int) -> Labelled:
            x = torch.rand(count, 3, side, side, generator=rng)
            return Labelled(x, torch.randint(0, 10, (count,), generator=rng))

        return [
            (draw(self.samples[0]), draw(self.samples[1]), draw(self.samples[2])) for _ in range(self.clients)
        ]


SETTINGS = {
    "d": Setting("cnn_64x64", 4096, (21, 2, 6), 8, clients=1, epochs=5),
    "e": Setting("cnn_28x28", 4096, (1, 1, 280), 64, clients=10),
    "small": Setting("cnn_28x28", 16, (24, 4, 4), 8, clients=2, epochs=1),
}


def personalize_ours(setting: str) -> Callable[[], None]:
    """Our method in our loop: attack, fine-tuning, and the selection of an epoch."""
    chosen = SETTINGS[setting]
    data, model = chosen.data(), chosen.model()
    kind = METHODS["ours"]
    method = kind(kind.settings_type(lam_adv=LAM_ADV, lam_l2=LAM_L2))
    training = LocalTraining(chosen.epochs, chosen.batch_size, batchnorm_mode="frozen")

    def work() -> None:
        for client, (train, val, _) in enumerate(data):
            adversarial = AdversarialReference(model, train, val, ATTACK)
            aligned = torch.ones(len(train), dtype=torch.bool)
            view = ClientView(client, 0, 0, train, aligned, val, adversarial, model, training, lambda: model)
            method.personalize(view)

    return work


def personalize_fedml(setting: str, **changes: int) -> Callable[[], None]:
    """The same attack, loss and selection in the loop of FedML's trainer, with its optimiser and its test."""
    from fedml_side import fine_tune  # imports FedML, which takes seconds

    chosen = replace(SETTINGS[setting], **changes)
    data, model = chosen.data(), chosen.model()
    w_g = [parameter.detach() for parameter in model.parameters()]

    def work() -> None:
        for train, val, _ in data:
            x_adv = ATTACK(model, train.x, train.y)
            with torch.no_grad():
                z_g = model.eval()(x_adv).softmax(dim=1)

            def loss(model: nn.Module, rows: Tensor, of: Any = (train, x_adv, z_g)) -> Tensor:
                train, x_adv, z_g = of
                logits, logits_adv = model(torch.cat([train.x[rows], x_adv[rows]])).chunk(2)
                loss = F.cross_entropy(logits, train.y[rows])
                loss = loss + LAM_ADV * adversarial_disagreement(logits_adv, z_g[rows])
                return loss + LAM_L2 * l2_distance(model.parameters(), w_g)

            sets = val, Labelled(ATTACK(model, val.x, val.y), val.y)
            rows = torch.arange(len(train))
            fine_tune(model, loss, rows, epochs=chosen.epochs, batch_size=chosen.batch_size, selected_on=sets)

    return work


def evaluate_ours(setting: str) -> Callable[[], None]:
    """Our measurement of every client's test set."""
    chosen = SETTINGS[setting]
    data, model = chosen.data(), chosen.model()

    def work() -> None:
        for _, _, test in data:
            evaluate(model, test.x, test.y)

    return work


def evaluate_fedml(setting: str) -> Callable[[], None]:
    """FedML's: its trainer's test, in batches of its loaders."""
    from fedml.ml.trainer.my_model_trainer_classification import ModelTrainerCLS  # takes seconds

    chosen = SETTINGS[setting]
    args = SimpleNamespace(dataset="random")
    trainer = ModelTrainerCLS(chosen.model(), args)
    batches: list[list[tuple[Tensor, Tensor]]] = [
        list(zip(test.x.split(chosen.batch_size), test.y.split(chosen.batch_size), strict=True))
        for _, _, test in chosen.data()
    ]

    def work() -> None:
        for client in batches:
            trainer.test(client, torch.device("cpu"), args)

    return work


def measure_claim(claim: str, repeats: int, setting: str | None = None) -> dict[str, dict[str, Any]]:
    """Seconds of the work on both sides."""
    what = {"d": "personalize", "e": "evaluate"}[claim]
    here, options = "claim_de_clients", {"setting": setting or claim}
    sides = [
        Side("FedML", f"{here}:{what}_fedml", options, allocator=False),
        Side("FedML, our allocator settings", f"{here}:{what}_fedml", options),
        Side("ours", f"{here}:{what}_ours", options),
    ]
    return measure(sides, repeats)


@click.command()
@click.argument("claim", type=click.Choice(["d", "e"]))
@click.option("--repeats", default=5, show_default=True)
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(claim: str, repeats: int, anyway: bool) -> None:
    """Measure a claim and print its table."""
    require_quiet(anyway)
    show(f"({claim}) {SETTINGS[claim]}", measure_claim(claim, repeats))


if __name__ == "__main__":
    main()
