"""The label files of CelebA, read strictly.

Input: portraits of celebrities (Liu et al. 2015), 202,599 images of 10,177 identities. Label: ``Male``.
Spurious attribute: ``Blond_Hair``. Source: http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, for
non-commercial research only. Three text files describe the images, one row per image in the order of the
image numbers; a row that is missing or shifted would label a face as somebody else's, so nothing is guessed.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_partition.listing import what_is_in
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

FOLDER = "celeba"
ATTRIBUTES_FILE = "list_attr_celeba.txt"
IDENTITIES_FILE = "identity_CelebA.txt"
PARTITION_FILE = "list_eval_partition.txt"
LABEL_FILES = (ATTRIBUTES_FILE, IDENTITIES_FILE, PARTITION_FILE)
CLASS_NAMES = ("female", "male")
SPURIOUS_NAMES = ("non-blond", "blond")

_ATTRIBUTE_VALUES = {"-1": 0, "1": 1}
_PARTITIONS = {"0": 0, "1": 1, "2": 2}
_ENOUGH = 1000  # lines that tell one label file from another
_AGAIN = "Download the file again"


class Group(enum.IntEnum):
    """Class and spurious attribute in one number, ``label + 2 * spurious``."""

    NON_BLOND_FEMALE = 0
    NON_BLOND_MALE = 1
    BLOND_FEMALE = 2
    BLOND_MALE = 3

    @property
    def words(self) -> str:
        """The name as it stands in a text."""
        return self.name.lower().replace("non_", "non-").replace("_", " ")


GROUP_NAMES = tuple(group.name.lower() for group in Group)


@dataclass(frozen=True)
class CelebALabels:
    """What the label files say; row i describes image number i + 1.

    Attributes:
        identity: celebrity of each image, at least 1, shape (N,).
        male: the class, 0 or 1, shape (N,).
        blond: the spurious attribute, 0 or 1, shape (N,).
        partition: official split of each image, 0 train, 1 valid, 2 test, shape (N,); None if unknown.
        checksums: SHA-256 of each label file.
    """

    identity: IndexArray
    male: IndexArray
    blond: IndexArray
    partition: IndexArray | None
    checksums: dict[str, str]

    @property
    def group(self) -> IndexArray:
        """Group of each image, see :class:`Group`, shape (N,)."""
        return self.male + 2 * self.blond


def image_name(number: int) -> str:
    """File name of an image, ``000001.jpg`` for image number 1."""
    return f"{number:06d}.jpg"


def celeba_folder(raw: Path) -> Path:
    """The folder of the label files: torchvision's ``celeba`` under ``raw``, ``raw``, or one deeper."""
    candidates = [raw / FOLDER, raw, raw / FOLDER / FOLDER]
    with suppress(OSError):
        candidates += sorted(path for path in raw.iterdir() if path.is_dir())
    for folder in candidates:
        if any((folder / name).is_file() for name in LABEL_FILES):
            return folder
    raise InputError(
        f"{raw / FOLDER}: none of {', '.join(LABEL_FILES)} is there, nor in {raw}; {what_is_in(raw)}. Give "
        f"with {advice.raw()} the folder that holds torchvision's folder {FOLDER!r}, or {advice.fetch()}"
    )


def read_labels(folder: Path, *, partition: bool = True) -> CelebALabels:
    """Read the label files; Windows line ends are as good as any.

    Args:
        folder: holds the files of ``LABEL_FILES``.
        partition: whether the official splits are needed; else their file may be absent.

    Returns:
        The labels of all images.

    Raises:
        InputError: a file is missing, is no label file, or its rows are not those of images 1, 2, 3, ...
    """
    _require_own_names(folder)
    attributes = _read_lines(folder / ATTRIBUTES_FILE)
    male, blond = _read_attributes(folder / ATTRIBUTES_FILE, attributes)
    names = [ATTRIBUTES_FILE, IDENTITIES_FILE]
    names += [PARTITION_FILE] if partition or (folder / PARTITION_FILE).exists() else []
    columns = {
        name: _read_column(folder / name, _read_lines(folder / name), expected_rows=len(male))
        for name in names[1:]
    }
    return CelebALabels(
        identity=columns[IDENTITIES_FILE],
        male=male,
        blond=blond,
        partition=columns.get(PARTITION_FILE),
        checksums={name: sha256_of(folder / name) for name in names},
    )


def _require_own_names(folder: Path) -> None:
    """Make sure that no label file bears the name of another: the columns of two of them look alike.

    Raises:
        InputError: the content of a file is that of another.
    """
    found = {}
    for name in LABEL_FILES:
        path = folder / name
        kind = _kind(_read_lines(path)) if path.is_file() else ""
        if kind and kind != name:
            found[name] = kind
    if found:
        listed = ", ".join(f"{name} holds what belongs into {kind}" for name, kind in found.items())
        raise InputError(f"{folder}: {listed}. Were the files mixed up? Rename them, or download them again")


