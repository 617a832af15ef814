"""Where a run's client split files come from: a folder that is there, or a partition made for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from data_partition.registry import PARTITIONS
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.advice import advising_a_run
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.progress import stage
from fedml_spurious.common.words import counted
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.learning.models import IMAGE_SIZES, build_model
from fedml_spurious.learning.network_trial import SmallestBatch, made_up_images, try_network
from fedml_spurious.learning.training import minibatches

CPU = torch.device("cpu")

SplitsBySeed = Mapping[int, SplitFolder]
"""Client split files by federated seed: one object for all seeds, unless each has a partition of its own."""


def open_data(settings: Settings, folder: RunFolder, console: Console) -> SplitsBySeed:
    """Open the client split files, and make them first where the settings say so.

    Returns:
        Split files by federated seed, in the order of the settings.

    Raises:
        InputError: the files are absent or damaged, or the partition options or raw data are wrong.
    """
    if settings.own_partitions:
        return {seed: _open(settings, folder, console, seed) for seed in settings.fl_seeds}
    return dict.fromkeys(settings.fl_seeds, _open(settings, folder, console, settings.fl_seeds[0]))


def splits_folder(settings: Settings, folder: RunFolder, fl_seed: int) -> Path:
    """Where the split files of a federated seed are."""
    chosen = settings.data_args
    if chosen.data_cache_dir is not None:
        return Path(chosen.data_cache_dir).expanduser()
    return folder.data_part(fl_seed) if settings.own_partitions else folder.data


def _open(settings: Settings, folder: RunFolder, console: Console, fl_seed: int) -> SplitFolder:
    chosen, place = settings.data_args, splits_folder(settings, folder, fl_seed)
    if chosen.partition is None:
        # The server of silos reads the description of the splits and no sample.
        described = settings.common_args.training_type == "cross_silo"
        return SplitFolder(place, name=chosen.dataset, files=not described)
    raw = Path(chosen.raw).expanduser() if chosen.raw else None
    title = f"Splits of {chosen.dataset}" + (f", fl{fl_seed}" if settings.own_partitions else "")
    # Quiet, so that what a run costs is its first line.
    with advising_a_run(chosen.dataset), stage(console, title, total=1, quiet=True) as bar:
        # Other splits that lie there are not this run's to replace.
        PARTITIONS[chosen.dataset].build(chosen.partition.of(fl_seed), raw=raw, out=place, progress=bar.set)
        return SplitFolder(place, name=chosen.dataset)


def initial_network(settings: Settings, data: ClientSource, fl_seed: int) -> nn.Module:
    """The network with the initial weights of a federated seed, on the CPU."""
    return build_model(
        settings.model_args.model,
        num_classes=data.num_classes,
        image_shape=data.image_shape,
        fc_width=settings.model_args.fc_width,
        seed=fl_seed,
    )


def choose_clients(folder: SplitFolder, wanted: tuple[str, ...] | None, name: str = "") -> tuple[str, ...]:
    """Which clients are personalized: those wanted, else those that the split files name, else all.

    Args:
        folder: client split files.
        wanted: ids; None for those of the split files.
        name: of the data set in messages, with the federated seed where that has a partition of its own.

    Raises:
        InputError: a client does not exist, or has no sample in a split that personalization needs; or the
            split files say that no client is to be personalized.
    """
    name = name or folder.meta.name
    named = folder.meta.personalized_clients
    if not wanted and named is not None and not named:
        limits = ", ".join(f"{key} {value}" for key, value in folder.meta.thresholds.items())
        raise InputError(
            f"{name}: no client qualifies for personalization ({limits or 'the split files name none'}); "
            "name some in personalization_args.clients, or make the splits with lower limits or another seed"
        )
    clients = wanted or named or folder.client_ids
    unknown = [client for client in clients if client not in folder.meta.clients]
    if unknown:
        raise InputError(
            f"personalization_args.clients: no client {unknown[0]!r} in {name}; its clients are "
            f"{folder.client_ids[0]} to {folder.client_ids[-1]}{folder.meta.hint(unknown[0])}"
        )
    for client in clients:
        require_samples(folder, client, ("train", "val", "test"), name)
    return tuple(sorted(clients))


def require_samples(folder: ClientSource, client: str, splits: tuple[str, ...], name: str) -> None:
    """Make sure that a client has samples in these splits.

    Raises:
        InputError: a split is empty.
    """
    for split in splits:
        if not folder.count(client, split):
            # Every client takes part in the federated step.
            without = "" if split == "train" else ", or leave it out of personalization_args.clients"
            raise InputError(
                f"{name}: client {client} has no sample in the {split} split, which its training or "
                f"measurement needs; partition into fewer clients or with other ratios{without}"
            )


def check_data(
    settings: Settings, data: SplitsBySeed, device: torch.device = CPU
) -> dict[int, tuple[str, ...]]:
    """Check that the settings fit the data, and that the network and the methods fit each other.

    Args:
        settings: settings of the run.
        data: client split files by federated seed.
        device: where a network of the user's own is tried.

    Returns:
        Ids of the clients to personalize, by federated seed.

    Raises:
        InputError: numbers of clients, classes or image sizes do not fit, a needed split is empty, or a
            network of the user's own does not do what a run needs.
    """
    clients: dict[SplitFolder, tuple[str, ...]] = {}
    for fl_seed, folder in data.items():
        if folder in clients:
            continue
        of_seed = f" of fl{fl_seed}" if settings.own_partitions else ""
        clients[folder] = _check_splits(settings, folder, f"{folder.meta.name}{of_seed}", device)
    return {fl_seed: clients[folder] for fl_seed, folder in data.items()}


def _check_splits(settings: Settings, data: SplitFolder, name: str, device: torch.device) -> tuple[str, ...]:
    found, train = len(data.client_ids), settings.train_args
    if train.client_num_in_total not in (None, found):
        raise InputError(
            f"train_args.client_num_in_total: is {train.client_num_in_total}, but {data.meta.name} has "
            f"{counted(found, 'client')}; set it to {found} or leave it out"
        )
    if train.client_num_per_round > found:
        raise InputError(
            f"train_args.client_num_per_round: is {train.client_num_per_round}, but {data.meta.name} has "
            f"{counted(found, 'client')}; set it to {found} or less"
        )
    for client in data.client_ids:
        require_samples(data, client, ("train",), name)
    clients = choose_clients(data, settings.personalization_args.clients, name)
    network = settings.model_args.model
    if network in IMAGE_SIZES:
        model = initial_network(settings, data, 0)  # refuses images that it does not fit
    else:
        model = try_network(
            partial(initial_network, settings, data, 0),
            name=network,
            num_classes=data.num_classes,
            image_shape=data.image_shape,
            smallest=_smallest_batches(settings, data, clients),
            device=device,
        )
    images = made_up_images(2, data.image_shape, device)
    for method in settings.methods():
        options = settings.options(method)
        if options is not None:
            settings.method_type(method)(options).check_network(model.to(device), images)
    if data.has_samples:
        data.check()
    return clients


def _smallest_batches(
    settings: Settings, data: SplitFolder, personalized: Sequence[str]
) -> list[SmallestBatch]:
    """The smallest batch of the federated step, and that of the personalization step."""
    fine_tuning = settings.fine_tuning()
    if "local" in settings.methods():  # under batch statistics always
        fine_tuning = replace(fine_tuning, batchnorm_mode="batch")
    steps = ((settings.train_args.local_training(), data.client_ids), (fine_tuning, personalized))
    found = []
    for training, clients in steps:
        counts = {client: data.count(client, "train") for client in clients}
        sizes = {
            client: min(map(len, minibatches(np.arange(count), training.batch_size)))
            for client, count in counts.items()
        }
        client = min(sizes, key=lambda one: (sizes[one], one))
        found.append(SmallestBatch(sizes[client], client, counts[client], training.batchnorm_mode))
    return found
