"""The command ``fedml-spurious table``: finished runs as one table, or why their coefficients were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click

from fedml_spurious.common.errors import InputError
from fedml_spurious.results.dataset_runs import join_runs
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.decisions import explain
from fedml_spurious.results.finished_run import FinishedRun, load_run
from fedml_spurious.results.joined_csv import to_csv
from fedml_spurious.results.joined_table import to_document
from fedml_spurious.results.jtt_error_sets import explain_error_sets
from fedml_spurious.results.rows import Average, Epoch
from fedml_spurious.results.text_tables import (
    Document,
    TextTable,
    output_console,
    print_document,
    to_latex,
    to_markdown,
)


def show_runs(folders: Sequence[str], *, form: str, average: str, epoch: str, why: bool) -> None:
    """Write the joined table, or the reasons of tuning, to standard output.

    Args:
        folders: folders of finished runs.
        form: ``terminal``, ``csv``, ``markdown`` or ``latex``.
        average: ``mean`` or ``weighted``.
        epoch: ``selected`` or ``last``: of which epoch the personal models are.
        why: show why each coefficient was chosen, and the error sets of JTT, instead of the table.

    Raises:
        InputError: a folder is no finished run, or runs do not belong together; nothing was written.
    """
    # The same folder named twice is one run.
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}
    runs = [load_run(path, cast(Epoch, epoch)) for path in paths.values()]
    if why:
        _show(_reasons(runs), form)
        return
    tables = [DatasetTable.of(joined, cast(Average, average)) for joined in join_runs(runs)]
    if form == "csv":
        click.echo(to_csv(tables), nl=False)
    else:
        _show(to_document(tables), form)


def _reasons(runs: Sequence[FinishedRun]) -> Document:
    parts: list[TextTable | str] = []
    for run in runs:
        tables = [table for decision in run.decisions.values() for table in explain(decision)]
        parts += [f"{run.path}: {'' if tables else 'no coefficient was tuned; '}{run.dataset}", *tables]
        parts += explain_error_sets(run)
    return parts


def _show(document: Document, form: str) -> None:
    if form == "markdown":
        click.echo(to_markdown(document), nl=False)
    elif form == "latex":
        click.echo(to_latex(document), nl=False)
    elif form == "terminal":
        print_document(output_console(), document)
    else:
        raise InputError("--why: has no CSV form; give --format terminal, markdown or latex")
