"""What ``fedml.init()`` sets, without asking FedML's platform for its configuration."""

from __future__ import annotations

import json
from typing import Any

from fedml.core import mlops

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted


def prepare(args: Any) -> Any:
    """Tell FedML's runners which process this is, and what else they look for in ``args``.

    Args:
        args: FedML's arguments; ``training_type`` ``simulation`` or ``cross_silo``. Over MPI the rank is that
            of ``mpirun``, else ``args.rank``.

    Returns:
        The same object.

    Raises:
        InputError: there are more or fewer processes than one for the server and one for each client of a
            round, or a single round, which FedML's MPI simulation never ends.
    """
    silos = str(getattr(args, "training_type", "simulation")) == "cross_silo"
    args.comm = None
    if args.backend == "MPI":
        # mpi4py is optional.
        from mpi4py import MPI

        args.comm = MPI.COMM_WORLD
        args.rank = args.comm.Get_rank()
        _require_processes(args, args.comm.Get_size())
    args.rank = args.process_id = int(getattr(args, "rank", 0))
    args.role = "client" if args.rank else "server"
    # FedML counts the server in a simulation, and leaves it out across silos.
    args.worker_num = int(args.client_num_per_round) + (0 if silos else 1)
    if silos:
        clients = list(range(1, args.worker_num + 1))
        args.client_id_list = json.dumps([args.rank] if args.rank else clients)
    defaults = {
        "scenario": "horizontal", "run_id": "0", "n_proc_in_silo": 1, "proc_rank_in_silo": 0,
        "enable_cuda_rpc": False, "cpu_transfer": False, "using_mlops": False, "enable_wandb": False,
        "skip_log_model_net": True,
    }  # fmt: skip
    for name, value in defaults.items():
        if not hasattr(args, name):
            setattr(args, name, value)
    mlops.pre_setup(args)  # FedML's cross-silo runner takes it that the platform is wanted where nobody says
    return args


def _require_processes(args: Any, found: int) -> None:
    wanted = int(args.client_num_per_round) + 1
    if found != wanted:
        raise InputError(
            f"mpirun started {counted(found, 'process')}, but FedML wants one for the server and one for "
            f"each client of a round (client_num_per_round: {wanted - 1}); start it with mpirun -np {wanted}"
        )
