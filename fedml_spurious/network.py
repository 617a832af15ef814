"""The network of a run, with the weights from which its training begins."""

from __future__ import annotations

from torch import nn

from fedml_spurious.config import Settings
from fedml_spurious.models import build_model
from fedml_spurious.splits import SplitFolder


def global_model(settings: Settings, data: SplitFolder, fl_seed: int) -> nn.Module:
    """The network with the initial weights of a federated seed, on the CPU."""
    return build_model(
        settings.model_args.model,
        num_classes=data.num_classes,
        image_shape=data.image_shape,
        fc_width=settings.model_args.fc_width,
        seed=fl_seed,
    )
