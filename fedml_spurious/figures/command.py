"""The command ``fedml-spurious figure``: a picture and the CSV behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import cast

import click

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import require_writable_folder, write_bytes, write_csv
from fedml_spurious.common.streams import terminal_width
from fedml_spurious.figures.drawing import Form, draw_figure, picture_bytes
from fedml_spurious.figures.registry import FIGURES, find_figure

_NAME = 14  # columns of the names


def list_figures() -> None:
    """Print every figure, what its runs need, and the setting that records it."""
    width, indent = terminal_width(), " " * (_NAME + 1)
    for kind in FIGURES.values():
        needs = f"needs {kind.needs}" + (f": {kind.option}" if kind.option else "")
        lines = [f"{kind.name:<{_NAME}} {kind.title}", f"{indent}{needs}"]
        if width is not None:
            lines = [
                piece
                for line in lines
                for piece in wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)
            ]
        click.echo("\n".join(lines))


def write_figure(name: str | None, runs: Sequence[str], *, out: str, form: str) -> None:
    """Draw a figure and write ``NAME.<form>`` and ``NAME.csv``.

    Args:
        name: of the figure.
        runs: folders of finished runs.
        out: folder for both files.
        form: ``svg``, ``png`` or ``pdf``.

    Raises:
        InputError: there is no such figure, no run is given, or a run lacks what the figure needs.
    """
    if name is None:
        raise InputError("give the name of a figure and run folders; fedml-spurious figure --list names them")
    kind = find_figure(name)
    if not runs:
        raise InputError(
            f"figure {kind.name}: give at least one run folder (--output of a run); it needs {kind.needs}"
        )
    drawing = draw_figure(kind, [Path(run) for run in runs])
    folder = Path(out)
    require_writable_folder(folder)
    picture, table = folder / f"{kind.name}.{form}", folder / f"{kind.name}.csv"
    write_csv(table, drawing.columns, drawing.rows)
    write_bytes(picture, picture_bytes(drawing, cast(Form, form)))
    click.echo(f"{picture}\n{table}")
