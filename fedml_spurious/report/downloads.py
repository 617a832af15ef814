"""Files inside the page, as data links."""

from __future__ import annotations

import base64
import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_COMPRESSED_ABOVE = 50_000  # bytes


@dataclass(frozen=True)
class Download:
    """A file inside the page.

    Attributes:
        name: what it is saved as.
        what: what it holds.
        link: its content.
        size: bytes of the content, before it was compressed.
    """

    name: str
    what: str
    link: str
    size: int


def make_download(name: str, what: str, content: str, kind: str = "text/csv") -> Download:
    """A file of text; a large one is compressed, the same way every time."""
    data = content.encode()
    size = len(data)
    if size > _COMPRESSED_ABOVE:
        name, kind, data = f"{name}.gz", "application/gzip", gzip.compress(data, mtime=0)
    return Download(name, what, f"data:{kind};base64,{base64.b64encode(data).decode()}", size)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV; None is an empty cell, floats keep every digit."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
