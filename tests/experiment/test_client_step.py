"""What a client's step computes, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.client import ClientStep
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.models import build_model


def step_of(config: dict[str, Any], data: SplitFolder) -> ClientStep:
    model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
    return ClientStep(check_settings(config, source="a test"), data, model, "0001", eps=0.03, fl_seed=0)


@pytest.mark.parametrize(
    ("methods", "splits_attacked"),
    [(["global", "ft"], ["test"]), (["adv"], ["train", "test"]), (["ours", "adv"], ["train", "val", "test"])],
)
def test_images_are_attacked_only_where_something_reads_it(
    methods: list[str],
    splits_attacked: list[str],
    federation: SplitFolder,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The three splits have different sizes, by which they are known."""
    attacked: list[int] = []
    original = Attack.__call__

    def count(self: Attack, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        attacked.append(len(x))
        return original(self, model, x, y)

    monkeypatch.setattr(Attack, "__call__", count)
    tiny["experiment_args"] = {"methods": methods}
    step = step_of(tiny, federation)
    for method in methods:
        step.run(ResultKey(method, 0, None if method == "global" else 0, "0001"))
    assert attacked == [federation.count("0001", split) for split in splits_attacked]
