"""A run in FedML's runner in which rank 1 has another network: ``wrong_network.py MPI|GRPC SPLITS``."""

from __future__ import annotations

import argparse
from pathlib import Path

import fedml
import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.fedml_adapter import PersonalizingAggregator, PersonalizingTrainer
from fedml_spurious.fedml_adapter.arguments import fedml_arguments, personalization_rounds
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.failures import one_error
from fedml_spurious.fedml_adapter.offline import prepare

parser = argparse.ArgumentParser()
parser.add_argument("backend")
parser.add_argument("splits", type=Path)
parser.add_argument("--rank", type=int, default=0)
parser.add_argument("--addresses")
own = parser.parse_args()
silos = {"common_args": {"training_type": "cross_silo"}} if own.backend == "GRPC" else {}
settings = check_settings(
    {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(own.splits)},
        "model_args": {"fc_width": 8},
        "train_args": {"client_num_per_round": 1, "comm_round": 2, "epochs": 1},
        "personalization_args": {"clients": ["0000"]},
        "comm_args": {"backend": own.backend, "silos": 1},
        **silos,
    },
    source="test",
)
data = SplitFolder(own.splits)
args = fedml_arguments(settings, fl_seed=0, num_clients=1)
args.rank, args.grpc_ipconfig_path = own.rank, own.addresses
with one_error(args):
    prepare(args)
    args.comm_round += personalization_rounds(args)
    model = torch.nn.Linear(2, 2) if args.rank else initial_network(settings, data, 0)
    trainer = PersonalizingTrainer(model, args, data)
    aggregator = PersonalizingAggregator(model, args, data)
    dataset = fedml_dataset(data, data.client_ids, batch_size=16)
    fedml.FedMLRunner(args, torch.device("cpu"), dataset, model, trainer, aggregator).run()
    (trainer if args.rank else aggregator).failures.check()
