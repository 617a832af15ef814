"""The data of a FedML program as client split files, with a function that says each sample's spurious value.

Makes synthetic loaders as FedML's own give them: bright or dark crosses and rings on three clients, where the
brightness goes with the shape, the other way round on client 1. Run: python examples/own_fedml.py [FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from data_partition.own import from_fedml
from data_partition.split_files.folder import SplitFolder

SIDE = 28


def make_loader(client: int, count: int, rng: np.random.Generator) -> DataLoader:
    """Grey images (count, 1, 28, 28) in [0, 1] and classes; 1 in 5 samples is an exception."""
    label = np.arange(count) % 2
    bright = label ^ (client == 1) ^ (rng.random(count) < 0.2)
    row, column = np.indices((SIDE, SIDE)) - SIDE // 2
    ring = abs(np.hypot(row, column) - 9) < 2
    cross = np.minimum(abs(row), abs(column)) < 2
    shape = np.where(label[:, None, None], cross, ring)
    image = shape * np.where(bright, 1.0, 0.4)[:, None, None]
    tensors = torch.from_numpy(image[:, None].astype(np.float32)), torch.from_numpy(label)
    return DataLoader(TensorDataset(*tensors), batch_size=16)


def fedml_data() -> list:
    """FedML's list of eight."""
    rng = np.random.default_rng(0)
    train = {client: make_loader(client, 60, rng) for client in range(3)}
    test = {client: make_loader(client, 30, rng) for client in range(3)}
    return [180, 90, None, None, dict.fromkeys(train, 60), train, test, 2]


def brightness(image: np.ndarray, label: int) -> int:
    """The spurious value: 1 where the shape is bright."""
    return int(image.max() > 180)


def main(folder: Path) -> None:
    """Write the splits and show what the clients hold."""
    names = ("ring", "cross")
    from_fedml(folder, "shapes", fedml_data(), brightness, class_names=names, overwrite=True)
    splits = SplitFolder(folder, name="shapes")
    for client in splits.client_ids:
        counts = {split: splits.count(client, split) for split in ("train", "val", "test", "test_bc")}
        click.echo(f"client {client}: {counts}, map {splits.meta.clients[client].color_map}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
