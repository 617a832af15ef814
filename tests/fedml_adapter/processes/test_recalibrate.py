"""Recalibration layer by layer: every layer is summed behind the layers that were replaced before it."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from in_threads import CPU, remote
from jobs import require_same_weights
from rich.console import Console

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.batchnorm_step import apply_batchnorm_policy
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.fedml_adapter.local_workers import LocalWorkers


@pytest.mark.parametrize("silos", [False, True])
def test_several_processes_recalibrate_to_the_bits_of_one(
    silos: bool, tiny: dict[str, Any], splits: Path, tmp_path: Path
) -> None:
    """A model that was handed out once, and not again after each layer, has other sums from the second on."""
    tiny["personalization_args"]["batchnorm"] = "recalibrate"
    settings, data = check_settings(tiny, source="test"), {0: SplitFolder(splits)}
    model, states = initial_network(settings, data[0], 0), []
    before = copy.deepcopy(model.state_dict())
    with contextlib.ExitStack() as stack:
        workers, _ = stack.enter_context(remote(settings, splits, 2, silos=silos))
        for name, used in (("several", workers), ("one", LocalWorkers(settings, data, CPU))):
            folder, quiet = RunFolder(tmp_path / name), Console(quiet=True)
            run = RunContext(settings, data, folder, used, quiet, CPU)
            states.append(apply_batchnorm_policy(run, {0: model})[0].state_dict())
    require_same_weights(states[0], states[1])
    require_same_weights(model.state_dict(), before)
    layers = ("features.1", "features.4")
    assert all(not torch.equal(states[1][f"{name}.running_mean"], torch.zeros(1)) for name in layers)
