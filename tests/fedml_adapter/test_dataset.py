"""FedML's list of eight against the files, read with nothing but h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.fedml_adapter.dataset import fedml_dataset


def raw(splits: Path, split: str, client: str) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(splits / f"colored_mnist_{split}.h5") as file:
        group = file[f"examples/{client}"]
        return group["image"][()], group["label"][()]


def test_the_eight_places_hold_what_fedml_expects(federation: SplitFolder, splits: Path) -> None:
    train_num, test_num, train_global, test_global, counts, train, test, classes = fedml_dataset(
        federation, federation.client_ids, batch_size=16
    )
    assert classes == 10
    assert list(train) == list(test) == list(counts) == [0, 1, 2, 3]
    for index, client in enumerate(federation.client_ids):
        for split, loaders in (("train", train), ("test", test)):
            image, label = raw(splits, split, client)
            batches = list(loaders[index])
            assert len(batches) == len(loaders[index]) == -(-len(label) // 16)
            x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
            assert y.tolist() == label.tolist()
            assert x.dtype == torch.float32
            np.testing.assert_allclose(x.numpy(), image.transpose(0, 3, 1, 2) / 255, rtol=1e-6)
            assert loaders[index].client_index == index
        assert counts[index] == len(raw(splits, "train", client)[1])
    assert train_num == sum(counts.values())
    for number, loader in ((train_num, train_global), (test_num, test_global)):
        assert sum(len(y) for _, y in loader) == len(loader.dataset) == number
        assert len(list(loader)) == len(loader)
        assert not hasattr(loader, "client_index")


def test_a_sample_can_be_asked_for_by_its_number(federation: SplitFolder) -> None:
    dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)[3].dataset
    y = torch.cat([y for _, y in fedml_dataset(federation, federation.client_ids, batch_size=16)[3]])
    for index in (0, 13, len(dataset) - 1, -1):
        assert dataset[index][1] == y[index]
    with pytest.raises(IndexError, match="out of range"):
        dataset[len(dataset)]


def test_nothing_is_read_before_it_is_used_and_then_one_client_only(
    federation: SplitFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, str]] = []
    load = federation.load

    def recorded(client: str, split: str) -> object:
        reads.append((client, split))
        return load(client, split)

    monkeypatch.setattr(federation, "load", recorded)
    dataset = fedml_dataset(federation, federation.client_ids, batch_size=16)
    assert reads == []
    list(dataset[5][2])
    assert reads == [("0002", "train")]


def test_a_silo_may_hold_some_clients_only(federation: SplitFolder) -> None:
    dataset = fedml_dataset(federation, ["0003", "0001"], batch_size=16)
    assert dataset[4] == {0: federation.count("0003", "train"), 1: federation.count("0001", "train")}
    with pytest.raises(InputError, match="no client '0009'"):
        fedml_dataset(federation, ["0009"], batch_size=16)
