"""Tables for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from fedml_spurious.common.streams import output_width

_UNLIMITED = 10_000  # columns


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: headings; a line break in one saves width on a terminal and is a space elsewhere.
        rows: cells, as many per row as there are headings.
        left: number of leading columns that are flush left; numbers are flush right.
        last_left: whether the last column is flush left too, for a text at the end.
        groups: sizes of the groups of columns behind the first one that stay side by side where a terminal is
            too narrow for all; every column by itself where there are none.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    last_left: bool = False
    groups: tuple[int, ...] = ()

    def is_left(self, column: int) -> bool:
        """Whether a column is flush left."""
        return column < self.left or (self.last_left and column == len(self.columns) - 1)


Document = Sequence[TextTable | str]
"""Tables and paragraphs in the order in which they are read."""


def output_console() -> Console:
    """Standard output, as wide as its terminal, or as tables that are read in a file."""
    width = output_width()
    return Console() if width is None else Console(width=width, force_terminal=False)


def print_document(console: Console, document: Document) -> None:
    """Print tables and paragraphs, a blank line between them."""
    for index, part in enumerate(document):
        if index:
            console.print()
        if isinstance(part, str):
            console.print(Text(part))
            continue
        console.print(Text(part.title, style="italic"))
        for number, piece in enumerate(_pieces(console, part)):
            if number:
                console.print()
            _print_whole(console, _rich_table(piece))


def _rich_table(part: TextTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column, heading in enumerate(part.columns):
        is_prose = part.last_left and column == len(part.columns) - 1
        justify: Literal["left", "right"] = "left" if part.is_left(column) else "right"
        table.add_column(Text(heading), justify=justify, no_wrap=not is_prose)
    for row in part.rows:
        table.add_row(*map(Text, row))
    return table


def _pieces(console: Console, table: TextTable) -> list[TextTable]:
    """The columns in as many tables, each with the first one, as the width of a terminal asks for."""
    # A text at the end is wrapped instead; and what no terminal shows may be as wide as it is.
    if table.last_left or not console.is_terminal:
        return [table]
    places = iter(range(1, len(table.columns)))
    groups = [list(islice(places, size)) for size in table.groups] + [[place] for place in places]
    pieces: list[list[int]] = [[]]
    for group in groups:
        joined = [*pieces[-1], *group]
        if pieces[-1] and _width(console, _with_columns(table, joined)) > console.width:
            pieces.append(group)
        else:
            pieces[-1] = joined
    return [_with_columns(table, piece) for piece in pieces]


def _with_columns(table: TextTable, places: Sequence[int]) -> TextTable:
    """The first column and some others."""
    columns, *rows = ((line[0], *(line[place] for place in places)) for line in (table.columns, *table.rows))
    left = 1 + sum(place < table.left for place in places)
    return TextTable(table.title, columns, tuple(rows), left=left)


def _width(console: Console, table: TextTable) -> int:
    """Columns of a terminal that a table takes."""
    unlimited = console.options.update(max_width=_UNLIMITED)
    lines = console.render_lines(_rich_table(table), unlimited, pad=False)
    return max(map(Segment.get_line_length, lines))


def _print_whole(console: Console, table: Table) -> None:
    """Print a table that may be wider than the terminal: rich would cut its numbers short."""
    width = console.width
    unlimited = console.options.update(max_width=_UNLIMITED)
    measured = Measurement.get(console, unlimited, table)
    prose = any(not column.no_wrap for column in table.columns)
    # Rich forgets a part of the padding between columns in what it measures.
    needed = (measured.minimum if prose else measured.maximum) + 2 * len(table.columns)
    console.width = max(width, needed)
    try:
        console.print(table, crop=False)
    finally:
        console.width = width


def to_markdown(document: Document) -> str:
    """Tables and paragraphs as GitHub reads them."""
    return "\n".join(
        f"{part}\n" if isinstance(part, str) else f"{part.title}\n\n{_markdown_table(part)}"
        for part in document
    )


def _markdown_table(table: TextTable) -> str:
    rule = ["---" if table.is_left(index) else "---:" for index in range(len(table.columns))]
    lines = [table.columns, rule, *table.rows]
    return "".join(f"| {' | '.join(map(_markdown_cell, line))} |\n" for line in lines)


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def to_latex(document: Document) -> str:
    """Tables and paragraphs as LaTeX for a document with the package booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    parts += [f"{_latex(part)}\n" if isinstance(part, str) else _latex_table(part) for part in document]
    return "\n".join(parts)


def _latex_table(table: TextTable) -> str:
    alignment = "".join("l" if table.is_left(index) else "r" for index in range(len(table.columns)))
    heading, *rows = (f"{' & '.join(map(_latex, line))} \\\\" for line in (table.columns, *table.rows))
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}",
            f"\\caption{{{_latex(table.title)}}}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            heading,
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
    )


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "|": "$|$",
    "<": "$<$",
    ">": "$>$",
    "±": "$\\pm$",
}
_SIGN = re.compile(r"(?<![\w.])-(?=\d)")


def _latex(text: str) -> str:
    """Escape what LaTeX would read as commands; a hyphen before a number becomes a minus."""
    escaped = "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))
    return _SIGN.sub("$-$", escaped)
