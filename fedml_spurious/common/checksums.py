"""The digests of a run's files: one that was damaged, edited or taken from another run is noticed when read.

``checksums.jsonl`` in a run folder has a line for every file that was written below it. The line comes
before the file, with the digest of what was there until then, so that a kill between the two leaves a file
that is known. Lines that cannot be read count as absent: their files are not known, and are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError

CHECKSUMS = "checksums.jsonl"

_OF_A_TRAINING = ("divergence",)
_WITH_ITS_FOLDER = ("identity.json", "trajectory.csv", "details.json", "details.csv")


def remedy(path: Path) -> str:
    """What to do where a file of a run folder is not what it should be."""
    if path.name.startswith("audit."):
        return "audit the run again, which makes it anew"
    # What these tell of is not made again while its results are there.
    what = f"the folder {path.parent}" if path.name in _WITH_ITS_FOLDER else "the file"
    if path.parent.name in _OF_A_TRAINING:
        what = f"the folder {path.parent.parent}"
    return f"remove {what} and continue with --resume, which makes it again"


@dataclass(frozen=True)
class _Version:
    """A content: its digest and its number of bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, content: bytes) -> _Version:
        return cls(hashlib.sha256(content).hexdigest(), len(content))

    @classmethod
    def of_file(cls, path: Path) -> _Version:
        return cls(sha256_of(path), path.stat().st_size)


@dataclass(frozen=True)
class _Record:
    """What a file may hold: what was written last, or what was there before where that was cut off.

    ``adopted`` is one that an older version wrote, which kept no digests.
    """

    now: _Version
    before: _Version | None = None
    adopted: bool = False


