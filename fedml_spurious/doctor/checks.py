"""What a run needs and this machine lacks, each as one line with its remedy."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.machine import cores, describe_cores, free_memory, used_memory
from fedml_spurious.common.programs import find_program
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.estimate import Estimate, Processes
from fedml_spurious.doctor.spans import size
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.resume import check_folder
from fedml_spurious.experiment.tracking import require_tracking
from fedml_spurious.fedml_adapter.processes.ranks import grpc_addresses, require_free

# What a backend needs besides FedML: modules of its extra.
_MODULES = {"sp": (), "MPI": ("mpi4py",), "GRPC": ("grpc", "msgpack")}
_LOOPBACK = ("localhost", "127.")

# Of the weights: two models, a gradient, two averages of Adam, and a sum in two tensors of double precision.
_TRAINING_COPIES = 9


@dataclass
class Findings:
    """What is wrong.

    Attributes:
        missing: without which the run cannot go on.
        doubts: with which it can, and is slower or at risk.
    """

    missing: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def check(self, do: Callable[[], object]) -> None:
        """Do something that raises where something is missing."""
        try:
            do()
        except InputError as error:
            self.lacks(str(error))

    def lacks(self, problem: str) -> None:
        """Note, in one line, what is missing."""
        self.missing.append(" ".join(problem.split()))


def check_surroundings(settings: Settings, output: Path, processes: Processes, found: Findings) -> None:
    """Everything that needs no data: packages, MPI, ports, the folder, cores.

    Args:
        settings: settings of the run.
        output: folder of the run; nothing is made there.
        processes: how many there are.
        found: gets what is wrong.
    """
    found.check(lambda: require_tracking(settings))
    backend = settings.comm_args.backend
    absent = [name for name in _MODULES[backend] if find_spec(name) is None]
    if absent:
        extra = backend.lower()
        found.lacks(
            f"packages: comm_args.backend {backend} needs {', '.join(absent)}; install what it needs with "
            f"pip install 'fedml_spurious[{extra}]', or set comm_args.backend=sp"
        )
    if backend == "MPI" and find_program("mpirun") is None:
        found.lacks(
            "MPI: there is no mpirun on the PATH; pip install 'fedml_spurious[mpi]' brings one, or set "
            "comm_args.backend=sp"
        )
    if backend == "GRPC":
        found.check(lambda: _check_ports(settings))
    found.check(lambda: _check_output(output, settings))
    _check_cores(processes, found)


def _check_ports(settings: Settings) -> None:
    for rank, (host, port) in enumerate(grpc_addresses(settings)):
        if host.startswith(_LOOPBACK):  # whether another one is this machine's, its rank finds out
            require_free(host, port, rank)


def _check_output(output: Path, settings: Settings) -> None:
    if output.is_dir():
        check_folder(output, settings, resume=False)
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"{there}: cannot be written; give another --output")


def _check_cores(processes: Processes, found: Findings) -> None:
    busy = processes.threads * max(1, processes.size - 1)
    fitting = max(1, cores() // max(1, processes.size - 1))
    if busy > cores():
        found.doubts.append(
            f"threads: {counted(busy, 'thread')} would compute on {describe_cores()}, and slow each other "
            f"down; set device_args.threads={fitting}, or start fewer processes"
        )


def free_disk(output: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there."""
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def check_weights(settings: Settings, data: SplitFolder, found: Findings) -> bool:
    """Whether there is memory for the network as often as a round has it; timed steps need as much."""
    model = initial_network(settings, data, settings.fl_seeds[0])
    weights = sum(int(value.nbytes) for value in model.state_dict().values())
    alone, train = settings.comm_args.backend == "sp", settings.train_args
    copies = _TRAINING_COPIES + (train.client_num_per_round if alone else 1)
    free = free_memory()
    if copies * weights > free:
        found.lacks(
            f"memory: a round has the network's {size(weights)} of weights {copies} times, and {size(free)} "
            "are free; lower model_args.fc_width or train_args.client_num_per_round, or end other programs"
        )
    return copies * weights <= free


def check_space(
    settings: Settings,
    estimate: Estimate,
    output: Path,
    device: torch.device,
    processes: Processes,
    found: Findings,
) -> None:
    """Whether memory, disk and GPU have room for what the run will take.

    Args:
        settings: settings of the run.
        estimate: what it will take.
        output: folder of the run.
        device: where it computes.
        processes: how many there are.
        found: gets what is wrong.
    """
    free = free_memory() + used_memory()  # what the doctor has is the run's when it has ended
    if estimate.memory.middle > free:
        fewer = "start fewer processes, " if processes.size > 1 else ""
        found.lacks(
            f"memory: the run takes about {size(estimate.memory.middle)}, and {size(free)} are free; {fewer}"
            "end other programs, lower model_args.fc_width or the batch sizes, or raise the container's limit"
        )
    elif estimate.memory.high > free:
        found.doubts.append(
            f"memory: the run may take {size(estimate.memory.high)}, and {size(free)} are free; end other "
            "programs"
        )
    left = free_disk(output)
    if estimate.disk.high > left:
        found.lacks(
            f"disk: the run folder takes up to {size(estimate.disk.high)}, and {size(left)} are free at "
            f"{output}; free some, or give an --output on another disk"
        )
    if estimate.gpu:
        _check_gpu(estimate.gpu * _on_one_gpu(settings, processes), device, found)


def _on_one_gpu(settings: Settings, processes: Processes) -> int:
    """The most processes that share a GPU."""
    named = settings.device_args.worker_gpus
    if processes.size == 1 or named is None:
        return max(1, processes.size - 1)
    return max(Counter(islice(cycle(named), processes.size - 1)).values())


def _check_gpu(needed: int, device: torch.device, found: Findings) -> None:
    # What the doctor has is the run's when it has ended.
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if needed > free:
        found.lacks(
            f"GPU: the run takes about {size(needed)} of its memory, and {size(free)} are free; lower the "
            "batch sizes or model_args.fc_width, let fewer workers share it (device_args.worker_gpus), or "
            "end other programs on it"
        )
