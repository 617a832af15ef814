"""Tables as Markdown, LaTeX and on a terminal, read back by rules of those formats."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from fedml_spurious.results.text_tables import TextTable, print_document, to_latex, to_markdown

TABLE = TextTable(
    "Data set a_b, 50 % & more",
    ("method", "|Disparity|", "why"),
    (("grad_align", "-0.100 ± 0.010", "10 lowers [it]"), ("ft", "N/A", "{x} #1 $2 ^ ~ \\")),
    last_left=True,
)
DOCUMENT: list[TextTable | str] = [TABLE, "A sentence with 5 % and colored_mnist, from 3-5 to -0.5."]


def environments(latex: str) -> list[tuple[str, str]]:
    return re.findall(r"\\(begin|end)\{(\w+)\}", latex)


def test_latex_is_balanced_and_everything_special_is_escaped() -> None:
    latex = to_latex(DOCUMENT)
    assert environments(latex) == [
        ("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table"),
    ]  # fmt: skip
    assert re.search(r"\\begin\{tabular\}\{(\w+)\}", latex).group(1) == "lrl"  # type: ignore[union-attr]
    body = latex.split("\\toprule")[1].split("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [2, 2, 2]
    text = "\n".join(line for line in latex.splitlines() if not line.startswith("%"))
    assert not re.findall(r"(?<!\\)[%#_]", text)
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    assert "grad\\_align & $-$0.100 $\\pm$ 0.010 & 10 lowers [it] \\\\" in latex
    assert "\\{x\\} \\#1 \\$2 \\textasciicircum{} \\textasciitilde{} \\textbackslash{} \\\\" in latex
    assert "from 3-5 to $-$0.5." in latex


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in to_markdown(DOCUMENT).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [4] * 4
    assert lines[0] == "| method | \\|Disparity\\| | why |"
    assert lines[1] == "| --- | ---: | --- |"
    assert to_markdown(DOCUMENT).startswith("Data set a_b, 50 % & more\n\n|")
    assert to_markdown(DOCUMENT).endswith("\n\nA sentence with 5 % and colored_mnist, from 3-5 to -0.5.\n")


def test_a_terminal_shows_square_brackets_as_they_are() -> None:
    stream = io.StringIO()
    print_document(Console(file=stream, width=80), [TABLE, "see [red]this[/red]"])
    printed = stream.getvalue()
    assert "10 lowers [it]" in printed
    assert "see [red]this[/red]" in printed
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("prose", [False, True])
@pytest.mark.parametrize("width", [20, 60, 80, 96, 110, 200])
def test_a_narrow_terminal_cuts_no_number_short(width: int, prose: bool) -> None:
    numbers = tuple(f"{value / 7:.3f}" for value in range(13))
    reason = "a long reason that may be wrapped as the terminal likes, word by word"
    columns = ("method", *(f"column {n}" for n in range(13)), *(["because"] if prose else []))
    rows = (("ours", *numbers, *([reason] if prose else [])),)
    stream = io.StringIO()
    table = TextTable("wide", columns, rows, last_left=prose)
    print_document(Console(file=stream, width=width), [table])
    printed = stream.getvalue()
    assert "…" not in printed
    assert all(number in printed for number in numbers)
    assert ("reason" in printed) == prose


@pytest.mark.parametrize("groups", [(), (3, 3, 3, 3), (1, 2, 2, 2, 2)])
def test_a_narrow_terminal_gets_the_columns_in_pieces_with_the_first_one_in_each(
    groups: tuple[int, ...],
) -> None:
    count = sum(groups) or 12
    columns = ("method", *(f"column {n}" for n in range(count)))
    rows = tuple((name, *(f"{name}{n} ± 0.5" for n in range(count))) for name in ("ft", "ours"))
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    print_document(console, [TextTable("wide", columns, rows, groups=groups)])
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line.split() for line in lines if line.startswith("method")]
    assert len(headings) > 1
    assert [n for heading in headings for n in heading[2::2]] == [str(n) for n in range(count)]
    for name in ("ft", "ours"):
        shown = [line.replace(" ± ", "±").split() for line in lines if line.startswith(name)]
        assert [cell for row in shown for cell in row[1:]] == [f"{name}{n}±0.5" for n in range(count)]
    starts = {sum(groups[:place]) for place in range(len(groups))} or set(range(count))
    assert {int(heading[2]) for heading in headings} <= starts
