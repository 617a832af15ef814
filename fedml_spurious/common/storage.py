"""Atomic files: a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError, RunError

PARTIAL_SUFFIX = ".partial"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; on success it replaces ``path``, else it is removed.

    Args:
        path: the file to make; its folder is created.

    Yields:
        The path to write to, in the same folder.

    Raises:
        RunError: the file could not be written (full disk, lost permission); ``path`` is as it was.
    """
    # One name per process: two processes that write the same file must not share the draft.
    draft = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        _flush_to_disk(draft)
        os.replace(draft, path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); nothing of it was kept. "
            "Free space or permissions on that disk, then continue with --resume"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    _flush_to_disk(path.parent)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically; ``None`` becomes an empty cell, floats keep every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


_AGAIN = "remove the file and continue with --resume, which makes it again"


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file that :func:`write_csv` wrote; cells stay text.

    Raises:
        InputError: the file cannot be read or is cut short.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); {_AGAIN}") from None
    if not text.endswith("\n"):
        raise InputError(f"{path}: broken table, its last line is cut short; {_AGAIN}")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{path}: broken table, line {number} has another number of cells; {_AGAIN}")
    return rows


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that :func:`write_json` wrote.

    Args:
        path: the file.
        keys: what it must have.

    Raises:
        InputError: the file cannot be read, or lacks a key.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {_AGAIN}") from None
    if not isinstance(content, dict) or not all(key in content for key in keys):
        raise InputError(f"{path}: broken, expected {', '.join(keys)}; {_AGAIN}")
    return content


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_writable_folder(folder: Path) -> None:
    """Create ``folder`` and make sure that files can be written there.

    Raises:
        InputError: it is no folder, or cannot be created or written.
    """
    probe = folder / f".writable.{os.getpid()}{PARTIAL_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}). Give a folder that you may write to"
        ) from error
