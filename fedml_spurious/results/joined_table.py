"""Runs of any number of data sets side by side, in the form of the paper's Table 1 and beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json
from fedml_spurious.results.averages import Spread
from fedml_spurious.results.dataset_averages import Accuracies, DatasetAverage, average_over_datasets
from fedml_spurious.results.finished_runs import DatasetRuns, join_runs, load_run
from fedml_spurious.results.method_names import GLOBAL, SELECTED_BY
from fedml_spurious.results.paper import PAPER_ROUNDS, TABLE_1, TITLES, PaperCell
from fedml_spurious.results.rows import QUANTITIES, Average, ClientResult, MethodSummary, average, summarize
from fedml_spurious.results.run_table import (
    AGAINST_OURS,
    DIFFERENCE_COLUMNS,
    POOLS,
    clients_note,
    difference_cell,
    difference_cells,
    difference_note,
    runs_of,
    spread_cell,
)
from fedml_spurious.results.text_tables import Document, TextTable

_COMPARED = ("acc_b", "acc_bc", "disparity", "abs_disparity")
_OWN_SELECTION = "what its class says"


@dataclass(frozen=True)
class DatasetTable:
    """One data set of the joined table.

    Attributes:
        runs: the runs that it comes from.
        average: how clients are pooled.
        summaries: one per method.
    """

    runs: DatasetRuns
    average: Average
    summaries: tuple[MethodSummary, ...]

    @property
    def title(self) -> str:
        """The paper's name of the data set, where it has one, and ours."""
        name = self.runs.dataset
        return f"{TITLES[name]} ({name})" if name in TITLES else name

    def values(self, summary: MethodSummary) -> Mapping[str, Spread | None]:
        """Averages of a method by quantity."""
        found: Mapping[str, Spread | None] = getattr(summary, self.average)
        return found

    def paper(self, method: str) -> dict[str, float]:
        """What the paper has for a method, by quantity; empty where it has nothing."""
        cell = self.paper_cell(method)
        if cell is None:
            return {}
        values = (cell.acc_b, cell.acc_bc, cell.disparity, abs(cell.disparity))
        return dict(zip(_COMPARED, values, strict=True))

    def paper_cell(self, method: str) -> PaperCell | None:
        """The paper's cell for a method."""
        return TABLE_1.get(self.runs.dataset, {}).get(method)

    def accuracies(self) -> dict[str, Accuracies | None]:
        """Accuracies by method, in the form from which averages over data sets are made."""
        return {method: self._accuracies(rows) for method, rows in self._compared().items()}

    def references(self) -> dict[str, Accuracies | None]:
        """Accuracies of the global model by method, over the clients to which the method applies."""
        compared = self._compared()
        clients = {method: {row.client for row in rows} for method, rows in compared.items()}
        return {
            method: self._accuracies([row for row in compared.get(GLOBAL, []) if row.client in own])
            for method, own in clients.items()
        }

    def _compared(self) -> dict[str, list[ClientResult]]:
        """Rows by method that have a disparity."""
        found: dict[str, list[ClientResult]] = {method: [] for method in self.runs.methods()}
        for row in self.runs.results:
            if row.disparity is not None:
                found[row.method].append(row)
        return found

    def _accuracies(self, rows: Sequence[ClientResult]) -> Accuracies | None:
        values = average(rows, self.average)
        acc_b, acc_bc = values["acc_b"], values["acc_bc"]
        return Accuracies(acc_b.mean, acc_bc.mean) if acc_b and acc_bc else None


def make_tables(datasets: Sequence[DatasetRuns], average: Average) -> list[DatasetTable]:
    """Average the rows of every data set."""
    return [DatasetTable(runs, average, tuple(summarize(runs.results))) for runs in datasets]


def run_notes(folder: Path) -> list[str]:
    """How models were selected and coefficients chosen in one finished run."""
    (runs,) = join_runs([load_run(folder)])
    return [note for note in (selection_note(runs), coefficient_note(runs), budget_note(runs)) if note]


def to_document(tables: Sequence[DatasetTable]) -> Document:
    """Everything that the joined table shows.

    Args:
        tables: at least one data set.

    Returns:
        Table 1's form where there are several data sets, a block per data set, averages over data sets.
    """
    parts: list[TextTable | str] = [_overview(tables)] if len(tables) > 1 else []
    for table in tables:
        parts.append(_measured(table))
        if table.runs.dataset in TABLE_1:
            parts.append(_beside_paper(table))
        parts += _notes(table)
    return [*parts, _averages(tables)]


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
    titles = [TITLES.get(table.runs.dataset, table.runs.dataset) for table in tables]
    columns = ("method", *(f"{title}\n{QUANTITIES[name]}" for title in titles for name in names))
    return TextTable(f"Accuracies, {POOLS[tables[0].average]} ± standard deviation", columns, tuple(rows))


