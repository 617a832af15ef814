"""Client split files as FedML's list of eight, read when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.client_data import SampleCache

_CPU = torch.device("cpu")


class ClientSplit(Dataset[tuple[Tensor, Tensor]]):
    """One split of some clients, in file order; nothing is read before the first sample is asked for.

    Args:
        folder: client split files.
        clients: ids of the clients, one after the other.
        split: name of the split.
        cache: keeps samples for the next reading; the files are read every time where it is absent.
    """

    def __init__(
        self, folder: SplitFolder, clients: Sequence[str], split: str, cache: SampleCache | None = None
    ) -> None:
        self.folder, self.clients, self.split = folder, tuple(clients), split
        self.cache = SampleCache(0) if cache is None else cache
        self._count = sum(folder.count(client, split) for client in clients)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (3, H, W) in [0, 1] and class (); reads the whole split of the sample's client."""
        offset = range(self._count)[index]  # negative and wrong indices as for a list
        for client in self.clients:
            count = self.folder.count(client, self.split)
            if offset < count:
                x, y = self.read(client)
                return x[offset], y[offset]
            offset -= count
        raise IndexError(index)

    def read(self, client: str, device: torch.device = _CPU) -> tuple[Tensor, Tensor]:
        """All images (n, 3, H, W) and classes (n,) of one client."""
        samples = self.cache.load(self.folder, client, self.split, device).labelled()
        return samples.x, samples.y

    def read_all(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The same of all clients, one after the other."""
        images, labels = zip(*(self.read(client, device) for client in self.clients), strict=True)
        return torch.cat(images), torch.cat(labels)


class SplitLoader(DataLoader[Any]):
    """A loader that holds one client's samples at a time, and only while it is iterated.

    Samples come in file order: :class:`SpuriousTrainer` shuffles by itself, with addressed seeds.

    Args:
        dataset: the split.
        batch_size: samples per batch; batches do not cross clients.
        client_index: FedML's index of the client; None for several clients.

    Attributes:
        client_index: as given; present only where there is one.
    """

    def __init__(self, dataset: ClientSplit, batch_size: int, client_index: int | None = None) -> None:
        super().__init__(dataset, batch_size=batch_size)
        self.split = dataset
        self.size = batch_size
        if client_index is not None:
            self.client_index = client_index

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own iterator class
        """Yield images (B, 3, H, W) and classes (B,)."""
        for client in self.split.clients:
            if self.split.folder.count(client, self.split.split):
                x, y = self.split.read(client)
                yield from zip(torch.split(x, self.size), torch.split(y, self.size), strict=True)

    def __len__(self) -> int:
        """Number of batches."""
        counts = [self.split.folder.count(client, self.split.split) for client in self.split.clients]
        return sum(-(-count // self.size) for count in counts)


def fedml_dataset(
    folder: SplitFolder, client_ids: Sequence[str], *, batch_size: int, cache: SampleCache | None = None
) -> list[Any]:
    """FedML's list of eight for some clients of a folder.

    Args:
        folder: client split files.
        client_ids: the clients, in the order of FedML's indices 0..N-1.
        batch_size: samples per batch.
        cache: keeps samples between two readings; absent, the files are read every time.

    Returns:
        ``[train_num, test_num, train_global, test_global, local_num_dict, train_local_dict,
        test_local_dict, class_num]``; the test data are the biased test sets.

    Raises:
        InputError: a client does not exist.
    """
    unknown = [client for client in client_ids if client not in folder.meta.clients]
    if unknown:
        raise InputError(f"{folder.folder}: no client {unknown[0]!r}")
    train, test = (ClientSplit(folder, client_ids, split, cache) for split in ("train", "test"))

    def loaders(split: str) -> dict[int, SplitLoader]:
        return {
            index: SplitLoader(ClientSplit(folder, [client], split, cache), batch_size, index)
            for index, client in enumerate(client_ids)
        }

    return [
        len(train),
        len(test),
        SplitLoader(train, batch_size),
        SplitLoader(test, batch_size),
        {index: folder.count(client, "train") for index, client in enumerate(client_ids)},
        loaders("train"),
        loaders("test"),
        folder.num_classes,
    ]
