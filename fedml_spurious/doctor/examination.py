"""Everything that is looked at before a run: its surroundings, its data, and timed steps."""

from __future__ import annotations

import errno
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.logs import log_to
from fedml_spurious.common.scratch import private_folder, scratch_folder
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.checks import Findings, check_space, check_surroundings, check_weights
from fedml_spurious.doctor.data import SplitFiles, foresee_data
from fedml_spurious.doctor.estimate import Estimate, Processes, estimate
from fedml_spurious.doctor.memory import memory_suffices
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.inputs import SplitsBySeed, check_data
from fedml_spurious.experiment.personalization_step import ClientsBySeed
from fedml_spurious.experiment.recordings import check_recordings
from fedml_spurious.fedml_adapter.processes.ranks import (
    Rank,
    mpi_rank,
    silo_of_clients,
    threads_of,
)

Clock = Callable[[], float]

_BATCHES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)
_USUAL_SIZE = 3  # processes, where nothing says how many: what our pages start
_REPORT_IMPORTS = 3  # how many times as long as its imports a report takes, with them


@dataclass(frozen=True)
class ForeseenData:
    """The data of a run.

    Attributes:
        data: descriptions of the split files by federated seed.
        clients: ids of the clients to personalize, by federated seed.
        files: what making the split files takes.
    """

    data: SplitsBySeed
    clients: ClientsBySeed
    files: SplitFiles

    @property
    def first(self) -> SplitFolder:
        """Those of the first federated seed."""
        return next(iter(self.data.values()))


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        processes: of the run.
        device: where it computes; None where that is not there.
        data: its data; None where they are not there or do not fit.
        cost: what it will cost; None where that cannot be told.
        found: what is wrong.
    """

    processes: Processes
    device: torch.device | None
    data: ForeseenData | None
    cost: Estimate | None
    found: Findings


def examine(settings: Settings, output: Path, clock: Clock = time.perf_counter) -> Examination:
    """Look at everything that a run needs, and time some steps; nothing is written but temporary files.

    Args:
        settings: settings of the run.
        output: folder of the run.
        clock: tells the time in seconds.
    """
    found, data, cost, size = Findings(), None, None, _size(settings)
    place, doing = None, "temporary files"
    device, threads = _find_device(settings, found), _threads(settings, size)
    processes = Processes(size, threads)
    try:
        with log_to(logging.NullHandler()), private_folder() as place, scratch_folder(place):
            doing = "packages"
            processes = replace(processes, start=_import_fedml(found))
            doing = "surroundings"
            check_surroundings(settings, output, processes, found)
            doing = "data"
            data = _find_data(settings, size, device or torch.device("cpu"), found, clock)
            if data is not None and device is not None and check_weights(settings, data.first, found):
                doing = "timed steps"
                processes = replace(processes, end=_end(settings, clock))
                cost = _find_costs(settings, data, device, processes, found, clock)
                if cost is not None:
                    check_space(settings, cost, output, device, processes, found)
    except PermissionError:  # of the user's own files, which say themselves where
        raise
    except OSError as error:
        found.lacks(_of_the_system(error, place, doing))
    return Examination(processes, device, data, cost, found)


def _of_the_system(error: OSError, place: Path | None, doing: str) -> str:
    """What the system refused, in a line.

    Args:
        error: what it said.
        place: folder of the temporary files; None where it could not be made.
        doing: what was looked at.
    """
    said = f"{error.filename}: " if error.filename else ""
    said += error.strerror or str(error)
    temporary = place is None or str(error.filename).startswith(str(place))
    # HDF5 names no file; of all that is looked at, temporary files alone are written.
    if temporary or error.errno in _FULL:
        return (
            f"disk: temporary files cannot be written ({said}); free space there, or name another folder in "
            "the environment variable TMPDIR"
        )
    return f"{doing}: the system refuses what a run will need too ({said}); mend that, and ask again"


def _size(settings: Settings) -> int:
    """Number of processes: as ``mpirun`` started this, as the settings say, or as our pages start them."""
    if settings.comm_args.backend == "sp":
        return 1
    started, silos = mpi_rank(), settings.comm_args.silo_count
    if started is not None and started.size > 1:
        return started.size
    return _USUAL_SIZE if silos is None else silos + 1


def _threads(settings: Settings, size: int) -> int:
    """Threads of each process, which this one takes too."""
    if size > 1:
        torch.set_num_threads(threads_of(settings, Rank(0, size, size)))
    return torch.get_num_threads()


def _import_fedml(found: Findings) -> float:
    """Seconds that this process has taken when all is imported that a run needs.

    Of its own time: what the disk took is not taken again by a run that follows.
    """
    try:
        import_module("fedml_spurious.fedml_adapter.simulator")
    except ImportError as error:
        found.lacks(f"packages: FedML cannot be imported ({error}); pip install 'fedml_spurious' brings it")
    return time.process_time()


def _end(settings: Settings, clock: Clock) -> float:
    """Seconds that table and report will take."""
    began = clock()
    if settings.experiment_args.report:
        import_module("fedml_spurious.report.page")  # what a run imports at its end
    return (clock() - began) * _REPORT_IMPORTS


def _find_device(settings: Settings, found: Findings) -> torch.device | None:
    try:
        return choose_device(settings)
    except InputError as error:
        found.lacks(str(error))
        return None


def _find_data(
    settings: Settings, size: int, device: torch.device, found: Findings, clock: Clock
) -> ForeseenData | None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            data, files = foresee_data(settings, Path(scratch), clock)
            with memory_suffices():
                clients = check_data(settings, data, device)
            check_recordings(settings, data)
            if settings.common_args.training_type == "cross_silo":
                silo_of_clients(settings, data[settings.fl_seeds[0]].client_ids, size)
        except (InputError, RunError) as error:
            found.lacks(str(error))
            return None
    return ForeseenData(data, clients, files)


def _find_costs(
    settings: Settings,
    run: ForeseenData,
    device: torch.device,
    processes: Processes,
    found: Findings,
    clock: Clock,
) -> Estimate | None:
    first = settings.fl_seeds[0]
    try:
        return estimate(
            settings,
            run.first,
            run.clients[first],
            device,
            processes,
            run.files,
            clock=clock,
            batches=_BATCHES,
        )
    except (InputError, RunError) as error:
        found.lacks(str(error))
        return None
