"""The simulator against FedAvg written out."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from fedml.core import ClientTrainer, ServerAggregator

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.fedml_adapter import SpuriousAggregator, SpuriousTrainer
from fedml_spurious.fedml_adapter.arguments import read_arguments
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.simulator import SingleProcessSimulator
from fedml_spurious.learning.fedavg import Round, sample_clients
from fedml_spurious.learning.models import build_model

CPU = torch.device("cpu")


def arguments(**changes: Any) -> Namespace:
    values: dict[str, Any] = {
        "random_seed": 5,
        "comm_round": 2,
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": "1e-3",  # as PyYAML reads it
        "client_num_in_total": 4,
        "client_num_per_round": 2,
        "round_idx": 0,
        "frequency_of_the_test": 1,
    }
    return Namespace(**(values | changes))


def network() -> torch.nn.Module:
    return build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)


def simulate(folder: SplitFolder, **options: Any) -> dict[str, torch.Tensor]:
    model = network()
    dataset = fedml_dataset(folder, folder.client_ids, batch_size=16)
    SingleProcessSimulator(arguments(), CPU, dataset, model, **options).run()
    return model.state_dict()


def in_double(splits: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and labels of all clients, read with nothing but h5py."""
    with h5py.File(splits / "colored_mnist_train.h5") as file:
        examples = [file[f"examples/{name}"] for name in sorted(file["examples"])]
        return [
            (
                torch.from_numpy(group["image"][()].transpose(0, 3, 1, 2) / 255),
                torch.from_numpy(group["label"][()]),
            )
            for group in examples
        ]


def reference(
    clients: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[dict[str, torch.Tensor], list[list[float]]]:
    """FedAvg as McMahan et al. 2017 print it (Algorithm 1), without our classes.

    Returns:
        The weights, and by round the mean loss of each client over its batches.
    """
    weights, losses = network().double().state_dict(), list[list[float]]()
    for round_index in range(2):
        updates = []
        losses.append([])
        for client in sample_clients(5, round_index, total=4, per_round=2):
            steps = []
            x, y = clients[client]
            model = network().double()
            model.load_state_dict(weights)
            model.train()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.999))
            for epoch in range(2):
                rng = generator(5, Purpose.LOCAL_BATCHES, round_index, client, epoch)
                order = rng.permutation(len(y))
                cuts = list(range(16, len(y), 16))
                if len(y) % 16 == 1:
                    cuts.pop()
                for rows in np.split(order, cuts):
                    optimizer.zero_grad()
                    loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
                    loss.backward()
                    optimizer.step()
                    steps.append(loss.item())
            losses[-1].append(sum(steps) / len(steps))
            updates.append((len(y), model.state_dict()))
        total = sum(count for count, _ in updates)
        for name, value in weights.items():
            if value.is_floating_point():
                weights[name] = sum(state[name] * count for count, state in updates) / total
    return weights, losses


def test_two_rounds_equal_the_algorithm_written_out(splits: Path) -> None:
    """In double precision: Adam divides by the size of a gradient, also where that is rounding alone."""
    clients = in_double(splits)
    loaders = {
        index: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32)
        for index, (x, y) in enumerate(clients)
    }
    counts = {index: len(y) for index, (_, y) in enumerate(clients)}
    model = network().double()
    dataset = [sum(counts.values()), 0, None, None, counts, loaders, dict.fromkeys(counts), 10]
    rounds: list[Round] = []
    SingleProcessSimulator(arguments(), CPU, dataset, model, after_round=rounds.append).run()
    expected, losses = reference(clients)
    assert [list(finished.losses) for finished in rounds] == [pytest.approx(own) for own in losses]
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-7, atol=1e-9)
    assert model.state_dict()["features.1.num_batches_tracked"].dtype == torch.int64


def test_the_trainer_and_aggregator_that_are_given_are_used(federation: SplitFolder) -> None:
    """FedML 0.9.6's own single-process simulator takes both and uses neither."""
    calls: list[str] = []

    class Trainer(SpuriousTrainer):
        def train(self, train_data: Any, device: Any, args: Any) -> None:
            calls.append(f"train {self.id}")
            super().train(train_data, device, args)

    class Aggregator(SpuriousAggregator):
        def aggregate(self, updates: Any) -> Any:
            calls.append(f"aggregate {len(updates)}")
            return super().aggregate(updates)

    model = network()
    dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)
    trainer, aggregator = Trainer(model, arguments()), Aggregator(model, arguments())
    assert isinstance(trainer, ClientTrainer)
    assert isinstance(aggregator, ServerAggregator)
    SingleProcessSimulator(arguments(), CPU, dataset, model, trainer, aggregator).run()
    expected = []
    for index in range(2):
        expected += [f"train {client}" for client in sample_clients(5, index, total=4, per_round=2)]
        expected.append("aggregate 2")
    assert calls == expected


class NumberTrainer(ClientTrainer):
    """Its weights are one number, to which client k adds k + 1."""

    def get_model_params(self) -> int:
        return self.number

    def set_model_params(self, number: int) -> None:
        self.number = number

    def on_before_local_training(self, train_data: Any, device: Any, args: Any) -> None:
        self.args.calls.append("before training")

    def train(self, train_data: Any, device: Any, args: Any) -> None:
        self.args.calls.append(f"train {self.id} in round {args.round_idx}")
        self.number += self.id + 1

    def on_after_local_training(self, train_data: Any, device: Any, args: Any) -> None:
        self.args.calls.append("after training")

    def test(self, test_data: Any, device: Any, args: Any) -> None:
        raise NotImplementedError


