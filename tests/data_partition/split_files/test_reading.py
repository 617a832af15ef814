"""Samples that are not as they are described are refused when they are read, whatever the checksums say."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_partition.split_files.folder import SplitFolder, share_seal
from data_partition.split_files.meta import SPLITS, _checksum, split_path
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError, SealedError

CLIENT = "examples/0001"


@pytest.fixture
def folder(splits: Path, tmp_path: Path) -> Path:
    shutil.copytree(splits, tmp_path / "splits")
    return tmp_path / "splits"


def certify(folder: Path, **changes: Any) -> None:
    """Give the description the right checksums of what is there now, and its own."""
    path = folder / "colored_mnist_meta.json"
    content = json.loads(path.read_text())
    content.pop("checksum")
    for split in SPLITS:
        file = split_path(folder, "colored_mnist", split)
        content["files"][split] |= {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    content |= changes
    path.write_text(json.dumps({**content, "checksum": _checksum(content)}))


def replace(name: str, make: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        old = file[f"{CLIENT}/{name}"][()]
        del file[f"{CLIENT}/{name}"]
        file[f"{CLIENT}/{name}"] = make(old)

    return change


def put(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def first(value: int) -> Callable[[Any], Any]:
    return lambda old: np.concatenate([np.array([value], old.dtype), old[1:]])


def huge(file: h5py.File) -> None:
    del file[f"{CLIENT}/image"]
    file.create_dataset(f"{CLIENT}/image", (2**40, 28, 28, 3), np.uint8, chunks=(1, 28, 28, 3))


def external(file: h5py.File) -> None:
    count = len(file[f"{CLIENT}/label"])
    del file[f"{CLIENT}/label"]
    file.create_dataset(f"{CLIENT}/label", (count,), np.int64, external=[("/etc/hostname", 0, 8 * count)])


def virtual(file: h5py.File) -> None:
    count = len(file[f"{CLIENT}/label"])
    layout = h5py.VirtualLayout((count,), np.int64)
    layout[:] = h5py.VirtualSource("other.h5", "label", (count,))
    del file[f"{CLIENT}/label"]
    file.create_virtual_dataset(f"{CLIENT}/label", layout)


WRONG = [
    (replace("label", first(77)), "label 77, expected 0 to 9"),
    (replace("label", first(-1)), "label -1, expected 0 to 9"),
    (
        replace("label", lambda old: np.roll(old, 1) if len(set(old)) > 1 else old[::-1]),
        "per class and spurious",
    ),
    (replace("label", lambda old: old.astype(np.int32)), "label: int32 of shape"),
    (replace("label", lambda old: old.astype(np.float64)), "label: float64 of shape"),
    (replace("label", lambda old: old[:-1]), "label: int64 of shape"),
    (replace("label", lambda old: old[:, None]), "label: int64 of shape"),
    (replace("label", lambda old: "text"), "label: object of shape"),
    (replace("spurious", first(10_000)), "spurious 10000, expected 0 to"),
    (replace("aligned", first(2)), "aligned 2, expected 0 to 1"),
    (replace("image", lambda old: old[:, :14]), "image: uint8 of shape"),
    (replace("image", lambda old: old[..., :1]), "image: uint8 of shape"),
    (replace("image", lambda old: old / 255), "image: float64 of shape"),
    (replace("source", lambda old: old[:0]), "source: int64 of shape"),
    (huge, r"image: uint8 of shape \(1099511627776"),
    (external, "label: is missing, or a link, or kept in another file"),
    (virtual, "label: is missing, or a link, or kept in another file"),
    (put(f"{CLIENT}/label", h5py.SoftLink("/examples/0000/label")), "label: is missing, or a link"),
    (put(f"{CLIENT}/label", h5py.ExternalLink("/nowhere.h5", "/x")), "label: is missing, or a link"),
    (put(CLIENT, h5py.SoftLink("/examples/0000")), "'0001' is a link or no group"),
    (put(CLIENT, h5py.ExternalLink("/nowhere.h5", "/x")), "'0001' is a link or no group"),
    (put(CLIENT, 5), "'0001' is a link or no group"),
    (put("examples", h5py.SoftLink("/nowhere")), "'examples' is a link or no group"),
    (lambda file: file.__delitem__(f"{CLIENT}/label"), "label: is missing, or a link"),
    (lambda file: file.__delitem__(CLIENT), "'0001'"),
    (lambda file: file.create_group("examples/0009"), "client '0009' is there and not described"),
    (lambda file: file.__delitem__("examples"), "there is no 'examples'"),
]


@pytest.mark.parametrize(("change", "expected"), WRONG)
def test_samples_that_differ_from_their_description(change: Any, expected: str, folder: Path) -> None:
    path = split_path(folder, "colored_mnist", "train")
    with h5py.File(path, "r+") as file:
        change(file)
    certify(folder)
    found = SplitFolder(folder)
    with pytest.raises(InputError, match=rf"colored_mnist_train\.h5: .*{expected}.*make the splits again"):
        found.check()
    if "0009" not in expected:
        with pytest.raises(InputError, match=rf"colored_mnist_train\.h5: .*{expected}"):
            found.load("0001", "train")


def test_a_silo_looks_at_its_own_clients_alone(folder: Path) -> None:
    with h5py.File(split_path(folder, "colored_mnist", "test_bc"), "r+") as file:
        file["examples/0001/label"][0] = 77
    certify(folder)
    found = SplitFolder(folder, verify=False)
    found.check(["0000", "0002"])
    with pytest.raises(InputError, match="label 77"):
        found.check(["0001"])


@pytest.mark.parametrize("split", SPLITS)
def test_the_checksum_of_every_file_is_compared(split: str, folder: Path) -> None:
    """A byte in the middle of the file, whose size stays what it was."""
    path = split_path(folder, "colored_mnist", split)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path}: edited or damaged \(its checksum differs\)"):
        SplitFolder(folder)
    assert SplitFolder(folder, verify=False).client_ids


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_that_is_a_pipe_is_not_waited_for(split: str, folder: Path) -> None:
    path = split_path(folder, "colored_mnist", split)
    opened = SplitFolder(folder, verify=False)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="missing"):
        SplitFolder(folder)
    with pytest.raises(InputError, match="is missing or no file"):
        opened.load("0000", split)


def test_files_are_read_where_they_cannot_be_locked(folder: Path) -> None:
    """Another process holds the lock here; a disk without locks refuses it likewise."""
    with split_path(folder, "colored_mnist", "train").open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert len(SplitFolder(folder).load("0000", "train"))


@pytest.mark.parametrize("split", ["train", "test_bc"])
def test_files_that_may_not_be_read_are_not_to_be_made_again(
    split: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, path = SplitFolder(folder), split_path(folder, "colored_mnist", split)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", forbidden)
    with pytest.raises(InputError, match=rf"{path}: cannot be read \(Permission denied\); make it readable"):
        opened.load("0000", split)
    monkeypatch.setattr("data_partition.split_files.folder.sha256_of", forbidden)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); make it readable"):
        SplitFolder(folder)


def test_a_seal_that_is_shared_closes_all_folders(folder: Path, splits: Path) -> None:
    """Partitions of several federated seeds: while one is trained on, the test sets of none may be read."""
    one, other = SplitFolder(folder), SplitFolder(splits)
    share_seal([one, other])
    for sealing, read in ((one, other), (other, one)):
        with sealing.sealed():
            with pytest.raises(SealedError):
                read.load("0000", "test_bc")
            with read.unsealed():
                assert len(sealing.load("0000", "test_bc"))
            with pytest.raises(SealedError):
                read.load("0000", "test_bc")
        assert len(read.load("0000", "test_bc"))
