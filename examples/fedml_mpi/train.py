"""Our trainer and aggregator in FedML's own runner, over MPI, as any FedML user would use them.

Make the splits, then start one process for the server and one for each client of a round:

    fedml-spurious partition colored_mnist --source digits --clients 10 --out splits
    mpirun -np 3 python examples/fedml_mpi/train.py --cf examples/fedml_mpi/fedml_config.yaml

``fedml.init()`` would do for the arguments too, but it asks FedML's platform for its configuration at every
start; this example opens no connection. ``FedMLRunner`` writes a small trace file below ``~/.fedml``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import fedml
from fedml.arguments import Arguments, load_arguments
from mpi4py import MPI

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.fedml_adapter import SpuriousAggregator, SpuriousTrainer
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.learning.models import build_model


def with_ranks(args: Arguments) -> Arguments:
    """Tell FedML which process this is."""
    args.comm = MPI.COMM_WORLD
    args.process_id = args.rank = args.comm.Get_rank()
    args.worker_num = args.comm.Get_size()
    args.role = "client" if args.rank else "server"
    return args


def main() -> None:
    """Train as the configuration behind ``--cf`` says."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    args = with_ranks(load_arguments("simulation", "MPI"))
    device = fedml.device.get_device(args)
    folder = SplitFolder(Path(args.data_cache_dir), name=args.dataset)
    dataset = fedml_dataset(folder, folder.client_ids, batch_size=args.batch_size)
    model = build_model(
        args.model,
        num_classes=folder.num_classes,
        image_shape=folder.image_shape,
        fc_width=args.fc_width,
        seed=args.random_seed,
    )
    trainer, aggregator = SpuriousTrainer(model, args), SpuriousAggregator(model, args)
    fedml.FedMLRunner(args, device, dataset, model, trainer, aggregator).run()


if __name__ == "__main__":
    main()
