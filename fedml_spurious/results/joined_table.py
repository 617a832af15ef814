"""Runs of any number of data sets side by side, in the form of the paper's Table 1 and beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedml_spurious.common.words import counted
from fedml_spurious.results.averages import Spread
from fedml_spurious.results.dataset_averages import Accuracies, DatasetAverage, average_over_datasets
from fedml_spurious.results.dataset_table import POOLS, DatasetTable, differences, measured, spread_cell
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.notes import (
    budget_note,
    clients_note,
    coefficient_note,
    commas,
    difference_note,
    paper_note,
    seeds_note,
    selection_note,
    setting_note,
)
from fedml_spurious.results.paper import COMPARED, DIGITS, TABLE_1, TITLES, paper_values
from fedml_spurious.results.rows import QUANTITIES, Average, ClientResult, average, who
from fedml_spurious.results.text_tables import Document, TextTable


def to_document(tables: Sequence[DatasetTable]) -> Document:
    """Everything that the joined table shows.

    Args:
        tables: at least one data set.

    Returns:
        Table 1's form where there are several data sets, a block per data set, averages over data sets.
    """
    parts: list[TextTable | str] = [_overview(tables)] if len(tables) > 1 else []
    for table in tables:
        parts += block(table)
    return [*parts, _averages(tables)]


def block(table: DatasetTable) -> Document:
    """What the joined table shows of one data set: measurements, the paper's, differences, notes."""
    parts: list[TextTable | str] = [_measured(table)]
    if table.runs.dataset in TABLE_1:
        parts.append(_beside_paper(table))
    parts += differences(table, f"{_title(table)}: client mean of the disparity minus that of ours")
    return [*parts, _notes(table)]


def _overview(tables: Sequence[DatasetTable]) -> TextTable:
    found = {
        (table.runs.dataset, summary.method): table.values(summary)
        for table in tables
        for summary in table.summaries
    }
    names = ("acc_b", "acc_bc")
    rows = []
    for method in dict.fromkeys(method for _, method in found):
        cells = [found.get((table.runs.dataset, method)) for table in tables]
        rows.append((method, *(_short(values[name]) if values else "" for values in cells for name in names)))
    titles = [table.runs.title for table in tables]
    columns = ("method", *(f"{title}\n{QUANTITIES[name]}" for title in titles for name in names))
    title = f"Accuracies, {tables[0].epoch} epoch, {POOLS[tables[0].average]} ± standard deviation"
    return TextTable(title, columns, tuple(rows), groups=(len(names),) * len(tables))


def _short(value: Spread | None) -> str:
    """As in the paper without the leading zero, so that four data sets fit side by side."""
    return spread_cell(value).replace("0.", ".").replace(" ", "")


def _measured(table: DatasetTable) -> TextTable:
    pool = f"{POOLS[table.average]} of {counted(table.clients, 'client')}"
    title = f"{_title(table)}: {pool} ± standard deviation over n pairs of seeds"
    return measured(table, title, COMPARED, pairs=True)


def _title(table: DatasetTable) -> str:
    """The paper's name of the data set, where it has one, ours, and the epoch."""
    name, title = table.runs.dataset, table.runs.title
    return f"{name if title == name else f'{title} ({name})'}, {table.epoch} epoch"


def _beside_paper(table: DatasetTable) -> TextTable:
    columns = ["method"]
    for name in COMPARED:
        columns += [QUANTITIES[name].replace("|Disparity|", "|Disp.|"), "paper", "diff."]
    rows = []
    for summary in table.summaries:
        values, paper = table.values(summary), paper_values(table.runs.dataset, summary.method)
        known = summary.method in TABLE_1[table.runs.dataset]
        cells = [summary.method]
        for name in COMPARED:
            ours, theirs = values[name], paper.get(name)
            cells += ["N/A" if ours is None else f"{ours.mean:.3f}"]
            cells += [("N/A" if known else "") if theirs is None else f"{theirs:.3f}"]
            cells += ["" if ours is None or theirs is None else f"{ours.mean - theirs:+.3f}"]
        rows.append(tuple(cells))
    of_another = f", which is of {TITLES[table.runs.dataset]}" if table.runs.title == DIGITS else ""
    title = f"{_title(table)}: beside the paper's Table 1{of_another}"
    return TextTable(title, tuple(columns), tuple(rows), groups=(3,) * len(COMPARED))


