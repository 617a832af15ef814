"""Small federations whose shortcut is known, and runs that personalize on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result
from running import invoke
from torch import nn

from data_partition.colored.mnist_files import read_digits
from data_partition.colored_mnist import Options, build
from data_partition.own import write_splits
from fedml_spurious.cli import main

LIGHT = ("salmon", "pistachio", "lavender", "lemon", "orchid", "ice", "amber", "white")
"""The quickstart's palette: every channel holds something of the shape."""


def colored(folder: Path, **options: Any) -> Path:
    """Split files of six clients with 180 coloured digits each."""
    chosen: dict[str, Any] = {
        "source": "digits", "clients": 6, "classes_per_client": 4, "limit": 1080, "seed": 11,
        "palette": LIGHT, "bias_conflicting_fraction": 0.0,
    }  # fmt: skip
    build(Options(**(chosen | options)), raw=None, out=folder)
    return folder


def marked(folder: Path, classes: int = 6, size: int = 150) -> Path:
    """Split files of dim grey digits with a white mark at the top, whose place goes with the class.

    There are as many clients as classes, and the places of client c are shifted by c, so that what a client
    sees at any other one is the mark of another of its classes. Each test image is also in the
    bias-conflicting test set, there with the mark of another class.
    """
    digits, rng = read_digits(), np.random.default_rng(5)
    known = digits.label < classes
    image, label = digits.grey[known], digits.label[known]
    rows: dict[str, list[Any]] = {"image": [], "label": [], "spurious": [], "client": [], "split": []}

    def add(pixels: np.ndarray, digit: int, place: int, client: int, split: str) -> None:
        pixels = pixels // 2
        pixels[1:5, 1 + 4 * place : 5 + 4 * place] = 255
        for name, value in zip(rows, (pixels, digit, place, f"c{client}", split), strict=True):
            rows[name].append(value)

    for client in range(classes):
        for at, row in enumerate(rng.choice(len(label), size=size, replace=False)):
            digit = int(label[row])
            split = "test" if at < size // 4 else "val" if at < size // 3 else "train"
            add(image[row], digit, (digit + client) % classes, client, split)
            if split == "test":
                other = (digit + 1 + int(rng.integers(classes - 1))) % classes
                add(image[row], digit, (other + client) % classes, client, "test_bc")
    pixels = np.stack(rows.pop("image"))
    write_splits(folder, "marked_digits", image=pixels, **rows)
    return folder


def small_network(*, num_classes: int, image_shape: tuple[int, int, int], fc_width: int) -> nn.Module:
    """Two strided convolutions and a linear layer, a tenth of the paper's work."""
    height, width, channels = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 12, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 24, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * (height // 4) * (width // 4), num_classes),
    )


def personalized(
    data: Path,
    folder: Path,
    dataset: str = "colored_mnist",
    network: str = "cnn_28x28",
    rounds: int = 6,
    rate: float = 0.001,
) -> Path:
    """A finished run that kept its personal models."""
    config = {
        "data_args": {"dataset": dataset, "data_cache_dir": str(data)},
        "model_args": {"model": network, "fc_width": 32},
        "train_args": {
            "client_num_per_round": 4, "comm_round": rounds, "epochs": 2, "batch_size": 16,
            "learning_rate": rate,
        },
        "validation_args": {"frequency_of_the_test": 6},
        "personalization_args": {"epochs": 4, "save_models": True},
        "attack_args": {"steps": 2, "eps": 0.031, "budget_samples": 16},
        "device_args": {"threads": 1},
        "experiment_args": {"methods": ["global", "ft"]},
    }  # fmt: skip
    result = invoke(config, folder)
    assert result.exit_code == 0, result.output
    return folder


def audit(*arguments: object) -> Result:
    """What ``fedml-spurious audit`` answers."""
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def audited(*arguments: object) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """``audit.json`` and the rows of ``audit.csv`` of an audit of the run that is named first."""
    result = audit(*arguments)
    assert result.exit_code == 0, result.output
    folder = Path(str(arguments[0]))
    with (folder / "audit.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return json.loads((folder / "audit.json").read_text()), rows
