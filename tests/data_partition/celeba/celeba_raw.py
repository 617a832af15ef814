"""Small raw folders in CelebA's layout, for tests."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from image_bytes import encode

from data_partition.celeba.labels import CelebALabels

ATTRIBUTES = ("Bald", "Blond_Hair", "Male", "Young")


def make_labels(
    identity: Sequence[int], male: Sequence[int], blond: Sequence[int], partition: Sequence[int] | None = None
) -> CelebALabels:
    return CelebALabels(
        identity=np.array(identity, np.int64),
        male=np.array(male, np.int64),
        blond=np.array(blond, np.int64),
        partition=np.array(partition or [0] * len(identity), np.int64),
        checksums={},
    )


def small_labels(num_identities: int = 12, images: int = 10) -> CelebALabels:
    """Identities 1, 2, ... in turn; odd ones are female and half blond, even ones male, every 5th blond."""
    number = np.arange(num_identities * images)
    identity = number % num_identities + 1
    male = (identity + 1) % 2
    blond = np.where(male == 1, number // num_identities % 5 == 0, number // num_identities % 2 == 0)
    return make_labels(identity.tolist(), male.tolist(), blond.astype(int).tolist(), (number % 3).tolist())


def write_labels(folder: Path, labels: CelebALabels, end: str = "\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{row + 1:06d}.jpg" for row in range(len(labels.male))]
    values = {"Male": labels.male, "Blond_Hair": labels.blond}
    attributes = [str(len(names)), " ".join(ATTRIBUTES)]
    for row, name in enumerate(names):
        signs = [1 if attribute in values and values[attribute][row] else -1 for attribute in ATTRIBUTES]
        attributes.append(f"{name} " + " ".join(f"{sign:2d}" for sign in signs))
    content = {
        "list_attr_celeba.txt": attributes,
        "identity_CelebA.txt": [f"{name} {who}" for name, who in zip(names, labels.identity, strict=True)],
        "list_eval_partition.txt": [
            f"{name} {part}" for name, part in zip(names, labels.partition, strict=True)
        ],
    }
    for name, lines in content.items():
        (folder / name).write_bytes((end.join(lines) + end).encode())


def flat_image(number: int, size: tuple[int, int] = (178, 218)) -> bytes:
    """One colour per number, as PNG: cropping, resizing and decoding cannot change a single value."""
    width, height = size
    return encode(np.tile(np.array(flat_color(number), np.uint8), (height, width, 1)))


def flat_color(number: int) -> list[int]:
    return [number % 256, number * 7 % 256, number * 31 % 256]


def write_images(folder: Path, numbers: Sequence[int]) -> None:
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (images / f"{number:06d}.jpg").write_bytes(flat_image(number))


def write_zip(folder: Path, numbers: Sequence[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("img_align_celeba/", b"")
        for number in numbers:
            archive.writestr(f"img_align_celeba/{number:06d}.jpg", flat_image(number))
    return path


def write_raw(raw: Path, labels: CelebALabels) -> Path:
    """Labels and all images; gives ``raw``."""
    write_labels(raw / "celeba", labels)
    write_images(raw / "celeba", range(1, len(labels.male) + 1))
    return raw
