"""The arrays of one client out of a split file, compared with what the description says of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_partition.split_files.meta import SplitMeta
from data_partition.split_files.samples import COLUMN_TYPES, Samples, count_groups
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError


@contextmanager
def open_split(path: Path) -> Iterator[Any]:
    """Open a split file, without a lock: nobody writes to a finished one, and some disks have no locks.

    Raises:
        InputError: it cannot be opened, or what is read inside the block is broken.
    """
    if not path.is_file():  # also a pipe, which would be waited for
        raise InputError(f"{path}: is missing or no file; {advice.make_again(path.parent)}")
    try:
        with _open(path) as file:
            yield file
    except InputError:
        raise
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read ({text}); {advice.make_again(path.parent)}") from error


def _open(path: Path) -> Any:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")  # this process has it open already, as FedML's loaders do


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that may not be opened: it may be whole, and is not to be made again."""
    return InputError(f"{path}: cannot be read ({error.strerror or error}); make it readable for you")


def require_clients(file: Any, path: Path, meta: SplitMeta) -> None:
    """Make sure that an open split file has the clients that are described, and no others.

    Raises:
        InputError: it has not.
    """
    found = {name.decode() for name in _group(file.id, "examples", path)}
    if found != meta.clients.keys():
        odd = min(found ^ meta.clients.keys())
        known = "is described and not there" if odd in meta.clients else "is there and not described"
        raise _mismatch(path, f"client {odd!r} {known}")


def read_client(
    file: Any, path: Path, meta: SplitMeta, client_id: str, split: str, *, images: bool = True
) -> Samples | None:
    """Read and check the samples of one client.

    Args:
        file: the open split file of ``split``.
        path: of the file, for messages.
        meta: what the samples have to agree with.
        client_id: a client that is described.
        split: name of the split.
        images: whether to read the images too; without them they are checked as far as their shape tells.

    Returns:
        The samples; None without images.

    Raises:
        InputError: they are not as they are described.
    """
    group = _group(_group(file.id, "examples", path), client_id, path)
    count = meta.clients[client_id].counts[split]
    arrays = {}
    for name, dtype in COLUMN_TYPES.items():
        column = _column(group, name, path, client_id)
        shape = (count, *meta.image_shape) if name == "image" else (count,)
        # Before anything is read: an array can say that it is larger than any memory.
        if column.shape != shape or column.dtype != dtype:
            raise _mismatch(
                path,
                f"client {client_id}, {name}: {column.dtype} of shape {column.shape}, expected "
                f"{dtype.__name__} of shape {shape}",
            )
        if images or name != "image":
            arrays[name] = np.empty(shape, dtype)
            if count:
                column.read(h5py.h5s.ALL, h5py.h5s.ALL, arrays[name])
    for name, limit in (
        ("label", meta.num_classes),
        ("spurious", len(meta.spurious_names)),
        ("aligned", 2),
    ):
        values = arrays[name]
        if len(values) and not (0 <= values.min() and values.max() < limit):
            odd = values.min() if values.min() < 0 else values.max()
            raise _mismatch(path, f"client {client_id}: {name} {odd}, expected 0 to {limit - 1}")
    if count_groups(arrays["label"], arrays["spurious"]) != meta.clients[client_id].groups[split]:
        raise _mismatch(path, f"client {client_id}: other numbers of samples per class and spurious value")
    return Samples(**arrays) if images else None


# By HDF5's own calls, as h5py has them: its objects make several where one will do, and a run looks at every
# array of every client.


def _group(parent: Any, name: str, path: Path) -> Any:
    """A group that lies in the file itself: links can lead to any other file."""
    found = _hard_linked(parent, name.encode())
    if not isinstance(found, h5py.h5g.GroupID):
        there = parent.links.exists(name.encode())
        raise _mismatch(path, f"{name!r} is a link or no group" if there else f"there is no {name!r}")
    return found


def _column(group: Any, name: str, path: Path, client_id: str) -> Any:
    found = _hard_linked(group, name.encode())
    if not isinstance(found, h5py.h5d.DatasetID) or _is_elsewhere(found):
        raise _mismatch(path, f"client {client_id}, {name}: is missing, or a link, or kept in another file")
    return found


def _hard_linked(group: Any, name: bytes) -> Any:
    """What lies in the file itself under a name; None where nothing does."""
    try:
        link = group.links.get_info(name)
    except RuntimeError:  # asked first, it would be looked up once more
        if group.links.exists(name):
            raise
        return None
    return h5py.h5o.open(group, name) if link.type == h5py.h5l.TYPE_HARD else None


def _is_elsewhere(dataset: Any) -> bool:
    """Whether other files hold its values."""
    kept = dataset.get_create_plist()
    return bool(kept.get_layout() == h5py.h5d.VIRTUAL or kept.get_external_count())


def _mismatch(path: Path, problem: str) -> InputError:
    return InputError(
        f"{path}: {problem}; the samples are not as they are described; {advice.make_again(path.parent)}"
    )
