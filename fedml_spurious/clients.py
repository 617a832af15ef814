"""One client's samples as tensors, as the methods and the measurements take them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedml_spurious.errors import InputError
from fedml_spurious.personalization.base import Labelled
from fedml_spurious.splits import SplitFolder, to_tensors


@dataclass(frozen=True)
class TrainingData:
    """What training, tuning and selection may see of a client.

    Attributes:
        train: training samples.
        aligned: whether a training sample is bias-aligned, shape (N,), bool.
        val: validation samples.
    """

    train: Labelled
    aligned: Tensor
    val: Labelled


@dataclass(frozen=True)
class TestData:
    """What only measurements may see of a client.

    Attributes:
        biased: the biased test set.
        conflicting: the bias-conflicting test set; may be empty.
    """

    biased: Labelled
    conflicting: Labelled


def load_training_data(folder: SplitFolder, client: str, device: torch.device) -> TrainingData:
    """Read the training and validation split of a client."""
    train = folder.load(client, "train")
    aligned = torch.from_numpy(train.aligned != 0).to(device)
    return TrainingData(
        Labelled(*to_tensors(train.image, train.label, device)), aligned, _load(folder, client, "val", device)
    )


def load_test_data(folder: SplitFolder, client: str, device: torch.device) -> TestData:
    """Read both test sets of a client; raises ``SealedError`` while the folder is sealed."""
    return TestData(_load(folder, client, "test", device), _load(folder, client, "test_bc", device))


def _load(folder: SplitFolder, client: str, split: str, device: torch.device) -> Labelled:
    samples = folder.load(client, split)
    return Labelled(*to_tensors(samples.image, samples.label, device))


def choose_clients(folder: SplitFolder, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """Which clients are personalized: those wanted, else those that the split files name, else all.

    Raises:
        InputError: a client does not exist, or has no sample in a split that personalization needs.
    """
    clients = wanted or folder.meta.personalized_clients or folder.client_ids
    unknown = [client for client in clients if client not in folder.client_ids]
    if unknown:
        raise InputError(
            f"personalization_args.clients: no client {unknown[0]!r} in {folder.meta.name}; its clients are "
            f"{folder.client_ids[0]} to {folder.client_ids[-1]}"
        )
    for client in clients:
        require_samples(folder, client, ("train", "val", "test"))
    return tuple(sorted(clients))


def require_samples(folder: SplitFolder, client: str, splits: tuple[str, ...]) -> None:
    """Make sure that a client has samples in these splits.

    Raises:
        InputError: a split is empty.
    """
    for split in splits:
        if not folder.count(client, split):
            # Every client takes part in the federated step.
            without = "" if split == "train" else ", or leave it out of personalization_args.clients"
            raise InputError(
                f"{folder.meta.name}: client {client} has no sample in the {split} split, which its training "
                f"or measurement needs; partition into fewer clients or with other ratios{without}"
            )
