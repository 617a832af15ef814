"""Small raw folders in MNIST's idx format and in Coil20's layout, and a digest of what is made of them."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
from image_bytes import encode

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SPLITS

MNIST_PARTS = {"train": ("train", 60), "test": ("t10k", 40)}


def idx_bytes(array: np.ndarray) -> bytes:
    """The idx format as its authors describe it: 0, 0, type 8, dimensions, big-endian sizes, values."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_digits(part: str) -> tuple[np.ndarray, np.ndarray]:
    size = MNIST_PARTS[part][1]
    rng = np.random.default_rng(size)
    images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
    return images, np.arange(size, dtype=np.uint8) % 10


def write_mnist(folder: Path, *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (prefix, _) in MNIST_PARTS.items():
        for kind, array in zip(("images-idx3", "labels-idx1"), make_digits(part), strict=True):
            content = idx_bytes(array)
            name = f"{prefix}-{kind}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (folder / name).write_bytes(content)


def coil20_view(thing: int, view: int) -> np.ndarray:
    """A square on black whose size and brightness say which object and view it is."""
    image = np.zeros((128, 128), dtype=np.uint8)
    image[20 : 60 + 2 * thing, 20 : 40 + view // 2 * 2] = 100 + view
    return image


def write_coil20(folder: Path) -> None:
    folder.mkdir(parents=True)
    for thing in range(20):
        for view in range(72):
            (folder / f"obj{thing + 1}__{view}.png").write_bytes(
                encode(coil20_view(thing, view), compress_level=1)
            )


def digest_arrays(folder: SplitFolder) -> str:
    """SHA-256 over all arrays of all clients and splits, in order."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for client in folder.client_ids:
            samples = folder.load(client, split)
            for column in ("image", "label", "spurious", "aligned", "source"):
                digest.update(np.ascontiguousarray(getattr(samples, column)).tobytes())
    return digest.hexdigest()
