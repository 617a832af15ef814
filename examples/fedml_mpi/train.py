"""FedAvg and then personalization in FedML's own runner over MPI, as any FedML user would have it.

Make the splits, then start one process for the server and one for each client of a round:

    fedml-spurious partition colored_mnist --source digits --clients 3 --out splits
    mpirun -np 4 python examples/fedml_mpi/train.py --cf examples/fedml_mpi/fedml_config.yaml

It writes ``runs/fedml_mpi``, to the same rows as

    fedml-spurious run --cf examples/fedml_mpi/fedml_config.yaml --set comm_args.backend=sp

``prepare`` stands where a FedML program calls ``fedml.init(args)``, which would do too, and asks FedML's
platform for its configuration at every start. ``FedMLRunner`` writes a small trace file below ``~/.fedml``.
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
    parser.add_argument("--output", type=Path, default=Path("runs/fedml_mpi"))
    output = parser.parse_known_args()[0].output
    args = load_arguments("simulation", "MPI")
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
        trainer = PersonalizingTrainer(model, args, data, folder=output / f"rank{args.rank}")
        aggregator = PersonalizingAggregator(model, args, data)
        fedml.FedMLRunner(args, device, dataset, model, trainer, aggregator).run()
        if args.rank == 0:
            show_table(Console(), aggregator.write(output))


if __name__ == "__main__":
    main()
