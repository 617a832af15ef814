"""The samples of a program's own loader, every one of them and in an order that no generator decides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from fedml_spurious.common.errors import InputError


def in_dataset_order(loader: Iterable[Any], name: str) -> Iterable[Any]:
    """The batches of a loader, without its shuffling and with the batch that ``drop_last`` leaves out.

    The numbers of the rows mean samples (the shuffling here is seeded by address), so they have to mean the
    same ones at every reading. What is no ``DataLoader``, or iterates in its own way, is taken as it comes.

    Args:
        loader: yields images (B, C, H, W) and classes (B,).
        name: of the data, for the message.

    Raises:
        InputError: which samples the loader gives is drawn or its own, so no order of the data set is theirs.
    """
    if not isinstance(loader, DataLoader) or type(loader).__iter__ is not DataLoader.__iter__:
        return loader
    batches: Any = loader.batch_sampler
    sampler = loader.sampler if batches is None else getattr(batches, "sampler", None)
    if isinstance(loader.dataset, IterableDataset):
        if loader.drop_last:
            raise _refused(name, "drop_last of an iterable data set")
        return loader
    dataset: Any = loader.dataset
    if batches is not None and type(batches) is not BatchSampler:
        raise _refused(name, f"the batch sampler {type(batches).__name__}")
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, sorted(sampler.indices))
    elif not _takes_all(sampler, len(dataset)):
        raise _refused(name, f"the sampler {type(sampler).__name__}")
    return DataLoader(
        dataset,
        batch_size=None if batches is None else batches.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
    )


def _takes_all(sampler: Any, count: int) -> bool:
    """Whether every sample of the data set comes once."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == count
    return type(sampler) is SequentialSampler


def _refused(name: str, what: str) -> InputError:
    return InputError(
        f"{name}: {what} decides which samples a loader gives, so they have no order that stays; give "
        "DataLoader(torch.utils.data.Subset(dataset, indices), batch_size=...) with the samples that are "
        "meant (shuffling is done here, with seeds)"
    )
