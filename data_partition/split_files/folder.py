"""Client split files as the experiments read them: one client at a time, checked, sealed while training."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_partition.split_files.meta import META_SUFFIX, SPLITS, SplitMeta, read_meta, split_path
from data_partition.split_files.reading import open_split, read_client, require_clients, unreadable
from data_partition.split_files.samples import Samples
from fedml_spurious.common import advice
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError, SealedError
from fedml_spurious.common.words import counted

SEALED_SPLIT = "test_bc"


class SplitFolder:
    """A folder of client split files, read lazily: memory holds only what was asked for.

    Nothing stays open between two reads, so the object can be used in forked and in pickled workers.

    Args:
        folder: holds ``NAME_meta.json`` and the four split files.
        name: which data set, where the folder holds several.
        verify: compare every file with its checksum first (about a second per 2 GB).
        files: make sure that the files are there; without them only their description can be read.

    Attributes:
        name: data set.
        meta: its description.
        client_ids: ids in string order, which is FedML's order.
        num_classes: classes over the whole federation.
        image_shape: (H, W, 3).
        has_samples: whether the files are there, and not their description alone.
        fingerprint: hexadecimal digest of the content of the four files.

    Raises:
        InputError: a file is missing, cut short, edited, or belongs to other splits.
    """

    def __init__(
        self, folder: Path, *, name: str | None = None, verify: bool = True, files: bool = True
    ) -> None:
        self.folder = Path(folder)
        self.meta: SplitMeta = read_meta(_find_meta(self.folder, name))
        self.name = self.meta.name
        self.client_ids = tuple(sorted(self.meta.clients))
        self._places = {client: place for place, client in enumerate(self.client_ids)}
        self.num_classes = self.meta.num_classes
        self.image_shape = self.meta.image_shape
        self._seal = _Seal()
        self.has_samples = files
        if files:
            self._require_files(verify)
        described = [(split, self.meta.files[split]) for split in SPLITS if split in self.meta.files]
        checksums = "\n".join(f"{split} {file.sha256}" for split, file in described)
        self.fingerprint = hashlib.sha256(checksums.encode()).hexdigest()

    def _require_files(self, verify: bool) -> None:
        if not self.meta.files:
            raise InputError(
                f"{self.folder}: only the counts of {self.name} are there (a dry run), no images; "
                f"make the splits without {advice.option('dry_run')}"
            )
        again = advice.make_again(self.folder)
        for split in SPLITS:
            path, expected = split_path(self.folder, self.name, split), self.meta.files[split]
            if not path.is_file():
                raise InputError(f"{path}: missing; {again}")
            size = path.stat().st_size
            if size != expected.bytes:
                change = "cut short" if size < expected.bytes else "edited"
                raise InputError(
                    f"{path}: {change}: {counted(size, 'byte')}, expected {expected.bytes}; {again}"
                )
            try:
                differs = verify and sha256_of(path) != expected.sha256
            except OSError as error:
                raise unreadable(path, error) from error
            if differs:
                raise InputError(f"{path}: edited or damaged (its checksum differs); {again}")

    def check(self, clients: Iterable[str] | None = None) -> None:
        """Compare the samples with their description, but for what the images show.

        Args:
            clients: whose samples are looked at; all where absent.

        Raises:
            InputError: they are not as they are described.
        """
        for split in SPLITS:
            path = split_path(self.folder, self.name, split)
            with open_split(path) as file:
                require_clients(file, path, self.meta)
                for client in self.client_ids if clients is None else clients:
                    read_client(file, path, self.meta, client, split, images=False)

    def require_readable(self, client_id: str, split: str) -> None:
        """Make sure that a split may be read now.

        Raises:
            InputError: there is no such client or split.
            SealedError: the bias-conflicting test set was asked for inside :meth:`sealed`.
        """
        self._require_known(client_id, split)
        if self._seal.closed and split == SEALED_SPLIT:
            raise SealedError(
                f"client {client_id}: the bias-conflicting test set must not be read while training, "
                "tuning or selecting"
            )

    def index(self, client_id: str) -> int:
        """Place of a client among the ids, from 0.

        Raises:
            InputError: there is no such client.
        """
        self._require_client(client_id)
        return self._places[client_id]

    def count(self, client_id: str, split: str) -> int:
        """Number of samples of a client in a split; no split file is opened."""
        self._require_known(client_id, split)
        return self.meta.clients[client_id].counts[split]

    def load(self, client_id: str, split: str) -> Samples:
        """The samples of one client in one split.

        Raises:
            InputError: there is no such client or split, the file cannot be read, or the samples are not as
                they are described.
            SealedError: the bias-conflicting test set was asked for inside :meth:`sealed`.
        """
        self.require_readable(client_id, split)
        path = split_path(self.folder, self.name, split)
        with open_split(path) as file:
            samples = read_client(file, path, self.meta, client_id, split)
        assert samples is not None  # images were asked for
        return samples

    def _require_known(self, client_id: str, split: str) -> None:
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        self._require_client(client_id)

    def _require_client(self, client_id: str) -> None:
        if client_id not in self.meta.clients:
            raise InputError(
                f"{self.folder}: no client {client_id!r}; there are {self.client_ids[0]} to "
                f"{self.client_ids[-1]}{self.meta.hint(client_id)}"
            )

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """Refuse to read the bias-conflicting test set inside the block; blocks may be nested.

        It is the seal of all folders that :func:`share_seal` was given together with this one.
        """
        self._seal.closed += 1
        try:
            yield
        finally:
            self._seal.closed -= 1

    @contextmanager
    def unsealed(self) -> Iterator[None]:
        """Allow a measurement to read every split inside the block, within :meth:`sealed` too.

        Only functions that measure use it; what they read must not come back to what is being trained.
        """
        seal = self._seal
        closed, seal.closed = seal.closed, 0
        try:
            yield
        finally:
            seal.closed = closed


@dataclass
class _Seal:
    """``closed``: how many blocks keep the bias-conflicting test sets from being read."""

    closed: int = 0


def share_seal(folders: Iterable[SplitFolder]) -> None:
    """Let what seals one of these folders seal all: federated seeds may have partitions of their own."""
    found = list(folders)
    for folder in found:
        folder._seal = found[0]._seal


def _refuse_fedmls(folder: Path) -> None:
    """Refuse HDF5 files as FedML's loaders read them, such as those of fed_emnist."""
    for path in sorted(folder.glob("*_train.h5")):
        raise InputError(
            f"{path}: has no description of ours beside it. If it is FedML's own HDF5 (fed_emnist, "
            "fed_cifar100), it tells no spurious feature: load it with FedML, and write the loaders with "
            "data_partition.own.from_fedml, which is told it"
        )


def _find_meta(folder: Path, name: str | None) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with client split files")
    found = sorted(path for path in folder.glob(f"*{META_SUFFIX}") if not path.name.startswith("."))
    names = [path.name.removesuffix(META_SUFFIX) for path in found]
    if name in names:
        return folder / f"{name}{META_SUFFIX}"
    if name is not None and names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InputError(
            f"{folder}: holds no {name}{META_SUFFIX}, so no split files of {name!r}, but those of "
            f"{', '.join(names)}.{hint}"
        )
    if not found:
        _refuse_fedmls(folder)
        raise InputError(
            f"{folder}: holds no *{META_SUFFIX}, so no finished client splits; "
            "make some with `fedml-spurious partition NAME --out DIR`"
        )
    if len(found) > 1:
        raise InputError(f"{folder}: holds several data sets ({', '.join(names)}); name the one to use")
    return found[0]
