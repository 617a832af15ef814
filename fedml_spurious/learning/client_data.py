"""One client's samples as tensors, as the methods and the measurements take them."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_partition.split_files.folder import SplitFolder


class ClientSource(Protocol):
    """Where samples of clients come from: split files (``SplitFolder``), or loaders of a FedML program."""

    @property
    def name(self) -> str:
        """Data set."""

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Ids in FedML's order."""

    @property
    def num_classes(self) -> int:
        """Classes over the whole federation."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""

    @property
    def fingerprint(self) -> str:
        """Digest of all samples; empty where nothing tells."""

    def index(self, client_id: str) -> int:
        """Place of a client among ``client_ids``."""

    def count(self, client_id: str, split: str) -> int:
        """Number of samples of a client in a split."""

    def load(self, client_id: str, split: str) -> Any:
        """Samples of a client in a split; of loaders :class:`StoredSamples`."""

    def sealed(self) -> AbstractContextManager[None]:
        """Refuse to read the bias-conflicting test set inside the block."""

    def unsealed(self) -> AbstractContextManager[None]:
        """Allow a measurement to read every split inside the block."""


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


@dataclass(frozen=True)
class StoredSamples:
    """Samples of one split of a client as they are kept on a device.

    Attributes:
        image: uint8 in 0..255, shape (n, H, W, 3); or as the networks take them, which loaders give.
        label: classes, shape (n,), int64.
        aligned: whether a sample is bias-aligned, shape (n,), bool.
    """

    image: Tensor
    label: Tensor
    aligned: Tensor

    @property
    def nbytes(self) -> int:
        """What they take, in bytes."""
        return self.image.nbytes + self.label.nbytes + self.aligned.nbytes

    def labelled(self) -> Labelled:
        """The samples as the networks take them."""
        as_given = self.image.is_floating_point()
        return Labelled(self.image if as_given else images_of(self.image), self.label)


class SampleCache:
    """Samples of clients on the device where they are used, those that were used last, up to a limit.

    The seal holds here too: a sealed split is refused whether it is kept or not.

    Args:
        megabytes: limit, in 10^6 bytes; 0 keeps nothing.
    """

    def __init__(self, megabytes: float) -> None:
        self._limit = int(megabytes * 1e6)
        self._kept: OrderedDict[tuple[SplitFolder, str, str, torch.device], StoredSamples] = OrderedDict()
        self._bytes = 0

    def load(self, folder: SplitFolder, client: str, split: str, device: torch.device) -> StoredSamples:
        """The samples of a client; not to be changed.

        Raises:
            InputError: there is no such client or split, or the file cannot be read.
            SealedError: the split is sealed.
        """
        folder.require_readable(client, split)
        key = (folder, client, split, device)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        samples = folder.load(client, split)
        found = StoredSamples(
            torch.from_numpy(samples.image).to(device),
            torch.from_numpy(np.asarray(samples.label, dtype=np.int64)).to(device),
            torch.from_numpy(samples.aligned != 0).to(device),
        )
        if found.nbytes <= self._limit:
            self._kept[key] = found
            self._bytes += found.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found


def load_training_data(
    source: ClientSource, client: str, device: torch.device, cache: SampleCache | None = None
) -> TrainingData:
    """Read the training and validation split of a client, from the cache where there is one."""
    train, val = (load_split(source, client, split, device, cache) for split in ("train", "val"))
    return TrainingData(train.labelled(), train.aligned, val.labelled())


def load_test_data(
    source: ClientSource, client: str, device: torch.device, cache: SampleCache | None = None
) -> TestData:
    """Read both test sets of a client; raises ``SealedError`` while the source is sealed."""
    biased, conflicting = (load_split(source, client, split, device, cache) for split in ("test", "test_bc"))
    return TestData(biased.labelled(), conflicting.labelled())


def load_split(
    source: ClientSource, client: str, split: str, device: torch.device, cache: SampleCache | None = None
) -> StoredSamples:
    """Read one split of a client, from the cache where there is one.

    Raises:
        SealedError: the split is sealed.
    """
    if isinstance(source, SplitFolder):
        return (SampleCache(0) if cache is None else cache).load(source, client, split, device)
    found: StoredSamples = source.load(client, split)
    return StoredSamples(found.image.to(device), found.label.to(device), found.aligned.to(device))


@dataclass(frozen=True)
class Labelled:
    """Images and labels.

    Attributes:
        x: images, shape (N, 3, H, W), values in [0, 1].
        y: classes, shape (N,).
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


def to_tensors(
    image: npt.NDArray[np.uint8], label: npt.NDArray[Any], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Images and labels as the networks take them.

    Args:
        image: uint8 in 0..255, shape (n, H, W, 3).
        label: classes, shape (n,).
        device: where the tensors go; images travel as bytes.

    Returns:
        float32 in [0, 1] of shape (n, 3, H, W), and int64 of shape (n,).
    """
    x = images_of(torch.from_numpy(np.ascontiguousarray(image)).to(device))
    return x, torch.from_numpy(np.asarray(label, dtype=np.int64)).to(device)


def images_of(image: Tensor) -> Tensor:
    """Images as the networks take them, float32 in [0, 1] of shape (n, 3, H, W), from bytes (n, H, W, 3)."""
    # By a tensor, because a GPU multiplies with the reciprocal of a plain number: other bits than a CPU's.
    largest = torch.full((), 255.0, device=image.device)
    return image.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(largest)
