"""The page itself: one file that opens offline, fetches nothing, and is the same for the same run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_text
from fedml_spurious.common.words import counted
from fedml_spurious.report.contents import Page, gather, with_extras
from fedml_spurious.report.open_run import open_run
from fedml_spurious.results.proportions import Interval

NAME = "report.html"
LIMIT = 1_400_000
"""Bytes up to which images and trajectories of clients are added."""


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of one run or of several.

    Args:
        folders: run folders, finished or not, at least one.
        out: the file; ``report.html`` in the folder of a single run where absent.

    Returns:
        The file.

    Raises:
        InputError: a folder is no run, runs do not belong together, or it is not said where to write.
    """
    different = list({folder.resolve(): folder for folder in folders}.values())
    if out is None and len(different) > 1:
        raise InputError("--out: missing; say in which file the report of several runs is written")
    path = out or different[0] / NAME
    if path.is_dir():
        raise InputError(f"--out: {path} is a folder; expected the name of a file, such as {path / NAME}")
    write_text(path, make_page(different))
    return path


def make_page(folders: Sequence[Path]) -> str:
    """The page of one run or of several, as HTML."""
    page = gather([open_run(folder) for folder in folders])
    bare = _render(page)
    room = LIMIT - len(bare.encode())
    return _render(with_extras(page, room)) if page.datasets else bare


def _render(page: Page) -> str:
    environment = Environment(
        loader=PackageLoader("fedml_spurious.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"f3": _f3, "f1": _f1, "interval": _interval, "bytes": _bytes}
    script, style = (_text(environment, name) for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing may be fetched; style attributes are Matplotlib's, and cannot fetch either.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html").render(page=page, script=script, style=style, policy=policy)


def _text(environment: Environment, name: str) -> Markup:
    """A file of ours, in which nothing is to be escaped."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _f3(value: float | None) -> str:
    return "N/A" if value is None else f"{value:.3f}"


def _f1(value: float | None) -> str:
    return "N/A" if value is None else f"{value:.1f}"


def _interval(found: Interval | None) -> str:
    return "" if found is None else f" [{found[0]:.2f}, {found[1]:.2f}]"


def _bytes(size: int) -> str:
    return f"{size / 1000:.0f} kB" if size >= 1000 else counted(size, "byte")