class Checksums:
    """The digests of the files below one folder.

    Args:
        path: ``checksums.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, _Record] = {}
        # What this process has seen on the disk, and the running digests of the files that it lets grow.
        self._seen: dict[str, _Version] = {}
        self._growing: dict[str, Any] = {}
        content = path.read_bytes()
        for line in content.splitlines():
            self._take(line)
        # A line that a kill cut short must not run into the next one.
        self._gap = b"" if content.endswith(b"\n") or not content else b"\n"
        self.state = _state_of(path)

    def _take(self, line: bytes) -> None:
        try:
            found = json.loads(line)
            before = _Version(*found["before"]) if "before" in found else None
            record = _Record(_Version(*found["now"]), before, bool(found.get("adopted")))
            self._records[str(found["file"])] = record
        except (ValueError, LookupError, TypeError, RecursionError):
            return

    def _name(self, path: Path) -> str:
        return path.absolute().relative_to(self.path.parent).as_posix()

    def record(self, path: Path, draft: Path) -> None:
        """Note that ``draft`` is about to take the place of ``path``."""
        name = self._name(path)
        before, known = None, self._records.get(name)
        if known is not None and path.is_file():
            before = self._seen.get(name) or _Version.of_file(path)
        # What is overwritten because it is not what the run wrote is no version of the file.
        kept = before if known is not None and before in (known.now, known.before) else None
        self._forget(name)
        self._append(name, _Record(_Version.of_file(draft), kept), flush=True)

    def done(self, path: Path, growing: Any = None) -> None:
        """Note that what :meth:`record` or :meth:`record_growth` announced is on the disk.

        Args:
            path: the file.
            growing: what :meth:`record_growth` gave.
        """
        name = self._name(path)
        self._seen[name] = self._records[name].now
        if growing is not None:
            self._growing[name] = growing

    def _forget(self, name: str) -> None:
        # Until a write is done nobody knows what the file holds.
        self._seen.pop(name, None)
        self._growing.pop(name, None)

    def record_growth(self, path: Path, content: bytes) -> tuple[int, Any]:
        """Note that ``content`` is about to be appended to ``path``.

        Not flushed to the disk: rows that the power cut off from their line here are dropped, and made again.

        Returns:
            Number of bytes after which the content is to stand, and what :meth:`done` is to be given.

        Raises:
            InputError: the file is not what the run wrote.
        """
        name = self._name(path)
        if name not in self._growing:
            whole = self.written(path, path.read_bytes(), grows=True)
            if whole is None:
                raise changed(path)
            self._growing[name], self._seen[name] = hashlib.sha256(whole), _Version.of(whole)
        digest, before = self._growing[name], self._seen[name]
        self._forget(name)
        digest.update(content)
        now = _Version(digest.hexdigest(), before.size + len(content))
        self._append(name, _Record(now, before), flush=False)
        return before.size, digest

    def _append(self, name: str, record: _Record, *, flush: bool) -> None:
        line = self._gap + _line(name, record)
        with self.path.open("ab") as stream:
            stream.write(line)
            stream.flush()
            if flush:
                os.fsync(stream.fileno())
        self._records[name], self._gap = record, b""
        self.state = _state_of(self.path)

    def written(self, path: Path, content: bytes, *, grows: bool = False) -> bytes | None:
        """How much of the content of ``path`` this run has written; None where it is another content.

        Args:
            path: the file.
            content: all of it.
            grows: whether lines are appended to it, so that its end may be cut off, or unknown.
        """
        name = self._name(path)
        known = self._records.get(name)
        if known is None:
            return None
        if _Version.of(content) in (known.now, known.before):
            return content
        if grows and _Version.of(content[: known.now.size]) == known.now:
            return content[: known.now.size]
        cut_off = grows and known.before is not None and not content.endswith(b"\n")
        if cut_off and known.before is not None and len(content) < known.now.size:
            whole = content[: known.before.size]
            return whole if _Version.of(whole) == known.before else None
        return None

    def is_unchanged(self, path: Path) -> bool:
        """Whether ``path`` is as this run wrote it."""
        known = self._records.get(self._name(path))
        return known is not None and _Version.of_file(path) in (known.now, known.before)

    def is_adopted(self, path: Path) -> bool:
        """Whether ``path`` is of an older version, which kept no digests."""
        known = self._records.get(self._name(path))
        return known is not None and known.adopted


def _line(name: str, record: _Record) -> bytes:
    content: dict[str, Any] = {"file": name, "now": astuple(record.now)}
    content |= {"before": astuple(record.before)} if record.before else {}
    content |= {"adopted": True} if record.adopted else {}
    return json.dumps(content).encode() + b"\n"


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


_opened: dict[Path, Checksums] = {}


def checksums_of(path: Path) -> Checksums | None:
    """The digests of the run folder that ``path`` lies in; None outside of run folders, and in older ones."""
    for folder in path.absolute().parents:
        kept = folder / CHECKSUMS
        try:
            if not kept.is_file():
                continue
            found = _opened.get(kept)
            if found is None or found.state != _state_of(kept):
                found = _opened[kept] = Checksums(kept)
        except OSError as error:
            raise unreadable(kept, error) from error
        return found
    return None


_ROOMS = ("global", "personal", "tuning", "silos")


def keep_checksums(folder: Path) -> None:
    """Keep digests of everything that is written below ``folder`` from here on.

    What is there of a run that kept none is taken as it is.
    """
    path = folder / CHECKSUMS
    if path.exists():
        return
    parts = [folder.glob("*"), *((folder / room).rglob("*") for room in _ROOMS)]
    lines = [
        _line(found.relative_to(folder).as_posix(), _Record(_Version.of_file(found), adopted=True))
        for found in sorted(chain(*parts))
        if found.suffix in (".csv", ".json", ".pt", ".yaml") and found.is_file()
    ]
    draft = folder / ".checksums.partial"
    try:
        draft.write_bytes(b"".join(lines))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def is_unchanged(path: Path) -> bool:
    """Whether a file is as its run wrote it; files that are outside of run folders are."""
    kept = checksums_of(path)
    return kept is None or kept.is_unchanged(path)


def require_unchanged(path: Path) -> None:
    """Make sure that a file of a run folder is as the run wrote it; other files pass.

    Raises:
        InputError: it was damaged, edited, or is of another run, or cannot be read.
    """
    try:
        unchanged = is_unchanged(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not unchanged:
        raise changed(path)


def changed(path: Path) -> InputError:
    """The error for a file that is not what its run wrote."""
    return InputError(
        f"{path}: is not what this run wrote (its checksum differs): it was damaged, edited, or is of "
        f"another run; {remedy(path)}"
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file of a run that cannot be opened: it may be whole, and is not to be removed."""
    if isinstance(error, FileNotFoundError):
        audit = path.name.startswith("audit.")
        what = "audit the run again" if audit else "continue the run with --resume"
        return InputError(f"{path}: is missing; {what}, which makes it again")
    return InputError(
        f"{path}: cannot be read ({error.strerror or error}). It may be whole: make it readable for you, and "
        "try again"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
