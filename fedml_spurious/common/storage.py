"""Atomic files, of which a reader sees the old content or the new one, and tables that grow by lines."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedml_spurious.common.checksums import changed, checksums_of, is_unchanged, remedy, unreadable
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
        kept = checksums_of(path)
        if kept is not None:
            kept.record(path, draft)
        os.replace(draft, path)
        if kept is not None:
            kept.done(path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        draft.unlink(missing_ok=True)
    _flush_to_disk(path.parent)


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written ({error.strerror or error}); nothing of it was kept. "
        "Free space or permissions on that disk, then continue with --resume"
    )


_DRAFT = re.compile(rf"\..+\.\d+{re.escape(PARTIAL_SUFFIX)}")


def sweep_drafts(folder: Path) -> None:
    """Remove the drafts that killed processes left in and below a folder that nobody else writes to."""
    for path in folder.rglob(f".*{PARTIAL_SUFFIX}"):
        if _DRAFT.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, which takes no space; where the disk has no links, copy it.

    Only for files that are replaced and never changed, such as models; not for tables that grow.
    """
    with atomic_path(path) as draft:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)


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
    write_text(path, _csv_text(columns, rows, header=True))


def append_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Let a table grow by rows, which are on the disk when this returns.

    Where there is no file, it is made with its header. A kill leaves the table with all rows, or with some of
    them and half a line. :func:`read_csv` drops what is not whole, and so does the next call.

    Raises:
        RunError: it could not be written; the table is as it was.
        InputError: it is not what its run wrote.
    """
    if not path.exists():
        write_csv(path, columns, rows)
        return
    content, kept = _csv_text(columns, rows, header=False).encode(), checksums_of(path)
    try:
        with path.open("r+b", buffering=0) as stream:
            end, growing = (
                (_end_of_lines(stream), None) if kept is None else kept.record_growth(path, content)
            )
            stream.truncate(end)
            try:
                _append(stream, content)
            except OSError:
                with suppress(OSError):
                    stream.truncate(end)
                raise
            if kept is not None:
                kept.done(path, growing)
    except OSError as error:
        raise _not_written(path, error) from error


def _append(stream: io.FileIO, content: bytes) -> None:
    stream.seek(0, os.SEEK_END)
    left = memoryview(content)
    while left:
        left = left[stream.write(left) :]
    os.fsync(stream.fileno())


def _end_of_lines(stream: io.FileIO) -> int:
    """Where the last whole line of a file ends."""
    size = stream.seek(0, os.SEEK_END)
    if size:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.seek(0)
            return stream.read().rfind(b"\n") + 1
    return size


def tidy_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, atomically, unless the file has these very bytes already."""
    content = _csv_text(columns, rows, header=True)
    if not path.exists() or path.read_bytes() != content.encode() or not is_unchanged(path):
        write_text(path, content)


def _csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def read_unchanged(path: Path, *, grows: bool = False) -> bytes:
    """The content of a file that was written here, if it is still that.

    Args:
        path: the file.
        grows: whether lines are appended to it, so that half a line at its end is what a kill left, and is
            dropped; it is damage otherwise.

    Raises:
        InputError: it cannot be read, or is not what its run wrote.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    kept = checksums_of(path)
    if kept is None:
        return content[: content.rfind(b"\n") + 1] if grows else content
    found = kept.written(path, content, grows=grows)
    if found is None:
        raise changed(path)
    return found


def read_csv(path: Path, *, grows: bool = False) -> list[dict[str, str]]:
    """Read a CSV file that :func:`write_csv` or :func:`append_csv` wrote; cells stay text.

    Args:
        path: the file.
        grows: whether lines are appended to it, so that half a line at its end is what a kill left, and is
            dropped; it is damage otherwise.

    Raises:
        InputError: the file cannot be read, is cut short, or is not what its run wrote.
    """
    content = read_unchanged(path, grows=grows)
    try:
        text = content.decode()
        if not text.endswith("\n"):
            raise InputError(f"{path}: broken table, its last line is cut short; {remedy(path)}")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); {remedy(path)}") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(
                f"{path}: broken table, line {number} has another number of cells; {remedy(path)}"
            )
    return rows


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that :func:`write_json` wrote.

    Args:
        path: the file.
        keys: what it must have.

    Raises:
        InputError: the file cannot be read, lacks a key, or is not what its run wrote.
    """
    content = read_unchanged(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {remedy(path)}") from None
    if not isinstance(found, dict) or not all(key in found for key in keys):
        raise InputError(f"{path}: broken, expected {', '.join(keys)}; {remedy(path)}")
    return found


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
