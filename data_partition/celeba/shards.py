"""Decoding many images in parallel, in bounded memory, so that a killed run loses little.

The images of one client are one shard: a file in a hidden folder beside the result, written atomically and
named by what it was made from. A rerun takes the shards that are there; the folder goes when the result is
complete. Memory holds a few clients at a time, whatever their number.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import PIL

from data_partition.celeba.images import IMAGE_SHAPE, ImageSource, decode
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.ends import leave_ends_to_the_parent
from fedml_spurious.common.errors import RunError
from fedml_spurious.common.storage import atomic_path, require_writable_folder

R = TypeVar("R")

_VERSION = 1  # of crop and resize: shards of another version are not taken
_AHEAD = 4  # tasks waiting per worker
_WATCH_SECONDS = 0.5


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    leave_ends_to_the_parent()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A killed parent cannot say goodbye, and its workers would wait for work for ever.
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


class Pool:
    """Runs functions of a module on worker processes.

    Args:
        workers: number of processes; None takes one per core that this process may use.
    """

    def __init__(self, workers: int | None) -> None:
        self._workers = workers or _num_cores()

    def __enter__(self) -> Self:
        self._executor = ProcessPoolExecutor(
            self._workers, initializer=_start_worker, initargs=(os.getpid(),)
        )
        self._executor.submit(os.getpid)  # starts the processes before files are open that they would inherit
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[..., R], tasks: Iterable[tuple[object, ...]]) -> Iterator[R]:
        """Results in the order of the tasks; only a few of the tasks are in the works at a time."""
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(self._executor.submit(function, *task))
                if len(waiting) >= self._workers * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RunError(
                f"a worker process was killed, perhaps for lack of memory. {advice.use_fewer_workers()}; "
                "images that are decoded already are not decoded again"
            ) from error


def digest_images(
    pool: Pool, source: ImageSource, numbers: Sequence[IndexArray], progress: Callable[[int], None]
) -> tuple[list[str], str]:
    """SHA-256 of the files of each client's images.

    Args:
        pool: where to do it.
        source: of the images.
        numbers: image numbers of each client, pairwise disjoint.
        progress: told how many images were read since it was told last.

    Returns:
        One digest per client and one of all images, in hexadecimal. A digest is that of the digests of
        the files in the order of the image numbers, so a folder and its zip have the same.
    """
    per_client = []
    files: dict[int, bytes] = {}
    results = pool.map(_digest, ((source, images) for images in numbers))
    for images, digests in zip(numbers, results, strict=True):
        files.update(zip(images.tolist(), digests, strict=True))
        per_client.append(hashlib.sha256(b"".join(digests)).hexdigest())
        progress(len(images))
    return per_client, hashlib.sha256(b"".join(files[number] for number in sorted(files))).hexdigest()


def _digest(source: ImageSource, numbers: IndexArray) -> list[bytes]:
    return [hashlib.sha256(source.read(number)).digest() for number in numbers.tolist()]


@contextmanager
def shard_folder(out: Path, name: str) -> Iterator[Path]:
    """A folder for shards beside the result; removed when the block ends well, else kept for a rerun."""
    folder = out / f".{name}.decoded"
    require_writable_folder(folder)
    try:
        yield folder
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


def decoded_clients(
    pool: Pool, source: ImageSource, numbers: Sequence[IndexArray], digests: Sequence[str], folder: Path
) -> Iterator[npt.NDArray[np.uint8]]:
    """The images of one client after the other.

    Args:
        pool: where to decode.
        source: of the images.
        numbers: image numbers of each client.
        digests: of the image files of each client, from :func:`digest_images`.
        folder: for the shards, from :func:`shard_folder`.

    Yields:
        The pixels of a client's images in the order of their numbers, shape (n, 64, 64, 3).
    """
    version = f"v{_VERSION}-pillow{_pillow_version()}"
    shards = [folder / f"{digest}-{version}.npy" for digest in digests]
    tasks = zip([source] * len(shards), numbers, shards, strict=True)
    for images, shard, _ in zip(numbers, shards, pool.map(_decode_shard, tasks), strict=True):
        pixels = _load_shard(shard, len(images))
        if pixels is None:
            raise RunError(f"{shard}: vanished while it was needed; start again")
        yield pixels


def _pillow_version() -> str:
    return str(PIL.__version__)


def _decode_shard(source: ImageSource, numbers: IndexArray, shard: Path) -> None:
    if _load_shard(shard, len(numbers)) is not None:
        return
    pixels = np.empty((len(numbers), *IMAGE_SHAPE), dtype=np.uint8)
    for position, number in enumerate(numbers.tolist()):
        pixels[position] = decode(source.read(number), source.where(number), number)
    # An open stream: given a name, NumPy would append its own suffix.
    with atomic_path(shard) as draft, draft.open("wb") as stream:
        np.save(stream, pixels)


def _load_shard(shard: Path, num_images: int) -> npt.NDArray[np.uint8] | None:
    """The shard, or None if there is no such shard of that size."""
    try:
        pixels = np.load(shard)
    except (OSError, ValueError, EOFError):
        return None
    fits = pixels.dtype == np.uint8 and pixels.shape == (num_images, *IMAGE_SHAPE)
    return pixels if fits else None
