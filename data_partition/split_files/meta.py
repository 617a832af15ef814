"""The description beside a set of split files: ``NAME_meta.json``.

The description carries a checksum of itself and one of each split file, so that a file that was cut
short or edited is noticed before anything is trained on it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.storage import write_json
from fedml_spurious.common.validation import describe_errors

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test", "test_bc")
"""Names of the splits: training, validation, biased test, bias-conflicting test."""

TRAINING_SPLITS = SPLITS[:2]
"""What training, tuning and selection may see."""

MAX_CLIENTS = 10_000
MAX_VALUES = 10_000
"""Classes, and values of the spurious feature: a network has a weight for each, and a description a name."""

MAX_SIDE = 4096
"""Height and width of an image."""

META_SUFFIX = "_meta.json"
_CHECKSUM = "checksum"
_SHOWN_NAMES = 10


ClientId = Annotated[str, Field(pattern=r"^[0-9]{4}$")]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Channels = Annotated[int, Field(ge=3, le=3)]
SampleCount = Annotated[int, Field(ge=0)]


class ClientMeta(FrozenModel):
    """What one client holds.

    Attributes:
        classes: classes that it holds, ascending.
        color_map: class -> spurious value that goes with it here; None where alignment does not follow
            a map (see :attr:`SplitInfo.conflicting_groups`).
        conflict_map: class -> spurious value of its bias-conflicting test copies; None without a map.
        counts: samples per split.
        groups: per split, samples per ``"label/spurious"``; groups without samples are absent.
    """

    classes: tuple[int, ...]
    color_map: dict[int, int] | None = None
    conflict_map: dict[int, int] | None = None
    counts: dict[str, SampleCount]
    groups: dict[str, dict[str, SampleCount]]


class FileMeta(FrozenModel):
    """Name, size in bytes and SHA-256 of a file."""

    name: str
    bytes: int
    sha256: str


class SplitInfo(FrozenModel):
    """What is known of a data set before its samples are written.

    Attributes:
        name: data set; the files are called ``NAME_train.h5`` and so on.
        seed: seed of every draw.
        options: every option that it was made with.
        num_classes: classes over the whole federation.
        image_shape: (height, width, 3).
        class_names: one per class.
        spurious_names: one per value of the spurious feature.
        raw: file name -> SHA-256 of what it was made from.
        shared_map: class -> spurious value that the client maps diverge from, None without one.
        conflicting_groups: (label, spurious) pairs that are bias-conflicting on every client; used
            where a client has no ``color_map``.
        personalized_clients: clients that the personalization step is meant for; None for all.
        thresholds: how ``personalized_clients`` were chosen.
        notes: decisions that a user of the data should know.
        left_out: kind of raw sample -> how many are in no split.
    """

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    seed: int = Field(ge=0)
    options: dict[str, Any]
    num_classes: int = Field(ge=1, le=MAX_VALUES)
    image_shape: tuple[Side, Side, Channels]
    class_names: tuple[str, ...]
    spurious_names: tuple[str, ...]
    raw: dict[str, str] = Field(default_factory=dict)
    shared_map: dict[int, int] | None = None
    conflicting_groups: tuple[tuple[int, int], ...] = ()
    personalized_clients: tuple[str, ...] | None = None
    thresholds: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: dict[str, int] = Field(default_factory=dict)

    def remarks(self) -> list[str]:
        """The notes, and what is in no split."""
        return [
            *self.notes,
            *(f"left out: {count:,} {kind}" for kind, count in self.left_out.items() if count),
        ]


class SplitMeta(SplitInfo):
    """The whole of ``NAME_meta.json``.

    Attributes:
        format_version: of the files.
        num_clients: number of clients.
        clients: client id, zero-padded to four digits -> what it holds.
        files: split -> its file; empty when only the counts were asked for (a dry run).
    """

    format_version: int = FORMAT_VERSION
    num_clients: int
    clients: dict[ClientId, ClientMeta]
    files: dict[str, FileMeta]

    @model_validator(mode="after")
    def _parts_fit(self) -> SplitMeta:
        if self.num_clients != len(self.clients):
            raise ValueError(f"num_clients is {self.num_clients}, and {len(self.clients)} are described")
        for split in SPLITS if self.files else ():
            if split not in self.files:
                raise ValueError(f"files: there is no {split}")
            for client, found in self.clients.items():
                if split not in found.counts or split not in found.groups:
                    raise ValueError(f"clients.{client}: there is no {split}")
        if self.files and not self.clients:
            raise ValueError("clients: there is none")
        return self

    @property
    def client_names(self) -> dict[str, str]:
        """What clients of a user's own data were called, by id; empty where they were numbered as the ids."""
        names = self.options.get("client_names")
        if not isinstance(names, list) or len(names) != self.num_clients:
            return {}
        found = dict(zip(sorted(self.clients), map(str, names), strict=True))
        numbered = all(name.isdecimal() and int(name) == int(client) for client, name in found.items())
        return {} if numbered else found

    def hint(self, wanted: str) -> str:
        """The id of a client for somebody who knows what it was called; empty where none was."""
        ids = [client for client, name in self.client_names.items() if name == wanted]
        return f". Did you mean {ids[0]}, which was called {wanted}?" if ids else ""

    def remarks(self) -> list[str]:
        """The notes, what is in no split, and which client is which."""
        names = [f"{client} is {name}" for client, name in self.client_names.items()]
        more = [f"{len(names) - _SHOWN_NAMES} more"] if len(names) > _SHOWN_NAMES else []
        return [
            *super().remarks(),
            *([f"clients: {', '.join([*names[:_SHOWN_NAMES], *more])}"] if names else []),
        ]

    @classmethod
    def of(cls, info: SplitInfo, clients: dict[str, ClientMeta], files: dict[str, FileMeta]) -> SplitMeta:
        """The description of what ``info`` announced."""
        known = {name: getattr(info, name) for name in type(info).model_fields}
        return cls(**known, num_clients=len(clients), clients=clients, files=files)


