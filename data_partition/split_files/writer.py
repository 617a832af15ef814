"""Client split files: HDF5 in the layout that FedML's own loaders read, written client by client.

``NAME_<split>.h5`` holds groups ``examples/<client id>/`` with the datasets ``image``, ``label``,
``spurious``, ``aligned`` and ``source``; :mod:`data_partition.split_files.meta` describes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py

from data_partition.split_files.draft import Draft, interrupts_deferred
from data_partition.split_files.meta import (
    SPLITS,
    ClientMeta,
    FileMeta,
    SplitInfo,
    SplitMeta,
    meta_path,
    read_meta,
    split_path,
    write_meta,
)
from data_partition.split_files.reading import unreadable
from data_partition.split_files.samples import COLUMN_TYPES, Samples, count_groups
from fedml_spurious.common import advice
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.storage import PARTIAL_SUFFIX, require_writable_folder

_ROWS_PER_CHUNK = 256


def already_there(folder: Path, info: SplitInfo, *, overwrite: bool = False) -> Path | None:
    """The description in ``folder`` if it holds exactly the data set that ``info`` describes.

    Args:
        folder: where the split files are to be written.
        info: the data set that is wanted.
        overwrite: replace whatever is there.

    Returns:
        The path of the description when nothing is left to do, else None (also where only the counts of
        a dry run are there).

    Raises:
        InputError: the folder holds this data set made with other options, or a damaged one.
    """
    path = meta_path(folder, info.name)
    if overwrite or not path.exists():
        return None
    meta = read_meta(path)
    if not meta.files:
        return None
    compared = {"options", "raw"}
    old = meta.model_dump(mode="json", include=compared)
    new = info.model_dump(mode="json", include=compared)
    if old != new:
        differing = ", ".join(_differences(old["options"], new["options"])) or "other raw files"
        raise InputError(f"{path}: already there, made differently ({differing}); {advice.make_elsewhere()}")
    for split, file in meta.files.items():
        data = split_path(folder, info.name, split)
        try:
            whole = data.is_file() and sha256_of(data) == file.sha256
        except OSError as error:
            raise unreadable(data, error) from error
        if not whole:
            raise InputError(f"{data}: missing or damaged; {advice.make_anew(folder)}")
    return path


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [f"{key} {old.get(key)!r}, now {new.get(key)!r}"
            for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]  # fmt: skip


class SplitWriter:
    """Writes the four split files client by client and the description last.

    Used as a context manager. Everything goes to drafts beside the final files; they are renamed when
    the block ends well, the description last of all. When it ends with an exception nothing is kept.
    A client has to be announced with :meth:`add_client`; splits it is not written to are empty there.

    Args:
        folder: where the files go; created.
        info: what is known of the data set.
        overwrite: replace a data set of the same name.
        compress: gzip the images; worth it for digits on black, not for photographs.

    Raises:
        InputError: the folder cannot be written, or already holds this data set.
        RunError: writing failed, for example on a full disk.
    """

    def __init__(
        self, folder: Path, info: SplitInfo, *, overwrite: bool = False, compress: bool = True
    ) -> None:
        self.folder = folder
        self.info = info
        self._compress = compress
        self._clients: dict[str, ClientMeta] = {}
        self._drafts: dict[str, Draft] = {}
        self._files: dict[str, Any] = {}
        require_writable_folder(folder)
        path = meta_path(folder, info.name)
        if not overwrite and path.exists() and read_meta(path).files:
            raise InputError(f"{path}: already there; {advice.make_elsewhere()}")

    def _draft_path(self, split: str) -> Path:
        path = split_path(self.folder, self.info.name, split)
        return path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")

    def __enter__(self) -> Self:
        self._remove_orphans()
        with interrupts_deferred():
            try:
                for split in SPLITS:
                    self._drafts[split] = Draft(self._draft_path(split))
                    self._files[split] = h5py.File(self._drafts[split], "w")
            except OSError as error:
                self._discard()
                raise self._failure(error) from error
        return self

    def add_client(
        self,
        client_id: str,
        *,
        classes: Sequence[int],
        color_map: Mapping[int, int] | None = None,
        conflict_map: Mapping[int, int] | None = None,
    ) -> None:
        """Announce a client before its samples are written; see :class:`ClientMeta`."""
        if client_id in self._clients:
            raise ValueError(f"client {client_id} was announced twice")
        self._clients[client_id] = ClientMeta(
            classes=tuple(sorted(classes)),
            color_map=None if color_map is None else dict(sorted(color_map.items())),
            conflict_map=None if conflict_map is None else dict(sorted(conflict_map.items())),
            counts=dict.fromkeys(SPLITS, 0),
            groups={split: {} for split in SPLITS},
        )

    def write(self, client_id: str, split: str, samples: Samples) -> None:
        """Write the samples of one client in one split, once.

        Raises:
            ValueError: unknown client or split, written before, or values outside their range.
            RunError: the disk is full or the file cannot be written.
        """
        client = self._clients.get(client_id)
        if client is None or split not in SPLITS:
            raise ValueError(f"unknown client or split: {client_id!r}, {split!r}")
        self._require_ranges(samples)
        with interrupts_deferred():
            self._write_arrays(f"examples/{client_id}", split, samples)
        counts = {**client.counts, split: len(samples)}
        groups = {**client.groups, split: count_groups(samples.label, samples.spurious)}
        self._clients[client_id] = client.model_copy(update={"counts": counts, "groups": groups})

    def _require_ranges(self, samples: Samples) -> None:
        if samples.image.shape[1:] != self.info.image_shape:
            raise ValueError(f"images of {samples.image.shape[1:]}, announced {self.info.image_shape}")
        limits = {"label": self.info.num_classes, "spurious": len(self.info.spurious_names), "aligned": 2}
        for column, limit in limits.items():
            values = getattr(samples, column)
            if len(values) and not (0 <= values.min() and values.max() < limit):
                raise ValueError(f"{column}: expected 0..{limit - 1}, got {values.min()}..{values.max()}")

    def _write_arrays(self, group: str, split: str, samples: Samples) -> None:
        target = self._files[split].create_group(group)
        for column in COLUMN_TYPES:
            array = getattr(samples, column)
            layout: dict[str, Any] = {}
            if column == "image" and len(array) and self._compress:
                chunk = (min(len(array), _ROWS_PER_CHUNK), *array.shape[1:])
                layout = {"chunks": chunk, "compression": "gzip", "compression_opts": 1}
            target.create_dataset(column, data=array, **layout)
            self._require_written(split)

    def _require_written(self, split: str) -> None:
        failure = self._drafts[split].failure
        if failure is not None:
            raise self._failure(failure) from failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with interrupts_deferred():
            try:
                if kind is None:
                    self._finish()
            finally:
                self._discard()

    def _finish(self) -> None:
        """Complete, check-sum and rename the drafts; the description makes the set valid."""
        for split, file in self._files.items():
            for client_id in self._clients:
                group = f"examples/{client_id}"
                if group not in file:
                    self._write_arrays(group, split, Samples.empty(self.info.image_shape))
            file.close()
            self._require_written(split)
        try:
            files = {split: self._seal(split) for split in SPLITS}
            # A crash between the renames must not leave an old description beside new files.
            meta_path(self.folder, self.info.name).unlink(missing_ok=True)
            for split in SPLITS:
                os.replace(self._draft_path(split), split_path(self.folder, self.info.name, split))
        except OSError as error:
            raise self._failure(error) from error
        try:
            write_meta(self.folder, SplitMeta.of(self.info, dict(sorted(self._clients.items())), files))
        except RunError:
            for split in SPLITS:
                split_path(self.folder, self.info.name, split).unlink(missing_ok=True)
            raise

    def _seal(self, split: str) -> FileMeta:
        draft = self._drafts[split]
        os.fsync(draft.fileno())
        draft.close()
        path = self._draft_path(split)
        name = split_path(self.folder, self.info.name, split).name
        return FileMeta(name=name, bytes=path.stat().st_size, sha256=sha256_of(path))

    def _failure(self, error: OSError) -> RunError:
        return RunError(
            f"{self.folder}: the splits of {self.info.name} cannot be written ({error.strerror or error}); "
            "nothing of them was kept. Free space or permissions on that disk and start again"
        )

    def _discard(self) -> None:
        for file in self._files.values():
            file.close()
        for split, draft in self._drafts.items():
            draft.close()
            self._draft_path(split).unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove drafts of processes that were killed while writing this data set."""
        name, end = re.escape(self.info.name), re.escape(PARTIAL_SUFFIX)
        pattern = re.compile(rf"\.{name}_\w+\.(?:h5|json)\.(\d+){end}")
        for path in self.folder.glob(f".{self.info.name}_*{PARTIAL_SUFFIX}"):
            match = pattern.fullmatch(path.name)
            if match and not _is_running(int(match[1])):
                path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