def _kind(lines: Sequence[str]) -> str:
    """The label file that has such lines; empty where they tell nothing."""
    if lines and lines[0].strip().isdecimal():
        return ATTRIBUTES_FILE
    cells = [line.split() for line in lines[:_ENOUGH]]
    if not cells or any(len(row) != 2 or not row[1].isdecimal() for row in cells):
        return ""
    numbers = {int(row[1]) for row in cells}
    # Celebrities count from 1, and every official split has images.
    if 0 in numbers and max(numbers) <= max(_PARTITIONS.values()):
        return PARTITION_FILE
    return IDENTITIES_FILE if max(numbers) > max(_PARTITIONS.values()) and 0 not in numbers else ""


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: not found, {what_is_in(path.parent)}. It is one of the label files; {advice.fetch()}"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if content.lstrip()[:1] == b"<":
        raise InputError(
            f"{path}: line 1: is a web page (HTML) and no label file; the host answered with a page instead. "
            f"{_AGAIN} in a browser"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line}: is no text (byte {error.start}). {_AGAIN}") from error
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _read_attributes(path: Path, lines: Sequence[str]) -> tuple[IndexArray, IndexArray]:
    """Columns Male and Blond_Hair, each shape (N,), of the file of 40 attributes."""
    if not lines or not lines[0].strip().isdecimal():
        raise InputError(
            f"{path}: line 1: expected the number of images, got {_shown(lines, 0)}. Remove extra header "
            "lines; a CSV edition of the file will not do"
        )
    num_rows = int(lines[0])
    header = lines[1].split() if len(lines) > 1 else []
    if "Male" not in header or "Blond_Hair" not in header:
        raise InputError(
            f"{path}: line 2: expected the names of the attributes, Male and Blond_Hair among them, "
            f"got {_shown(lines, 1)}"
        )
    male_column, blond_column = header.index("Male") + 1, header.index("Blond_Hair") + 1
    rows = lines[2 : 2 + num_rows]
    male, blond = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    for row, line in enumerate(rows):
        fields = line.split()
        if len(fields) != len(header) + 1:
            raise InputError(
                f"{path}: line {row + 3}: expected a file name and {counted(len(header), 'value')}, "
                f"got {counted(len(fields), 'field')}. {_AGAIN}"
            )
        _check_name(path, row + 3, fields[0], row)
        try:
            male[row] = _ATTRIBUTE_VALUES[fields[male_column]]
            blond[row] = _ATTRIBUTE_VALUES[fields[blond_column]]
        except KeyError as error:
            raise InputError(f"{path}: line {row + 3}: expected 1 or -1, got {error}. {_AGAIN}") from None
    _check_num_rows(path, len(lines) - 2, num_rows, "its first line announces", len(lines))
    return male, blond


def _read_column(path: Path, lines: Sequence[str], *, expected_rows: int) -> IndexArray:
    """The number behind each file name, shape (N,), of a file without header."""
    values = np.empty(expected_rows, np.int64)
    is_partition = path.name == PARTITION_FILE
    for row, line in enumerate(lines[:expected_rows]):
        fields = line.split()
        number = fields[1] if len(fields) == 2 else ""
        if not (number in _PARTITIONS if is_partition else number.isdecimal() and int(number) > 0):
            wanted = "0, 1 or 2" if is_partition else "the number of a celebrity"
            hint = "Remove the extra header line" if row == 0 else _AGAIN
            raise InputError(
                f"{path}: line {row + 1}: expected a file name and {wanted}, got {_shown(lines, row)}. {hint}"
            )
        _check_name(path, row + 1, fields[0], row)
        values[row] = int(number)
    _check_num_rows(path, len(lines), expected_rows, f"{ATTRIBUTES_FILE} has", len(lines))
    return values


def _check_name(path: Path, line: int, name: str, row: int) -> None:
    if name != image_name(row + 1):
        raise InputError(
            f"{path}: line {line}: expected {image_name(row + 1)}, got {name!r}; rows are missing or out of "
            f"order. {_AGAIN}"
        )


def _check_num_rows(path: Path, got: int, expected: int, because: str, last_line: int) -> None:
    if got < expected:
        raise InputError(
            f"{path}: line {last_line}: the file ends after {counted(got, 'row')}, {because} "
            f"{expected:,}; it lacks the last {expected - got:,}. {_AGAIN}"
        )
    if got > expected:
        extra = last_line - (got - expected) + 1
        raise InputError(
            f"{path}: line {extra}: {counted(got - expected, 'row')} more than expected, {because} "
            f"{expected:,}. {_AGAIN}"
        )


def _shown(lines: Sequence[str], index: int) -> str:
    """A line as it may stand in a message."""
    if index >= len(lines):
        return "the end of the file"
    return repr(lines[index][:60] + ("..." if len(lines[index]) > 60 else ""))