def _notes(table: DatasetTable) -> str:
    rows = table.runs.results
    fl_seeds = sorted({row.fl_seed for row in rows})
    p_seeds = sorted({row.p_seed for row in rows if row.p_seed is not None})
    lines = [
        f"Federated seeds {commas(fl_seeds)}; personalization seeds {commas(p_seeds) or 'none'}; from "
        f"{commas([run.path for run in table.runs.runs])}.",
        setting_note(table.runs),
        seeds_note(table.runs),
        "Here |Disparity| is averaged over pairs of seeds; the paper's is that of its averages."
        if table.runs.dataset in TABLE_1
        else "",
        paper_note(table.runs),
        clients_note(table.summaries),
        difference_note(table.summaries),
        selection_note(table.runs),
        coefficient_note(table.runs),
        budget_note(table.runs),
    ]
    return "\n".join(filter(None, lines))


def _averages(tables: Sequence[DatasetTable]) -> TextTable:
    """Averages over data sets; of a single one its own disparity and gains, in the same form."""
    several = len(tables) > 1
    compared = {table.runs.dataset: _compared(table) for table in tables}
    how = tables[0].average
    found = average_over_datasets(
        {name: _accuracies(rows, how) for name, rows in compared.items()},
        {
            table.runs.dataset: _accuracies(_global_rows(_compared(table), table.runs.own_clients), how)
            for table in tables
        },
    )
    rows = []
    for method, ours in found.items():
        paper = _paper_average(method, ours.datasets)
        cells = [method, *([str(len(ours.datasets))] if several else [])]
        for name in ("disparity", "abs_disparity", "gain_b", "gain_bc"):
            cells += [_percent(getattr(ours, name)), _percent(getattr(paper, name, None))]
        rows.append(tuple(cells))
    headings = ("disparity", "|disparity|", "Acc_B gain", "Acc_BC gain")
    columns = (
        "method",
        *(["n"] if several else []),
        *(text for heading in headings for text in (heading, "paper")),
    )
    epoch = f"{tables[0].epoch} epoch, in percent"
    title = f"Disparity, and gains over the global model on the same clients, {epoch}"
    if several:
        title = (
            f"Averages over n data sets, {epoch}; |disparity| is that of a data set's average, gains are "
            "over the global model on the same data sets and clients"
        )
    groups = (1, *(2,) * len(headings)) if several else (2,) * len(headings)
    return TextTable(title, columns, tuple(rows), groups=groups)


def _compared(table: DatasetTable) -> dict[str, list[ClientResult]]:
    """Rows by method that have a disparity."""
    found: dict[str, list[ClientResult]] = {method: [] for method in table.runs.methods()}
    for row in table.runs.results:
        if row.disparity is not None:
            found[row.method].append(row)
    return found


def _global_rows(
    compared: Mapping[str, Sequence[ClientResult]], own_clients: bool
) -> dict[str, list[ClientResult]]:
    """Rows of the global model by method, over the clients to which the method applies."""
    clients = {method: {who(row, own_clients) for row in rows} for method, rows in compared.items()}
    return {
        method: [row for row in compared.get(GLOBAL, []) if who(row, own_clients) in own]
        for method, own in clients.items()
    }


def _accuracies(compared: Mapping[str, Sequence[ClientResult]], how: Average) -> dict[str, Accuracies | None]:
    """Averaged accuracies by method; None where there is no row."""
    found: dict[str, Accuracies | None] = {}
    for method, rows in compared.items():
        values = average(rows, how)
        acc_b, acc_bc = values["acc_b"], values["acc_bc"]
        found[method] = Accuracies(acc_b.mean, acc_bc.mean) if acc_b and acc_bc else None
    return found


def _paper_average(method: str, datasets: Sequence[str]) -> DatasetAverage | None:
    """The paper's average over the same data sets; None where it lacks one of them."""
    cells = {name: TABLE_1.get(name, {}) for name in datasets}
    average = average_over_datasets(cells).get(method)
    return average if average and len(average.datasets) == len(datasets) else None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}"
