"""The estimate that a run prints where it begins, from as few timed steps as will do."""

from __future__ import annotations

import logging
from importlib import import_module

import torch

from fedml_spurious.common.errors import RunError
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.estimate import Processes, estimate
from fedml_spurious.doctor.memory import OutOfMemoryError
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.personalization_step import ClientsBySeed

logger = logging.getLogger(__name__)


def foretell(
    settings: Settings, data: SplitsBySeed, clients: ClientsBySeed, device: torch.device, *, size: int = 1
) -> str:
    """What is left of a run that begins, in one line; empty where nobody can tell.

    Args:
        settings: settings of the run.
        data: split files by federated seed.
        clients: ids of the clients to personalize, by federated seed.
        device: where this process computes.
        size: number of processes.
    """
    if size > 1 and settings.device_args.using_gpu:
        return ""  # the server computes on the CPU, and says nothing of its workers' GPUs
    import_module("fedml_spurious.fedml_adapter.simulator")  # the run needs FedML, and the memory for it
    seed = settings.fl_seeds[0]
    made = {*data.values()} if settings.data_args.partition is not None else set()
    nbytes = sum(file.bytes for splits in made for file in splits.meta.files.values())
    processes = Processes(size, torch.get_num_threads())
    try:
        return estimate(
            settings,
            data[seed],
            clients[seed],
            device,
            processes,
            SplitFiles(nbytes=nbytes),
            own_methods=False,
        ).line()
    except OutOfMemoryError as error:
        return f"No estimate: {error}"
    except RunError:  # where the run comes to the same, it says so with all that it knows
        return ""
    except Exception:  # whatever is wrong with an estimate, the run is to go on
        logger.warning("what the run will cost could not be estimated", exc_info=True)
        return ""
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the run has a GPU as it would have found it
