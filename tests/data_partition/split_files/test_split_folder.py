from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_partition.own import write_splits
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError, SealedError
from fedml_spurious.learning.client_data import to_tensors

SPLITS = ("train", "val", "test", "test_bc")


@pytest.fixture
def damaged(splits: Path, tmp_path: Path) -> Path:
    """A copy of the split files, to be damaged."""
    return Path(shutil.copytree(splits, tmp_path / "damaged"))


def test_clients_come_in_the_order_of_their_ids(federation: SplitFolder) -> None:
    assert federation.client_ids == ("0000", "0001", "0002", "0003")
    assert federation.name == "colored_mnist"
    assert federation.num_classes == 10
    assert federation.image_shape == (28, 28, 3)


def test_counts_agree_with_the_arrays(federation: SplitFolder) -> None:
    for client in federation.client_ids:
        for split in SPLITS:
            assert federation.count(client, split) == len(federation.load(client, split))


def test_counting_opens_no_file(damaged: Path) -> None:
    folder = SplitFolder(damaged)
    expected = folder.count("0001", "train")
    for path in damaged.glob("*.h5"):
        path.unlink()
    assert folder.count("0001", "train") == expected
    with pytest.raises(InputError, match=r"colored_mnist_train\.h5: .*make the splits again"):
        folder.load("0001", "train")


def test_fedml_finds_its_keys_with_nothing_but_h5py(splits: Path, federation: SplitFolder) -> None:
    """The access of FedML's data/fed_cifar100/data_loader.py, written out."""
    with (
        h5py.File(splits / "colored_mnist_train.h5", "r") as train,
        h5py.File(splits / "colored_mnist_test.h5", "r") as test,
    ):
        train_ids, test_ids = list(train["examples"].keys()), list(test["examples"].keys())
        assert train_ids == test_ids == list(federation.client_ids)
        for file, split in ((train, "train"), (test, "test")):
            for client in train_ids:
                x = np.vstack([file["examples"][client]["image"][()]])
                y = np.vstack([file["examples"][client]["label"][()]]).squeeze()
                samples = federation.load(client, split)
                assert np.array_equal(x, samples.image)
                assert np.array_equal(y, samples.label)
                assert x.dtype == np.uint8


def test_the_bias_conflicting_test_set_is_sealed_while_training(federation: SplitFolder) -> None:
    with federation.sealed():
        federation.load("0000", "test")
        with federation.sealed(), pytest.raises(SealedError, match="client 0000"):
            federation.load("0000", "test_bc")
        with pytest.raises(SealedError, match="client 0000"):
            federation.load("0000", "test_bc")
    assert len(federation.load("0000", "test_bc"))


def test_the_seal_opens_after_an_exception(federation: SplitFolder) -> None:
    with pytest.raises(KeyError, match="broken off"), federation.sealed():
        raise KeyError("broken off")
    federation.load("0000", "test_bc")


def test_a_folder_travels_to_other_processes(federation: SplitFolder) -> None:
    federation.load("0000", "train")
    copy = pickle.loads(pickle.dumps(federation))
    assert np.array_equal(copy.load("0001", "val").image, federation.load("0001", "val").image)


def test_the_fingerprint_tells_data_apart(splits: Path, damaged: Path, tmp_path: Path) -> None:
    assert SplitFolder(splits).fingerprint == SplitFolder(damaged).fingerprint
    ones = np.ones((4, 2, 2, 3), np.uint8)
    columns = {"label": [0, 0, 1, 1], "spurious": [0, 0, 1, 1], "client": [0, 0, 0, 0]}
    write_splits(tmp_path / "one", "x", image=ones, **columns)
    write_splits(tmp_path / "two", "x", image=2 * ones, **columns)
    assert SplitFolder(tmp_path / "one").fingerprint != SplitFolder(tmp_path / "two").fingerprint


def test_the_fingerprint_is_of_all_four_files(splits: Path) -> None:
    lines = [
        f"{split} {hashlib.sha256((splits / f'colored_mnist_{split}.h5').read_bytes()).hexdigest()}"
        for split in ("train", "val", "test", "test_bc")
    ]
    assert SplitFolder(splits).fingerprint == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_unknown_clients_and_splits_are_refused(federation: SplitFolder) -> None:
    with pytest.raises(InputError, match="no client '0004'; there are 0000 to 0003"):
        federation.load("0004", "train")
    with pytest.raises(InputError, match="no split 'valid'; there are train, val, test, test_bc"):
        federation.count("0000", "valid")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut short"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "edited"),
        (flip_a_byte, "checksum differs"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: shutil.copy(path.with_name("colored_mnist_test_bc.h5"), path), "cut short|edited"),
    ],
)
def test_a_damaged_split_file_is_refused_by_name(damaged: Path, damage, message: str) -> None:
    damage(damaged / "colored_mnist_train.h5")
    with pytest.raises(InputError, match=rf"colored_mnist_train\.h5: .*({message})"):
        SplitFolder(damaged)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text(path.read_text()[:500]), "broken or cut short"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "broken or cut short"),
        (lambda path: path.write_text("[]"), "expected a JSON object"),
        (lambda path: edit(path, seed=99), "edited after it was written"),
        (lambda path: edit(path, format_version=2), "format version 2, this program reads 1"),
    ],
)
def test_a_damaged_description_is_refused_by_name(damaged: Path, damage, message: str) -> None:
    damage(damaged / "colored_mnist_meta.json")
    with pytest.raises(InputError, match=rf"colored_mnist_meta\.json: .*{message}"):
        SplitFolder(damaged)


def test_a_folder_without_finished_splits_is_refused(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        SplitFolder(tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no \*_meta\.json"):
        SplitFolder(tmp_path)
    with pytest.raises(InputError, match=r"holds no other_meta\.json"):
        SplitFolder(splits, name="other")


def test_one_of_several_data_sets_is_chosen_by_name(damaged: Path) -> None:
    write_splits(
        damaged, "mine", image=np.ones((2, 2, 2, 3), np.uint8), label=[0, 1], spurious=[0, 1], client=[0, 0]
    )
    with pytest.raises(InputError, match=r"several data sets \(colored_mnist, mine\)"):
        SplitFolder(damaged)
    assert SplitFolder(damaged, name="mine").num_classes == 2


def test_tensors_are_channels_first_in_the_unit_interval() -> None:
    image = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    x, y = to_tensors(image, np.array([5, 7]), torch.device("cpu"))
    assert x.shape == (2, 3, 3, 4)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert y.tolist() == [5, 7]
    for n, c, h, w in np.ndindex(2, 3, 3, 4):
        assert x[n, c, h, w].item() == pytest.approx(image[n, h, w, c] / 255, abs=1e-7)
    assert to_tensors(np.full((1, 1, 1, 3), 255, np.uint8), np.array([0]), "cpu")[0].max() == 1.0
