"""One client's samples as tensors, as the methods and the measurements take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data_partition.split_files.folder import SplitFolder


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
    x = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    x = x.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
    return x, torch.from_numpy(np.asarray(label, dtype=np.int64)).to(device)
