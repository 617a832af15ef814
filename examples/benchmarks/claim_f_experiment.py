"""Claim (f): a small experiment, the global model and six methods, beside FedML's pieces one after the other.

python examples/benchmarks/claim_f_experiment.py --anyway
"""

from __future__ import annotations

import atexit
import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import torch
import torch.nn.functional as F
import yaml
from harness import Side, measure, require_quiet, show
from torch import Tensor, nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import Labelled, load_test_data, load_training_data
from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance
from fedml_spurious.learning.models import build_model

CPU = torch.device("cpu")
METHODS = ("ft", "ditto", "uw", "jtt", "l2", "ours")
ATTACK = Attack("linf", 0.031)
SETTINGS: dict[str, dict[str, int]] = {
    "f": {
        "clients": 10, "digits": 1797, "rounds": 12, "per_round": 5, "epochs": 2, "batch_size": 16,
        "fc_width": 128, "tuning": 5,
    },
    "small": {
        "clients": 2, "digits": 80, "rounds": 1, "per_round": 1, "epochs": 1, "batch_size": 16,
        "fc_width": 8, "tuning": 1,
    },
}  # fmt: skip


def _splits(chosen: dict[str, int]) -> Path:
    """Coloured digits, with enough bias-conflicting training samples for all methods."""
    from data_partition.colored_mnist import Options, build  # needs scikit-learn's digits

    folder = Path(tempfile.mkdtemp(prefix="claim_f_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # the side is asked for its work until then
    options = Options(
        source="digits",
        clients=chosen["clients"],
        classes_per_client=5,
        bias_conflicting_fraction=0.1,
        limit=chosen["digits"],
    )
    build(options, raw=None, out=folder)
    return folder


def ours(setting: str) -> Callable[[], None]:
    """A run with everything that belongs to it: files, checkpoints, the attack's budget, the table."""
    import fedml_spurious as fs  # everything of it

    chosen = SETTINGS[setting]
    config = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(_splits(chosen))},
        "model_args": {"model": "cnn_28x28", "fc_width": chosen["fc_width"]},
        "train_args": {
            "client_num_per_round": chosen["per_round"], "comm_round": chosen["rounds"],
            "epochs": chosen["epochs"], "batch_size": chosen["batch_size"],
        },
        "validation_args": {"frequency_of_the_test": chosen["rounds"]},
        "attack_args": {"budget": "fixed"},
        "device_args": {"threads": 1},
        "personalization_args": {"epochs": chosen["tuning"]},
        "experiment_args": {"methods": ["global", *METHODS]},
    }  # fmt: skip

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.yaml"
            path.write_text(yaml.safe_dump(config))
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                fs.run(path, Path(folder) / "run")

    return work


def fedml_global(setting: str) -> Callable[[], None]:
    """The rounds in FedML's single-process FedAvg, and its measurement of all clients at the end."""
    from fedml.simulation.sp.fedavg.fedavg_api import FedAvgAPI  # takes seconds

    chosen = SETTINGS[setting]
    data = SplitFolder(_splits(chosen))
    loaders = []
    for client in data.client_ids:
        train = load_training_data(data, client, CPU).train
        test = load_test_data(data, client, CPU).biased
        size = chosen["batch_size"]
        loaders.append(
            [list(zip(one.x.split(size), one.y.split(size), strict=True)) for one in (train, test)]
        )
    trains, tests = (dict(enumerate(side)) for side in zip(*loaders, strict=True))
    counts = {client: sum(len(y) for _, y in batches) for client, batches in trains.items()}
    args = SimpleNamespace(
        client_num_in_total=chosen["clients"], client_num_per_round=chosen["per_round"],
        comm_round=chosen["rounds"], epochs=chosen["epochs"], client_optimizer="adam", learning_rate=1e-4,
        weight_decay=0.0, dataset="random", federated_optimizer="FedAvg", enable_wandb=False,
        frequency_of_the_test=10**6, using_mlops=False,
    )  # fmt: skip
    dataset = [sum(counts.values()), 0, None, None, counts, trains, tests, 10]

    def work() -> None:
        simulator = FedAvgAPI(args, CPU, dataset, _model(chosen))
        start = simulator.model_trainer.get_model_params()
        for number in range(args.comm_round):
            # The loop of FedAvgAPI.train() without its reports to FedML's platform.
            indices, updates = simulator._client_sampling(number, chosen["clients"], chosen["per_round"]), []
            for index, client in zip(indices, simulator.client_list, strict=True):
                client.update_local_dataset(index, trains[index], tests[index], counts[index])
                update = client.train({name: value.clone() for name, value in start.items()})
                updates.append((client.get_sample_number(), {n: v.clone() for n, v in update.items()}))
            start = simulator._aggregate(updates)
            simulator.model_trainer.set_model_params(start)
        for batches in tests.values():
            simulator.model_trainer.test(batches, CPU, args)

    return work


