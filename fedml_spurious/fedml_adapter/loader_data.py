"""The loaders of a FedML program as the personalization step takes a client's samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fedml_spurious.common.errors import InputError, SealedError
from fedml_spurious.fedml_adapter.sample_order import in_dataset_order
from fedml_spurious.learning.client_data import StoredSamples

_Loaders = Mapping[int, Iterable[Any]]


class LoaderData:
    """A FedML data list with what it has no places for: validation and bias-conflicting test samples.

    A loader is read once, and its samples are kept, in the order of its data set: see
    :func:`~fedml_spurious.fedml_adapter.sample_order.in_dataset_order`.

    Nobody says which training samples are bias-aligned: all count as aligned, and methods that need both
    groups (``uw``, ``group_dro``, ``jtt``) do not apply.

    Args:
        dataset: FedML's list of eight; loaders yield images (B, C, H, W) in [0, 1] and classes (B,).
        validation: loaders of the samples by which epochs are selected, by client index.
        conflicting: loaders of the bias-conflicting test samples, by client index; an empty dictionary
            measures ``Acc_B`` alone.
        name: of the data set, in tables.

    Raises:
        InputError: validation or bias-conflicting samples are not given, or a client has none to validate on.
    """

    fingerprint = ""  # loaders have no files

    def __init__(
        self,
        dataset: Sequence[Any],
        *,
        validation: _Loaders | None = None,
        conflicting: _Loaders | None = None,
        name: str = "loaders",
    ) -> None:
        _, _, _, _, _, train, test, classes = dataset
        if validation is None:
            raise InputError(
                f"{name}: no validation samples; FedML's data list has no place for them: give "
                "LoaderData(..., validation={client index: loader})"
            )
        if conflicting is None:
            raise InputError(
                f"{name}: no bias-conflicting test set; give LoaderData(..., conflicting={{client index: "
                "loader}}), or conflicting={} to measure the biased test sets alone"
            )
        self.name, self.num_classes = name, int(classes)
        self.indices = sorted(train)
        self.client_ids = tuple(f"{index:04d}" for index in self.indices)
        self._loaders = {"train": train, "val": validation, "test": test, "test_bc": conflicting}
        without = [index for index in self.indices if index not in validation]
        if without:
            raise InputError(f"{name}: client {without[0]:04d} has no validation loader")
        self._read: dict[tuple[str, str], StoredSamples] = {}
        self._seals = 0
        _, channels, height, width = self.load(self.client_ids[0], "train").image.shape
        self.image_shape = (int(height), int(width), int(channels))

    def index(self, client_id: str) -> int:
        """Place of a client among ``client_ids``."""
        self._require_known(client_id)
        return self.client_ids.index(client_id)

    def index_of(self, loader: Any) -> int | None:
        """Place among ``client_ids`` of the client whose training loader this is, or None."""
        found = [place for place, index in enumerate(self.indices) if self._loaders["train"][index] is loader]
        return found[0] if found else None

    def count(self, client_id: str, split: str) -> int:
        """Number of samples of a client in a split; reads them, which a seal does not forbid."""
        return len(self._samples(client_id, split).label)

    def load(self, client_id: str, split: str) -> StoredSamples:
        """The samples of one client in one split, the same and in the same order each time.

        Raises:
            InputError: images are no images, their values are not in [0, 1], or the loader's samples have no
                order that stays.
            SealedError: the bias-conflicting test set was asked for inside :meth:`sealed`.
        """
        if self._seals and split == "test_bc":
            raise SealedError(
                f"client {client_id}: the bias-conflicting test set must not be read while training, tuning "
                "or selecting"
            )
        return self._samples(client_id, split)

    def _samples(self, client_id: str, split: str) -> StoredSamples:
        key = client_id, split
        if key not in self._read:
            self._read[key] = self._read_once(client_id, split)
        return self._read[key]

    def _read_once(self, client_id: str, split: str) -> StoredSamples:
        name = f"{self.name}: client {client_id}"
        batches = list(in_dataset_order(self._loader(client_id, split), name))
        if not batches:
            shape = getattr(self, "image_shape", (0, 0, 0))
            empty = torch.zeros(0, shape[2], *shape[:2])
            return StoredSamples(empty, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
        image = torch.cat([batch[0] for batch in batches]).to(torch.float32)
        label = torch.cat([torch.as_tensor(batch[1]) for batch in batches]).to(torch.int64)
        if image.ndim != 4 or image.min() < 0 or image.max() > 1:
            raise InputError(
                f"{name}: expected images (B, C, H, W) with values in [0, 1], which "
                f"the attack keeps to, got shape {tuple(image.shape)} with values from {image.min():g} to "
                f"{image.max():g}; leave normalisation to the network"
            )
        return StoredSamples(image, label, torch.ones(len(label), dtype=torch.bool))

    def _loader(self, client_id: str, split: str) -> Iterable[Any]:
        loaders: _Loaders = self._loaders[split]
        return loaders.get(self.indices[self.index(client_id)], ())

    def _require_known(self, client_id: str) -> None:
        if client_id not in self.client_ids:
            raise InputError(f"{self.name}: no client {client_id!r}; there are {', '.join(self.client_ids)}")

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """Refuse to read the bias-conflicting test set inside the block; blocks may be nested."""
        self._seals += 1
        try:
            yield
        finally:
            self._seals -= 1

    @contextmanager
    def unsealed(self) -> Iterator[None]:
        """Allow a measurement to read every split inside the block, within :meth:`sealed` too."""
        seals, self._seals = self._seals, 0
        try:
            yield
        finally:
            self._seals = seals
