"""Runs of a fraction of a second: a tiny federation, and a tiny network with all that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from data_partition.own import write_splits

SIZES = {"train": 20, "val": 10, "test": 9, "test_bc": 5}
"""Samples of client 0; every next one has another number in every split."""


def network(*, num_classes: int, image_shape: tuple[int, int, int], fc_width: int) -> nn.Module:
    """With BatchNorm and dropout; fast on images of 6 x 6 pixels."""
    height, width, channels = image_shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(height * width * channels, fc_width), nn.BatchNorm1d(fc_width), nn.ReLU(),
        nn.Dropout(0.1), nn.Linear(fc_width, num_classes),
    )  # fmt: skip


def quick_splits(folder: Path, *, seed: int = 0) -> Path:
    """Three clients of two classes; a red corner goes with the class, but for one training sample in five."""
    rng = np.random.default_rng(seed)
    parts = []
    for client in range(3):
        for split, size in SIZES.items():
            count = size + client * (2 if split == "train" else 1)
            label = np.arange(count) % 2
            conflicting = np.ones(count, bool) if split == "test_bc" else np.arange(count) % 5 == 4
            if split in ("val", "test"):
                conflicting[:] = False
            spurious = label ^ conflicting
            image = rng.integers(0, 120, (count, 6, 6, 3))
            image[:, 2:4, 2:4] += (60 * label)[:, None, None, None]
            image[:, :2, :2, 0] += (120 * spurious)[:, None, None]
            parts.append((image, label, spurious, [f"{client:04}"] * count, [split] * count))
    image, label, spurious, clients, split = (np.concatenate(part) for part in zip(*parts, strict=True))
    write_splits(
        folder, "quick", image=image.astype(np.uint8), label=label, spurious=spurious, client=clients,
        split=split, conflicting_groups=[(0, 1), (1, 0)],
    )  # fmt: skip
    return folder


def quick_config(splits: Path) -> dict[str, Any]:
    return {
        "data_args": {"dataset": "quick", "data_cache_dir": str(splits)},
        "model_args": {"model": f"{__name__}:network", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 2, "batch_size": 8, "learning_rate": 0.01,
        },
        "validation_args": {"frequency_of_the_test": 5},
        "personalization_args": {
            "epochs": 3, "learning_rate": 0.02, "batch_size": 6, "clients": ["0000", "0001"],
        },
        "attack_args": {"steps": 2, "eps": 0.2, "budget": "fixed"},
        "experiment_args": {"methods": ["global", "ft"]},
    }  # fmt: skip