class NumberAggregator(ServerAggregator):
    number = 0

    def get_model_params(self) -> int:
        return self.number

    def set_model_params(self, number: int) -> None:
        self.args.calls.append(f"set {number}")
        self.number = number

    def on_before_aggregation(self, updates: Any) -> Any:
        self.args.calls.append(f"before aggregation of {[count for count, _ in updates]}")
        return updates[1:], [1]  # leaves the first client out, as a defence would

    def aggregate(self, updates: Any) -> int:
        return sum(number for _, number in updates)

    def on_after_aggregation(self, number: int) -> int:
        return 10 * number

    def test(self, test_data: Any, device: Any, args: Any) -> None:
        raise NotImplementedError


def test_any_trainer_and_aggregator_are_called_with_all_their_hooks(federation: SplitFolder) -> None:
    """Also with weights that are no state dictionary, and a trainer that keeps no loss."""
    calls: list[str] = []

    model, args = network(), arguments(calls=calls)
    dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)
    trainer, aggregator = NumberTrainer(model, args), NumberAggregator(model, args)
    rounds: list[Round] = []
    SingleProcessSimulator(args, CPU, dataset, model, trainer, aggregator, after_round=rounds.append).run()
    expected, number = [], 0
    for index in range(2):
        first, second = sample_clients(5, index, total=4, per_round=2)
        for client in (first, second):
            expected += ["before training", f"train {client} in round {index}", "after training"]
        counts = [federation.count(federation.client_ids[client], "train") for client in (first, second)]
        number = 10 * (number + second + 1)
        expected += [f"before aggregation of {counts}", f"set {number}"]
    assert calls == expected
    assert [finished.losses for finished in rounds] == [(None, None)] * 2


def test_a_simulation_in_two_parts_equals_one(federation: SplitFolder) -> None:
    whole = simulate(federation)
    rounds: list[Round] = []
    model = network()
    dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)
    SingleProcessSimulator(arguments(comm_round=1), CPU, dataset, model, after_round=rounds.append).run()
    SingleProcessSimulator(arguments(), CPU, dataset, model, start_round=1, after_round=rounds.append).run()
    assert [finished.index for finished in rounds] == [0, 1]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in whole.items())


def test_training_leaves_the_global_generators_alone(federation: SplitFolder) -> None:
    before = torch.get_rng_state()
    simulate(federation)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_are_handed_out_do_not_follow_the_model(federation: SplitFolder) -> None:
    trainer = SpuriousTrainer(network(), arguments())
    handed_out = trainer.get_model_params()
    loader = fedml_dataset(federation, federation.client_ids, batch_size=16)[5][0]
    before = {name: value.clone() for name, value in handed_out.items()}
    trainer.train(loader, CPU, arguments())
    assert all(torch.equal(value, before[name]) for name, value in handed_out.items())


def test_a_plain_loader_without_a_client_index_works() -> None:
    """Data of a FedML user who does not use our split files; the id that FedML sets names the client."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(20, 3, 28, 28, generator=generator), torch.arange(20) % 10
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=7)
    losses = []
    for client in (0, 0, 1):
        trainer = SpuriousTrainer(network(), arguments())
        trainer.set_id(client)
        trainer.train(loader, CPU, arguments())
        losses.append(trainer.last_loss)
    assert losses[0] == losses[1] != losses[2]
    counts = trainer.test(loader, CPU, arguments())
    assert counts["test_total"] == 20
    accuracy, loss, *_ = SpuriousAggregator(trainer.model, arguments()).test(loader, CPU, arguments())
    assert accuracy == counts["test_correct"] / 20
    assert loss == pytest.approx(counts["test_loss"] / 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enable_defense": True}, "enable_defense is set"),
        ({"learning_rate": "fast"}, "FedML args: .*\\n.*learning_rate: .*number"),
        ({"comm_round": 0}, "FedML args: .*\\n.*comm_round: expected at least 1"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_arguments(arguments(**changes))


def test_the_rounds_after_fedavg_are_of_all_clients_and_are_gone_on_from(federation: SplitFolder) -> None:
    """A trainer with one round of FedAvg and two of its own, of which the first was done before."""
    calls: list[str] = []
    for start, indices in ((0, (0, 1, 2)), (1, (1, 2)), (2, (2,))):
        model, args = network(), arguments(comm_round=3, calls=calls)
        trainer, aggregator = NumberTrainer(model, args), NumberAggregator(model, args)
        trainer.federated_rounds = 1
        dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)
        calls.clear()
        SingleProcessSimulator(args, CPU, dataset, model, trainer, aggregator, start_round=start).run()
        expected = [
            f"train {client} in round {index}"
            for index in indices
            for client in (range(4) if index else sample_clients(5, 0, total=4, per_round=2))
        ]
        assert [call for call in calls if call.startswith("train")] == expected


def test_the_global_model_is_measured_on_all_clients_together_every_so_many_rounds(
    federation: SplitFolder, splits: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FedML calls ``test_all`` after every round; the images are read with nothing but h5py."""
    model, args = network(), arguments(comm_round=6, frequency_of_the_test=2)
    aggregator = SpuriousAggregator(model, args)
    _, _, _, _, _, train, test, _ = fedml_dataset(federation, federation.client_ids, batch_size=16)
    caplog.set_level("INFO")
    for args.round_idx in range(6):
        assert aggregator.test_all(train, test, CPU, args)
    right, count = 0, 0
    model.eval()
    with h5py.File(splits / "colored_mnist_test.h5") as file, torch.no_grad():
        for group in file["examples"].values():
            x = torch.from_numpy(group["image"][()]).permute(0, 3, 1, 2) / 255
            right += int((model(x).argmax(dim=1).numpy() == group["label"][()]).sum())
            count += len(x)
    said = [record.getMessage() for record in caplog.records if "over all clients" in record.getMessage()]
    assert said == [f"round {index}: Acc_B {right / count} over all clients" for index in (0, 2, 4, 5)]
