"""The table at the end of a run: a joined table of one run, in the run's own order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from fedml_spurious.common.storage import write_csv, write_text
from fedml_spurious.common.words import counted
from fedml_spurious.results.conclusion import conclude
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.dataset_table import (
    DIFFERENCE_COLUMNS,
    POOLS,
    SHARE_COLUMNS,
    DatasetTable,
    difference_cells,
    differences,
    measured,
    runs_of,
    share_cells,
    spread_cells,
)
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.notes import (
    budget_note,
    clients_note,
    coefficient_note,
    difference_note,
    selection_note,
)
from fedml_spurious.results.recordings import twins_note
from fedml_spurious.results.rows import QUANTITIES
from fedml_spurious.results.text_tables import Document, print_document, to_latex, to_markdown


def make_run_table(run: FinishedRun) -> DatasetTable:
    """Average the rows of one run."""
    return DatasetTable.of(DatasetRuns.of_one(run), "mean")


def show_table(console: Console, table: DatasetTable) -> None:
    """Print both averages, notes and the sentence that says what they mean."""
    print_document(console, _document(table))


def write_table(folder: Path, table: DatasetTable) -> None:
    """Write ``table.csv``, with every digit, ``table.md`` and ``table.tex``, with both averages."""
    columns = ["method", "clients", "average", *QUANTITIES, *(f"{name}_std" for name in QUANTITIES), "runs"]
    rows = []
    for pooled in _both_averages(table):
        for summary in pooled.summaries:
            values = pooled.values(summary)
            row = {"method": summary.method, "clients": summary.clients, "average": pooled.average}
            row |= spread_cells(values) | {"runs": runs_of(values)}
            row |= share_cells(summary.shares[pooled.average])
            # The interval is of the client mean.
            rows.append(row | (difference_cells(summary.against_ours) if pooled.average == "mean" else {}))
    write_csv(folder / "table.csv", [*columns, *DIFFERENCE_COLUMNS, *SHARE_COLUMNS], rows)
    document = _document(table)
    write_text(folder / "table.md", to_markdown(document))
    write_text(folder / "table.tex", to_latex(document))


def _both_averages(table: DatasetTable) -> list[DatasetTable]:
    return [replace(table, average=average) for average in POOLS]


def _document(table: DatasetTable) -> Document:
    tables = [
        measured(pooled, _title(pooled), tuple(QUANTITIES), pairs=False) for pooled in _both_averages(table)
    ]
    tables += differences(
        table, f"Client mean of {counted(table.clients, 'client')}: disparity minus that of ours"
    )
    notes = [
        clients_note(table.summaries),
        difference_note(table.summaries),
        selection_note(table.runs),
        coefficient_note(table.runs),
        budget_note(table.runs),
        twins_note(table.runs.runs),
        conclude(table.summaries),
    ]
    return [*tables, *filter(None, notes)]


def _title(table: DatasetTable) -> str:
    runs = max(runs_of(summary.mean) for summary in table.summaries)
    deviation = f", mean ± standard deviation over {runs} runs" if runs > 1 else ""
    return f"{POOLS[table.average].capitalize()} of {counted(table.clients, 'client')}{deviation}"