def _short(value: Spread | None) -> str:
    """As in the paper without the leading zero, so that four data sets fit side by side."""
    return spread_cell(value).replace("0.", ".").replace(" ", "")


def _measured(table: DatasetTable) -> TextTable:
    compared = any(summary.against_ours for summary in table.summaries)
    columns = ["method", *(QUANTITIES[name] for name in _COMPARED), *([AGAINST_OURS] if compared else [])]
    rows = []
    for summary in table.summaries:
        values = table.values(summary)
        cells = [summary.method, *(spread_cell(values[name]) for name in _COMPARED)]
        cells += [difference_cell(summary.against_ours)] if compared else []
        rows.append((*cells, str(runs_of(values))))
    clients = len({row.client for row in table.runs.results})
    pool = f"{POOLS[table.average]} of {clients} clients"
    title = f"{table.title}: {pool} ± standard deviation over n pairs of seeds"
    return TextTable(title, (*columns, "n"), tuple(rows))


def _beside_paper(table: DatasetTable) -> TextTable:
    columns = ["method"]
    for name in _COMPARED:
        columns += [QUANTITIES[name].replace("|Disparity|", "|Disp.|"), "paper", "diff."]
    rows = []
    for summary in table.summaries:
        values, paper = table.values(summary), table.paper(summary.method)
        known = summary.method in TABLE_1[table.runs.dataset]
        cells = [summary.method]
        for name in _COMPARED:
            ours, theirs = values[name], paper.get(name)
            cells += ["N/A" if ours is None else f"{ours.mean:.3f}"]
            cells += [("N/A" if known else "") if theirs is None else f"{theirs:.3f}"]
            cells += ["" if ours is None or theirs is None else f"{ours.mean - theirs:+.3f}"]
        rows.append(tuple(cells))
    return TextTable(f"{table.title}: beside the paper's Table 1", tuple(columns), tuple(rows))


def _notes(table: DatasetTable) -> list[str]:
    rows = table.runs.results
    fl_seeds = sorted({row.fl_seed for row in rows})
    p_seeds = sorted({row.p_seed for row in rows if row.p_seed is not None})
    lines = [
        f"Federated seeds {_list(fl_seeds)}; personalization seeds {_list(p_seeds) or 'none'}; from "
        f"{_list([run.path for run in table.runs.runs])}.",
        setting_note(table.runs),
        seeds_note(table.runs),
        "Here |Disparity| is averaged over pairs of seeds; the paper's is that of its averages."
        if table.runs.dataset in TABLE_1
        else "",
        clients_note(table.summaries),
        difference_note(table.summaries),
        selection_note(table.runs),
        coefficient_note(table.runs),
        budget_note(table.runs),
    ]
    return ["\n".join(filter(None, lines))]


def _list(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items))


def setting_note(runs: DatasetRuns) -> str:
    """In what the setting may be another than the paper's, so that nobody compares without seeing it."""
    config = runs.runs[0].config
    rounds = config.get("train_args", {}).get("comm_round")
    other = runs.dataset in TITLES and rounds != PAPER_ROUNDS
    parts = [f"{rounds} federated rounds" + (f" (the paper: {PAPER_ROUNDS})" if other else "")]
    options = config.get("data_args", {}).get("partition")
    parts += [f"split files made with {_list([f'{k}={v}' for k, v in options.items()])}"] if options else []
    return f"Setting: {'; '.join(parts)}."


def seeds_note(runs: DatasetRuns) -> str:
    """Which methods have which pairs of seeds, where these differ; empty where they do not."""
    pairs: dict[str, set[tuple[int, int | None]]] = {}
    for row in runs.results:
        if row.method != GLOBAL:
            pairs.setdefault(row.method, set()).add((row.fl_seed, row.p_seed))
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, found in pairs.items():
        groups.setdefault(tuple(f"fl{fl} p{p}" for fl, p in sorted(found, key=str)), []).append(method)
    if len(groups) < 2:
        return ""
    listed = "; ".join(f"{_list(methods)} {_list(found)}" for found, methods in groups.items())
    return f"Not all methods have the same pairs of seeds: {listed}."


def selection_note(runs: DatasetRuns) -> str:
    """How the epoch of a personal model was selected, by method."""
    rules: dict[str, list[str]] = {}
    for method in runs.methods():
        if method != GLOBAL:
            rules.setdefault(SELECTED_BY.get(method, _OWN_SELECTION), []).append(method)
    listed = "; ".join(f"{_list(names)} by {rule}" for rule, names in rules.items())
    return f"Selected epoch: {listed}." if listed else ""


