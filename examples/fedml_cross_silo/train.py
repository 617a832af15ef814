"""FedAvg and then personalization in FedML's cross-silo runner, over GRPC on this machine or over MPI.

Make the splits, then start the server and, once it listens, the silos, each in a terminal of its own:

    fedml-spurious partition colored_mnist --source digits --clients 3 --out splits
    python examples/fedml_cross_silo/train.py --cf examples/fedml_cross_silo/fedml_config.yaml --rank 0
    python examples/fedml_cross_silo/train.py --cf examples/fedml_cross_silo/fedml_config.yaml --rank 1

and the same with ``--rank 2`` and ``--rank 3``; or all at once, with ``backend: MPI`` in the configuration,
by ``mpirun -np 4``. The server writes ``runs/fedml_cross_silo``, to the same rows as

    fedml-spurious run --cf examples/fedml_cross_silo/fedml_config.yaml \
        --set common_args.training_type=simulation --set comm_args.backend=sp

A silo's personal models stay in ``runs/fedml_cross_silo/rank<N>`` there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fedml
import torch
from fedml.arguments import load_arguments
from rich.console import Console

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.fedml_adapter import PersonalizingAggregator, PersonalizingTrainer
from fedml_spurious.fedml_adapter.arguments import personalization_rounds
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.failures import one_error
from fedml_spurious.fedml_adapter.offline import prepare
from fedml_spurious.learning.models import build_model
from fedml_spurious.results.run_table import show_table


def main() -> None:
    """Train and personalize as the configuration behind ``--cf`` says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("runs/fedml_cross_silo"))
    parser.add_argument("--addresses", default=str(Path(__file__).with_name("grpc_ipconfig.csv")))
    own = parser.parse_known_args()[0]
    args = load_arguments("cross_silo")
    args.grpc_ipconfig_path = own.addresses  # who listens where, with GRPC
    with one_error(args):
        prepare(args)
        torch.set_num_threads(args.threads)
        args.comm_round += personalization_rounds(args)  # FedML counts them too
        device = fedml.device.get_device(args)
        data = SplitFolder(Path(args.data_cache_dir), name=args.dataset)
        dataset = fedml_dataset(data, data.client_ids, batch_size=args.batch_size)
        model = build_model(
            args.model,
            num_classes=data.num_classes,
            image_shape=data.image_shape,
            fc_width=args.fc_width,
            seed=args.random_seed,
        )
        trainer = PersonalizingTrainer(model, args, data, folder=own.output / f"rank{args.rank}")
        aggregator = PersonalizingAggregator(model, args, data)
        fedml.FedMLRunner(args, device, dataset, model, trainer, aggregator).run()
        (trainer if args.rank else aggregator).failures.check()
        if args.rank == 0:
            show_table(Console(), aggregator.write(own.output))


if __name__ == "__main__":
    main()