def fedml_methods(setting: str) -> Callable[[], None]:
    """Six methods in the loop of FedML's trainer, client by client, each with selection and measurement."""
    chosen = SETTINGS[setting]
    data, model = SplitFolder(_splits(chosen)), _model(chosen)

    def work() -> None:
        for method in METHODS:
            for client in data.client_ids:
                _personalize(chosen, data, model, client, method)

    return work


def _personalize(
    chosen: dict[str, int], data: SplitFolder, model: nn.Module, client: str, method: str
) -> None:
    from fedml_side import fine_tune  # imports FedML, which takes seconds

    found, tests = load_training_data(data, client, CPU), load_test_data(data, client, CPU)
    train, rows = found.train, torch.arange(len(found.train))
    loss, sets, size = _loss(model, train, method), [found.val], chosen["batch_size"]
    if method == "uw":
        share = found.aligned.double().mean()
        weight = torch.where(found.aligned, 1 - share, share) + 1e-9
        rows = torch.multinomial(weight, len(rows), replacement=True)
    if method == "jtt":
        first = fine_tune(model, loss, rows, epochs=1, batch_size=size, selected_on=[train])
        with torch.no_grad():
            wrong = first.model.eval()(train.x).argmax(dim=1) != train.y
        rows = rows.repeat_interleave(torch.where(wrong, 50, 1))
    if method == "ours":
        sets.append(Labelled(ATTACK(model, found.val.x, found.val.y), found.val.y))
    trainer = fine_tune(model, loss, rows, epochs=chosen["tuning"], batch_size=size, selected_on=sets)
    x_adv = ATTACK(model, tests.biased.x, tests.biased.y)
    for samples in (tests.biased, tests.conflicting, Labelled(x_adv, tests.biased.y)):
        trainer.correct(samples)


def _loss(global_model: nn.Module, train: Labelled, method: str) -> Callable[[nn.Module, Tensor], Tensor]:
    w_g = [parameter.detach() for parameter in global_model.parameters()]
    if method == "ours":
        x_adv = ATTACK(global_model, train.x, train.y)
        with torch.no_grad():
            z_g = global_model.eval()(x_adv).softmax(dim=1)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        x, y = train.x[rows], train.y[rows]
        if method == "ours":
            logits, logits_adv = model(torch.cat([x, x_adv[rows]])).chunk(2)
            value = F.cross_entropy(logits, y) + adversarial_disagreement(logits_adv, z_g[rows])
        else:
            value = F.cross_entropy(model(x), y)
        if method in ("ditto", "l2", "ours"):
            value = value + 0.1 * l2_distance(model.parameters(), w_g)
        return value

    return loss


def _model(chosen: dict[str, int]) -> nn.Module:
    return build_model(
        "cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=chosen["fc_width"], seed=0
    )


def measure_claim(repeats: int, setting: str = "f") -> dict[str, dict[str, Any]]:
    """Seconds of the parts, and of FedML's parts together."""
    here, options = "claim_f_experiment", {"setting": setting}
    sides = [
        Side("ours", f"{here}:ours", options),
        Side("FedML, rounds", f"{here}:fedml_global", options, allocator=False),
        Side("FedML, six methods", f"{here}:fedml_methods", options, allocator=False),
    ]
    names = ("s", "from", "to")
    found = {side: {n: row[n] for n in names} for side, row in measure(sides, repeats).items()}
    run, rounds, methods = (row["s"] for row in found.values())
    for name, s in (
        ("FedML, the global model once", rounds + methods),
        ("FedML, the global model once per method", len(METHODS) * rounds + methods),
    ):
        found[name] = {"s": s, "ours is times as fast": s / run}
    return found


@click.command()
@click.option("--repeats", default=3, show_default=True)
@click.option("--anyway", is_flag=True, help="Measure on a busy machine too.")
def main(repeats: int, anyway: bool) -> None:
    """Measure and print."""
    require_quiet(anyway)
    show("(f) a small experiment", measure_claim(repeats))


if __name__ == "__main__":
    main()