def client_name(index: int) -> str:
    """The id of client number ``index`` (0..9999): zero-padded, so that string order is the order.

    Raises:
        InputError: the index does not fit into four digits.
    """
    if not 0 <= index < MAX_CLIENTS:
        raise InputError(f"client {index}: at most {MAX_CLIENTS} clients, numbered from 0")
    return f"{index:04d}"


def meta_path(folder: Path, name: str) -> Path:
    """Where the description of data set ``name`` lies in ``folder``."""
    return folder / f"{name}{META_SUFFIX}"


def split_path(folder: Path, name: str, split: str) -> Path:
    """Where the samples of ``split`` lie in ``folder``."""
    return folder / f"{name}_{split}.h5"


def write_meta(folder: Path, meta: SplitMeta) -> Path:
    """Write ``meta`` atomically, with its own checksum, and return the path."""
    content = meta.model_dump(mode="json")
    path = meta_path(folder, meta.name)
    write_json(path, {**content, _CHECKSUM: _checksum(content)})
    return path


def read_meta(path: Path) -> SplitMeta:
    """Read a description and make sure that it is whole and unedited.

    Raises:
        InputError: it is missing, broken, edited, or of another format version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        text = error.strerror or error
        raise InputError(
            f"{path}: cannot be read ({text}); make it readable, or name another folder"
        ) from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError
        again = advice.make_again(path.parent)
        raise InputError(f"{path}: broken or cut short ({error}); {again}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: describes no client splits; expected a JSON object")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version!r}, this program reads {FORMAT_VERSION}; "
            "make the splits again with this version"
        )
    if content.pop(_CHECKSUM, None) != _checksum(content):
        again = advice.make_again(path.parent)
        raise InputError(f"{path}: edited after it was written (its checksum differs); {again}")
    try:
        return SplitMeta.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise InputError(
            f"{path}: describes no client splits: {describe_errors(error, SplitMeta)}"
        ) from error


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
