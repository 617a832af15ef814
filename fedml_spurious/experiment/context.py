"""What every step of a run is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console

from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import Workers


@dataclass(frozen=True)
class RunContext:
    """A run that has begun.

    Attributes:
        settings: settings of the run.
        data: client split files by federated seed, of which the steps read the description and no sample.
        folder: run folder.
        workers: who does what needs a client's samples.
        console: where progress goes.
        device: where this process keeps the global models.
    """

    settings: Settings
    data: SplitsBySeed
    folder: RunFolder
    workers: Workers
    console: Console
    device: torch.device
