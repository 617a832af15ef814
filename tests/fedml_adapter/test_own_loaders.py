"""What a program's own loaders may be: shuffled ones keep their samples, in the order of the data set."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from fedml_spurious.common.errors import InputError, SealedError
from fedml_spurious.fedml_adapter import LoaderData
from fedml_spurious.fedml_adapter.trainer import collect

COUNT = 10
CPU = torch.device("cpu")
SAMPLES = TensorDataset(
    torch.linspace(0, 1, COUNT).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4), torch.arange(COUNT)
)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(SAMPLES)


def data_of(loader: Any) -> LoaderData:
    place = {0: loader}
    dataset = [COUNT, COUNT, None, None, {0: COUNT}, place, place, COUNT]
    return LoaderData(dataset, validation=place, conflicting={})


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"shuffle": True}, range(COUNT)),
        ({"drop_last": True}, range(COUNT)),
        ({"shuffle": True, "drop_last": True}, range(COUNT)),
        ({"sampler": SubsetRandomSampler([7, 2, 5, 3])}, [2, 3, 5, 7]),
    ],
)
def test_rows_are_the_samples_in_the_order_of_the_data_set(options: Any, labels: Any) -> None:
    """In both steps: the personalization reads ``LoaderData``, FedAvg the loader."""
    loader: DataLoader[Any] = DataLoader(SAMPLES, batch_size=4, **options)
    data = data_of(loader)
    for found in (
        data.load("0000", "train").label,
        data.load("0000", "train").label,
        collect(loader, CPU)[1],
    ):
        assert found.tolist() == list(labels)
    assert data.count("0000", "train") == len(labels)
    assert torch.equal(data.load("0000", "train").image, SAMPLES.tensors[0][list(labels)])


def test_a_loader_that_cannot_be_put_in_order_is_read_once() -> None:
    """Such a one as gives other samples at every reading."""

    class Drawn:
        def __iter__(self) -> Any:
            order = torch.randperm(COUNT)
            yield SAMPLES.tensors[0][order], order

    data = data_of(Drawn())
    first = data.load("0000", "train")
    assert torch.equal(first.label, data.load("0000", "train").label)


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (
            SAMPLES,
            {"batch_size": 4, "sampler": WeightedRandomSampler([1.0] * COUNT, COUNT)},
            "WeightedRandom",
        ),
        (SAMPLES, {"batch_sampler": [[0, 1], [5]]}, "the batch sampler list"),
        (SAMPLES, {"sampler": RandomSampler(SAMPLES, replacement=True)}, "the sampler RandomSampler"),
        (SAMPLES, {"sampler": RandomSampler(SAMPLES, num_samples=COUNT - 1)}, "the sampler RandomSampler"),
        (Stream(), {"batch_size": 4, "drop_last": True}, "drop_last of an iterable data set"),
    ],
)
def test_loaders_whose_samples_are_drawn_are_refused(dataset: Any, options: Any, message: str) -> None:
    loader: DataLoader[Any] = DataLoader(dataset, **options)
    with pytest.raises(InputError, match=rf"client 0000: .*{message}.*give DataLoader\(.*Subset"):
        data_of(loader)
    with pytest.raises(InputError, match=message):
        collect(loader, CPU)


def test_other_loaders_are_taken_as_they_come() -> None:
    batches = BatchSampler(SequentialSampler(SAMPLES), 3, drop_last=True)
    for loader in (
        DataLoader(Stream(), batch_size=4),
        DataLoader(SAMPLES, batch_sampler=batches),
        list(DataLoader(SAMPLES, batch_size=4)),
    ):
        assert data_of(loader).load("0000", "train").label.tolist() == list(range(COUNT))


def test_what_a_loader_makes_of_its_samples_is_kept() -> None:
    """A program's own ``collate_fn`` may turn the images or code the classes anew."""

    def collate(samples: Any) -> Any:
        images, labels = zip(*samples, strict=True)
        return 1 - torch.stack(images), torch.stack(labels) // 2

    loader: DataLoader[Any] = DataLoader(SAMPLES, batch_size=4, shuffle=True, collate_fn=collate)
    found = data_of(loader).load("0000", "train")
    assert torch.equal(found.image, 1 - SAMPLES.tensors[0])
    assert found.label.tolist() == [label // 2 for label in range(COUNT)]
    assert torch.equal(collect(loader, CPU)[0], found.image)


def test_seals_are_nested_and_a_measurement_within_leaves_them_as_they_were() -> None:
    data = data_of(DataLoader(SAMPLES, batch_size=4))

    def require_sealed() -> None:
        data.load("0000", "test")
        with pytest.raises(SealedError, match="client 0000: the bias-conflicting test set must not be read"):
            data.load("0000", "test_bc")

    with data.sealed():
        with data.sealed():
            require_sealed()
        require_sealed()
        with data.unsealed():
            data.load("0000", "test_bc")
            with data.sealed():
                require_sealed()
            data.load("0000", "test_bc")
        require_sealed()
    data.load("0000", "test_bc")