def coefficient_note(runs: DatasetRuns) -> str:
    """The coefficients of every method that has some."""
    texts = {method: runs.coefficients(method) for method in runs.methods()}
    listed = "; ".join(f"{method} {text}" for method, text in texts.items() if text)
    seeds = {decision.seeds for run in runs.runs for decision in run.decisions.values()}
    named = " and ".join(sorted(f"fl{pair.fl_seed} p{pair.p_seed}" for pair in seeds))
    tuned = f" Tuned with the seeds {named}." if named else ""
    return f"Coefficients: {listed}.{tuned}" if listed else ""


def budget_note(runs: DatasetRuns) -> str:
    """The attack's budget of every global model, and how many attacks succeed with it (appendix C.2)."""
    texts = []
    for path in (path for run in runs.runs for path in sorted(run.path.glob("global/fl*/budget.json"))):
        stored = read_json(path, "eps", "in_range", "trail")
        if not stored["trail"]:
            raise InputError(
                f"{path}: broken, its trail is empty; remove the file and continue with --resume"
            )
        rate = stored["trail"][-1][1]
        outside = "" if stored["in_range"] else ", outside the wanted range"
        texts.append(f"{path.parent.name} {stored['eps']:.3g} ({rate:.0%} of the attacks succeed{outside})")
    return f"Attack budget: {_list(list(dict.fromkeys(texts)))}." if texts else ""


def _averages(tables: Sequence[DatasetTable]) -> TextTable:
    found = average_over_datasets(
        {table.runs.dataset: table.accuracies() for table in tables},
        {table.runs.dataset: table.references() for table in tables},
    )
    rows = []
    for method, ours in found.items():
        paper = _paper_average(method, ours.datasets)
        cells = [method, str(len(ours.datasets))]
        for name in ("disparity", "abs_disparity", "gain_b", "gain_bc"):
            cells += [_percent(getattr(ours, name)), _percent(getattr(paper, name, None))]
        rows.append(tuple(cells))
    headings = ("disparity", "|disparity|", "Acc_B gain", "Acc_BC gain")
    columns = ("method", "n", *(text for heading in headings for text in (heading, "paper")))
    title = (
        "Averages over n data sets, in percent; |disparity| is that of a data set's average, gains are over "
        "the global model on the same data sets and clients"
    )
    return TextTable(title, columns, tuple(rows))


def _paper_average(method: str, datasets: Sequence[str]) -> DatasetAverage | None:
    """The paper's average over the same data sets; None where it lacks one of them."""
    cells = {name: TABLE_1.get(name, {}) for name in datasets}
    average = average_over_datasets(cells).get(method)
    return average if average and len(average.datasets) == len(datasets) else None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.2f}"


def to_csv(tables: Sequence[DatasetTable]) -> str:
    """A row per data set and method, with every digit; empty cells: N/A, or not in the paper."""
    columns = ["dataset", "paper_dataset", "method", "average", "clients", "seed_pairs"]
    for name in _COMPARED:
        columns += [name, f"{name}_std", f"{name}_paper", f"{name}_minus_paper"]
    columns += ["acc_b_paper_spread", "acc_bc_paper_spread", "acc_adv", "acc_adv_std", *DIFFERENCE_COLUMNS]
    columns += ["selected_by", "coefficients"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(table, summary) for table in tables for summary in table.summaries)
    return buffer.getvalue()


def _csv_row(table: DatasetTable, summary: MethodSummary) -> dict[str, Any]:
    method, values, paper = summary.method, table.values(summary), table.paper(summary.method)
    row: dict[str, Any] = {
        "dataset": table.runs.dataset,
        "paper_dataset": TITLES.get(table.runs.dataset),
        "method": method,
        "average": table.average,
        "clients": summary.clients,
        "seed_pairs": runs_of(values),
        "selected_by": None if method == GLOBAL else SELECTED_BY.get(method, _OWN_SELECTION),
        "coefficients": table.runs.coefficients(method),
    }
    for name, value in values.items():
        if value is not None:
            row |= {name: value.mean, f"{name}_std": value.std}
    for name, theirs in paper.items():
        ours = values[name]
        row |= {f"{name}_paper": theirs, f"{name}_minus_paper": ours and ours.mean - theirs}
    cell = table.paper_cell(method)
    if cell is not None:
        row |= {"acc_b_paper_spread": cell.spread_b, "acc_bc_paper_spread": cell.spread_bc}
    return row | difference_cells(summary.against_ours)
