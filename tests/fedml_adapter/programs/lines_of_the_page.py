"""The lines of docs/fedml.md in a program with plain loaders: ``lines_of_the_page.py SPLITS OUTPUT``."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.models import build_model

data = SplitFolder(Path(sys.argv[1]))


def loaders(split: str) -> dict[int, Any]:
    """The samples of a split as a program without split files has them."""
    found = (data.load(client, split) for client in data.client_ids)
    tensors = [to_tensors(samples.image, samples.label, "cpu") for samples in found]
    return {index: DataLoader(TensorDataset(x, y), batch_size=7) for index, (x, y) in enumerate(tensors)}


train = loaders("train")
counts = {index: len(loader.dataset) for index, loader in train.items()}
dataset = [sum(counts.values()), 0, None, None, counts, train, loaders("test"), data.num_classes]
args = Namespace(
    training_type="cross_silo", backend="MPI", federated_optimizer="FedAvg", dataset="colored_mnist",
    client_num_in_total=len(train), client_num_per_round=len(train), comm_round=2, epochs=1, batch_size=16,
    learning_rate=0.001, random_seed=0, frequency_of_the_test=1, model="cnn_28x28", fc_width=8,
)  # fmt: skip
model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
page = (Path(__file__).parents[3] / "docs" / "fedml.md").read_text(encoding="utf-8")
lines: dict[str, Any] = {}
exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), lines)
run = lines["train_and_personalize"]
run(args, torch.device("cpu"), dataset, model, loaders("val"), loaders("test_bc"), sys.argv[2])
