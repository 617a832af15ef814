"""Figures inside the page, each with the numbers behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedml_spurious.common.errors import InputError
from fedml_spurious.figures.drawing import Drawing, FigureKind, draw_figure, new_figure, picture_bytes
from fedml_spurious.figures.registry import FIGURES
from fedml_spurious.figures.runs import read_once
from fedml_spurious.figures.style import BIASED, CONFLICTING, RC
from fedml_spurious.report.downloads import Download, csv_text, make_download
from fedml_spurious.results.text_tables import TextTable

_MOST_ROWS = 120
"""A longer table of numbers is in the download alone."""
_CURVE_COLUMNS = ("round", "train_loss", "acc_b", "acc_bc", "disparity")

_ID = re.compile(r'\bid="|href="#|url\(#')
_PAPER = re.compile(r"(?<=fill: )#ffffff\b")
_INK = re.compile(r"(?<=fill: )#000000\b|(?<=stroke: )#000000\b")
_GRID = re.compile(rf"(?<=stroke: ){RC['grid.color'].lower()}\b")


@dataclass(frozen=True)
class Shown:
    """A figure of the page.

    Attributes:
        title: what it shows.
        svg: the picture.
        numbers: the table behind it; None where it is too long to be shown.
        count: rows of that table.
        download: the table as a file.
    """

    title: str
    svg: Markup
    numbers: TextTable | None
    count: int
    download: Download


def draw_figures(folders: Sequence[Path]) -> tuple[tuple[Shown, ...], tuple[tuple[str, str], ...]]:
    """Every figure for which the runs recorded enough, and the others with what they lack.

    Parts of a figure are shown where the whole cannot be, and what they lack is said of the whole.
    """
    with read_once():
        return _draw_figures(folders)


def _draw_figures(folders: Sequence[Path]) -> tuple[tuple[Shown, ...], tuple[tuple[str, str], ...]]:
    shown: dict[str, Shown] = {}
    not_drawn = []
    for kind in FIGURES.values():
        if shown.keys() & set(kind.part_of):
            continue
        try:
            shown[kind.name] = _show(kind.name, kind.title, draw_figure(kind, folders))
        except InputError as error:
            if kind.part_of:
                continue
            why = str(error)
            for folder in folders:  # a page does not tell where it was made
                why = why.replace(str(folder), folder.resolve().name)
            not_drawn.append((kind.title, why))
    return tuple(shown.values()), tuple(not_drawn)


def draw_curves(name: str, rounds: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[Shown]:
    """The training of the global models of a run, a figure per federated seed."""
    for seed, rows in rounds.items():
        if rows:
            title = f"Global model {seed}: accuracy and training loss over the rounds"
            kind = FigureKind(f"training_{name}_{seed}".replace("/", "_"), title, "", partial(_curves, rows))
            yield _show(kind.name, kind.title, draw_figure(kind, []))


def _curves(rows: Sequence[Mapping[str, str]], _: Sequence[Path]) -> Drawing:
    figure, (accuracy, loss) = new_figure(1, 2, width=6.4, height=2.7)
    measured = [row for row in rows if row["acc_b"]]
    for column, label, look in (("acc_b", "Acc_B", BIASED), ("acc_bc", "Acc_BC", CONFLICTING)):
        found = [(int(row["round"]), float(row[column])) for row in measured if row[column]]
        if found:
            accuracy.plot(*zip(*found, strict=True), label=label, **look.line_style())
    accuracy.set(xlabel="round", ylabel="accuracy", ylim=(0, 1.02))
    accuracy.legend(loc="lower right")
    loss.plot(
        [int(row["round"]) for row in rows],
        [float(row["train_loss"]) for row in rows],
        color=BIASED.color,
        linestyle="-",
    )
    loss.set(xlabel="round", ylabel="training loss", ylim=(0, None))
    numbers = tuple(
        {name: float(row[name]) if row[name] else None for name in _CURVE_COLUMNS}
        | {"round": int(row["round"])}
        for row in rows
    )
    return Drawing(figure, _CURVE_COLUMNS, numbers)


def _show(name: str, title: str, drawing: Drawing) -> Shown:
    download = make_download(
        f"{name}.csv", f"the numbers of the figure: {title}", csv_text(drawing.columns, drawing.rows)
    )
    few = len(drawing.rows) <= _MOST_ROWS
    cells = tuple(tuple(_cell(row.get(column)) for column in drawing.columns) for row in drawing.rows)
    numbers = TextTable(title, drawing.columns, cells) if few else None
    return Shown(title, to_svg(drawing, name), numbers, len(drawing.rows), download)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def to_svg(drawing: Drawing, name: str) -> Markup:
    """A figure as an ``<svg>`` element: text as text, the same bytes every time.

    Black becomes the colour of the page's text, the grid that of its lines, and white lets its background
    through, so that a figure is readable in the dark too. The page says what it shows.

    Args:
        drawing: the figure.
        name: goes before every id, so that two figures of a page have none in common.
    """
    text: str = picture_bytes(drawing, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.DOTALL)
    prefix = re.sub(r"[^\w-]", "-", name)
    text = _ID.sub(rf"\g<0>{prefix}-", text)
    text = _GRID.sub("var(--line)", _INK.sub("currentColor", _PAPER.sub("none", text)))
    size = re.search(r'width="([\d.]+)pt" [^>]*(viewBox="[^"]+")', text)
    assert size, "matplotlib says how large its picture is"
    width = round(float(size[1]) * 4 / 3)  # a point is 4/3 of a CSS pixel
    return Markup(re.sub(r"^<svg [^>]*>", f'<svg width="{width}" {size[2]} aria-hidden="true">', text))
