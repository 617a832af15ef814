"""What a run will cost, from timed steps in this process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.machine import cores, peak_memory, used_memory
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.space_model import folder_size
from fedml_spurious.doctor.space_model import peak_memory as foreseen_memory
from fedml_spurious.doctor.spans import Span, duration, size, total
from fedml_spurious.doctor.speeds import Machine, Speeds
from fedml_spurious.doctor.time_model import TimeModel
from fedml_spurious.doctor.timing import time_steps

TIME_RATIO, MEMORY_RATIO, DISK_RATIO = 1.4, 1.2, 1.15
"""How far limits are from what is expected, at least; docs/usage.md has how far what is expected was off."""


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        stages: seconds by stage, in the order in which they are done.
        process: bytes of memory of the largest process.
        memory: of all processes at the same time.
        disk: bytes of the run folder.
        gpu: bytes of the GPU's memory in one process; 0 without a GPU.
    """

    stages: Mapping[str, Span]
    process: Span
    memory: Span
    disk: Span
    gpu: int

    @property
    def seconds(self) -> Span:
        """Of the whole run."""
        return total(list(self.stages.values())).at_least(TIME_RATIO)

    def line(self) -> str:
        """The estimate in one line."""
        return (
            f"Estimate: {between(duration, self.seconds)}, {between(size, self.memory)} of memory, "
            f"{between(size, self.disk)} of disk"
        )


def between(words: Callable[[float], str], span: Span) -> str:
    """An amount with its limits: ``52 s (37 s to 73 s)``."""
    return f"{words(span.middle)} ({words(span.low)} to {words(span.high)})"


@dataclass(frozen=True)
class Processes:
    """The processes of a run on this machine.

    Attributes:
        size: all of them; with several, the first is the server.
        threads: CPU threads of each.
        start: seconds until one is ready; 0 where it is.
        end: seconds of table and report.
    """

    size: int
    threads: int
    start: float = 0.0
    end: float = 0.0


def estimate(
    settings: Settings,
    data: SplitFolder,
    clients: Sequence[str],
    device: torch.device,
    processes: Processes,
    files: SplitFiles,
    *,
    clock: Callable[[], float] = time.perf_counter,
    batches: int = 3,
    own_methods: bool = True,
) -> Estimate:
    """Time some steps and tell what the whole run takes.

    Args:
        settings: settings of the run, which fit the data.
        data: description of the clients, taken to be that of every federated seed.
        clients: ids of those that are personalized.
        device: where the run computes.
        processes: how many there are.
        files: what making the split files takes; nothing where they are there.
        clock: tells the time in seconds.
        batches: how many of each kind are timed.
        own_methods: see :func:`time_steps`.

    Raises:
        RunError: a network or a method of the user's own fails.
    """
    base = used_memory()
    with tempfile.TemporaryDirectory() as scratch:
        speeds = time_steps(
            settings,
            data,
            clients,
            device,
            Path(scratch),
            clock=clock,
            batches=batches,
            own_methods=own_methods,
        )
    machine = Machine(
        workers=max(1, processes.size - 1),
        size=processes.size,
        side_by_side=max(1, cores() // processes.threads),
        start=processes.start,
        end=processes.end,
        base=base,
        peak=peak_memory(),
    )
    return foretell(settings, data, clients, speeds, machine, files)


def foretell(
    settings: Settings,
    data: SplitFolder,
    clients: Sequence[str],
    speeds: Speeds,
    machine: Machine,
    files: SplitFiles,
) -> Estimate:
    """What a run costs by these speeds; see :func:`estimate`."""
    stages = TimeModel(settings, data, clients, speeds, machine, files).stages()
    process, memory = foreseen_memory(settings, data, clients, speeds, machine)
    return Estimate(
        {name: span.at_least(TIME_RATIO) for name, span in stages.items() if span.high},
        process.at_least(MEMORY_RATIO),
        memory.at_least(MEMORY_RATIO),
        folder_size(settings, data, clients, speeds, files).at_least(DISK_RATIO),
        speeds.gpu_bytes,
    )
