"""Folders that one process holds, and temporary folders of libraries."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import require_writable_folder, sweep_drafts

logger = logging.getLogger(__name__)


@contextmanager
def hold_folder(path: Path, option: str | None = "--output") -> Iterator[None]:
    """Keep a folder from being written by two runs at once; created where it is absent.

    The lock goes with the process, however that ends. Some network file systems have no locks; there nothing
    is kept. Whoever holds the folder removes the drafts of processes that were killed in it. A folder that
    was created and is still empty at the end is removed again.

    Args:
        path: the folder.
        option: what names another folder, in messages; None where no other will do.

    Raises:
        InputError: the folder cannot be written, or another process holds it.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, created)
        require_writable_folder(path)
        try:
            stack.enter_context(_locked(path))
            sweep_drafts(path)
        except BlockingIOError:
            elsewhere = f", or give another {option}" if option else ""
            raise InputError(
                f"{path}: another process is working on the run in this folder; wait for it or end it"
                f"{elsewhere}"
            ) from None
        except OSError as error:
            logger.info("%s cannot be locked: %s", path, error)
        yield


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


SCRATCH = ".scratch"


_PRIVATE = "fedml_spurious_rank_"


_MOMENT = 60.0


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Let libraries put their temporary files and caches inside the run folder; removed at the end.

    Importing FedML makes temporary folders (wandb) and torch makes a cache folder, both under the system's
    temporary folder unless they are told otherwise.
    """
    scratch = path.absolute() / SCRATCH  # read by processes that others start, in folders of their own
    variables = {"TORCHINDUCTOR_CACHE_DIR": "torch", "MPLCONFIGDIR": "matplotlib", "TMPDIR": "tmp"}
    before = {name: os.environ.get(name) for name in variables}
    tempdir = tempfile.tempdir
    for name, folder in variables.items():
        (scratch / folder).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(scratch / folder)
    tempfile.tempdir = str(scratch / "tmp")
    try:
        yield scratch
    finally:
        tempfile.tempdir = tempdir
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for :func:`scratch_folder` outside the run folder, removed at the end.

    A process that is killed removes nothing; the next one does, on the same host.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PRIVATE) as path, ExitStack() as stack:
        with suppress(OSError):  # where there are no locks, nothing is ever swept
            stack.enter_context(_locked(Path(path)))
        yield Path(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; OSError where another process has it, or there are no locks."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(place: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in place.glob(f"{_PRIVATE}*"):
        # Whoever makes one locks it a moment later, and keeps nothing else in it.
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _MOMENT
            if old and [path.name for path in folder.iterdir()] == [SCRATCH]:
                with _locked(folder):
                    shutil.rmtree(folder)
