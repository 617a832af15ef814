"""Samples that stay on the device: what is kept, what is given up, and what is sealed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import SealedError
from fedml_spurious.learning.client_data import (
    SampleCache,
    StoredSamples,
    load_test_data,
    load_training_data,
)

CPU = torch.device("cpu")


def count_reads(folder: SplitFolder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    reads: list[tuple[str, str]] = []
    load = folder.load

    def spy(client: str, split: str) -> object:
        reads.append((client, split))
        return load(client, split)

    monkeypatch.setattr(folder, "load", spy)
    return reads


def test_what_is_kept_is_what_the_files_hold_and_is_read_once(
    federation: SplitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, cache = count_reads(federation, monkeypatch), SampleCache(100)
    for _ in range(3):
        found = load_training_data(federation, "0001", CPU, cache)
        with h5py.File(federation.folder / "colored_mnist_train.h5") as file:
            group = file["examples/0001"]
            image, label, aligned = (group[name][()] for name in ("image", "label", "aligned"))
        # Division of float32 is rounded correctly, by NumPy as by torch.
        assert np.array_equal(found.train.x.numpy(), image.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        assert found.train.y.tolist() == label.tolist()
        assert found.aligned.tolist() == (aligned != 0).tolist()
        found.train.x.zero_()  # images are made anew every time
    assert reads == [("0001", "train"), ("0001", "val")]


def test_each_test_set_is_that_of_its_file(federation: SplitFolder) -> None:
    found = load_test_data(federation, "0001", CPU)
    for split, part in (("test", found.biased), ("test_bc", found.conflicting)):
        with h5py.File(federation.folder / f"colored_mnist_{split}.h5") as file:
            image, label = (file[f"examples/0001/{name}"][()] for name in ("image", "label"))
        assert np.array_equal(part.x.numpy(), image.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        assert part.y.tolist() == label.tolist()
    assert not torch.equal(found.biased.x, found.conflicting.x)


def test_the_limit_holds_and_what_was_used_last_stays(
    federation: SplitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = federation.client_ids
    # A byte for each of 28 x 28 x 3 values, eight for a class, and one for whether it is aligned.
    sizes = [federation.count(client, "train") * (28 * 28 * 3 + 8 + 1) for client in clients[:3]]
    reads = count_reads(federation, monkeypatch)
    cache = SampleCache((sum(sizes) - 1) / 1e6)  # two of the three
    for place in (0, 1, 0, 2, 0, 1):
        cache.load(federation, clients[place], "train", CPU)
    assert [clients.index(client) for client, _ in reads] == [0, 1, 2, 1]
    assert cache._bytes == sizes[0] + sizes[1]


@pytest.mark.parametrize("megabytes", [0, 1e-3])
def test_nothing_is_kept_where_it_does_not_fit(
    megabytes: float, federation: SplitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, cache = count_reads(federation, monkeypatch), SampleCache(megabytes)
    for _ in range(2):
        cache.load(federation, "0001", "train", CPU)
    assert len(reads) == 2
    assert not cache._kept


def test_a_kept_test_set_is_sealed_as_the_file_is(federation: SplitFolder) -> None:
    cache = SampleCache(100)
    load_test_data(federation, "0001", CPU, cache)
    with federation.sealed():
        with pytest.raises(SealedError, match="client 0001: the bias-conflicting test set"):
            load_test_data(federation, "0001", CPU, cache)
        with federation.unsealed():
            assert len(load_test_data(federation, "0001", CPU, cache).conflicting)


def test_images_of_loaders_stay_as_they_are_given() -> None:
    image, label = torch.rand(2, 3, 4, 5), torch.tensor([1, 0])
    found = StoredSamples(image, label, torch.tensor([True, False])).labelled()
    assert found.x is image
    assert found.y is label


def test_folders_do_not_share_samples(federation: SplitFolder, conflicting_splits: Path) -> None:
    other, cache = SplitFolder(conflicting_splits), SampleCache(100)
    found = [cache.load(folder, "0001", "train", CPU) for folder in (federation, other)]
    assert [len(one.label) for one in found] == [
        folder.count("0001", "train") for folder in (federation, other)
    ]
