"""What a page shows, gathered from run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from fedml_spurious.common.version import __version__
from fedml_spurious.figures.run_splits import metas_of, open_splits
from fedml_spurious.figures.runs import data_title
from fedml_spurious.report.about import (
    Facts,
    changed_settings,
    data_facts,
    environment_facts,
    run_facts,
)
from fedml_spurious.report.audits import AuditPart, make_audits, with_verdicts
from fedml_spurious.report.clients import Explorer, make_explorer
from fedml_spurious.report.downloads import Download, csv_text, make_download
from fedml_spurious.report.drawings import Shown, draw_curves, draw_figures
from fedml_spurious.report.extras import Extra, make_extras
from fedml_spurious.report.headline import headline
from fedml_spurious.report.open_run import OpenRun
from fedml_spurious.results.budgets import Budget
from fedml_spurious.results.dataset_runs import DatasetRuns, join_runs
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.decisions import explain
from fedml_spurious.results.joined_csv import to_csv
from fedml_spurious.results.joined_table import block
from fedml_spurious.results.jtt_error_sets import explain_error_sets
from fedml_spurious.results.rows import COLUMNS
from fedml_spurious.results.text_tables import Document, TextTable


@dataclass(frozen=True)
class DataPart:
    """One data set of the page.

    Attributes:
        runs: its runs.
        title: what the page calls it.
        suffix: what goes behind headings; empty where it is the only one.
        headline: the result in one sentence.
        facts: what is known of the data.
        document: Table 1 and what belongs to it.
        audits: what can be said without bias-conflicting samples, of each run that was audited.
        explorer: the clients.
        extras: what is shown of each of them, in the order of the explorer's rows.
    """

    runs: DatasetRuns
    title: str
    suffix: str
    headline: str
    facts: Facts
    document: Document
    audits: tuple[AuditPart, ...]
    explorer: Explorer
    extras: tuple[Extra, ...]

    def anchor(self, what: str) -> str:
        """Id of a section."""
        return f"{what}-{self.runs.dataset}" if self.suffix else what

    @property
    def left_out(self) -> str:
        """What was left out to keep the page small, in a sentence; empty where nothing was."""
        shown = [index for index, extra in enumerate(self.extras, start=1) if extra.size]
        if not shown or shown[-1] == len(self.extras):
            return ""
        what = "images, trajectories and the audit's reasons" if self.audits else "images and trajectories"
        return f"To keep the page small, {what} are those of the first {shown[-1]}."


@dataclass(frozen=True)
class RunPart:
    """One run of the page.

    Attributes:
        name: of its folder.
        facts: what was run.
        changed: settings that differ from the shipped ones; None where there are none to compare with.
        trail: how coefficients and the budget were chosen.
        configuration: its ``config.yaml``.
        environment: its ``environment.json``.
    """

    name: str
    facts: Facts
    changed: TextTable | None
    trail: Document
    configuration: str
    environment: Facts


@dataclass(frozen=True)
class Page:
    """Everything that a page shows; see docs/report.md.

    Attributes:
        title: of the page.
        names: of the run folders.
        missing: what the runs lack, a sentence each.
        datasets: a part per data set that has results.
        runs: a part per run.
        figures: what could be drawn.
        not_drawn: figures that could not, by name, and why.
        curves: the training of the global models.
        downloads: files inside the page.
        version: of this program.
    """

    title: str
    names: str
    missing: tuple[str, ...]
    datasets: tuple[DataPart, ...]
    runs: tuple[RunPart, ...]
    figures: tuple[Shown, ...]
    not_drawn: tuple[tuple[str, str], ...]
    curves: tuple[Shown, ...]
    downloads: tuple[Download, ...]
    version: str = __version__

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Anchors of the sections and what they are called, in order."""
        found = [("result", "Result"), ("run", "What was run")]
        found += [(data.anchor("table"), f"Table 1{data.suffix}") for data in self.datasets]
        found += [("figures", "Figures")] if self.figures or self.not_drawn else []
        for data in self.datasets:
            found += [(data.anchor("audit"), f"Audit{data.suffix}")] if data.audits else []
            found += [(data.anchor("clients"), f"Clients{data.suffix}")]
        found += [("trail", "Choices")]
        found += [("curves", "Training")] if self.curves else []
        return [*found, ("configuration", "Configuration"), ("downloads", "Downloads")]

    def of(self, run: RunPart) -> str:
        """What tells the runs of a page apart, behind a heading; empty for a single one."""
        return f" of {run.name}" if len(self.runs) > 1 else ""


def gather(runs: Sequence[OpenRun]) -> Page:
    """Everything but images and trajectories; see :func:`with_extras`.

    Args:
        runs: at least one.

    Raises:
        InputError: runs of one data set do not belong together, or a file is broken.
    """
    names = _names(runs)
    named = list(zip(names, runs, strict=True))
    called = {run.path: name for name, run in named}
    tables = [
        DatasetTable.of(joined, "mean")
        for joined in join_runs([run.finished for run in runs if run.finished])
    ]
    datasets = tuple(_data_part(table, called, several=len(tables) > 1) for table in tables)
    figures, not_drawn = draw_figures([run.path for run in runs])
    curves = tuple(shown for name, run in named for shown in draw_curves(name, run.rounds))
    return Page(
        title=f"Report of {', '.join(names)}",
        names=", ".join(names),
        missing=tuple(
            f"{name}: {text}" if len(runs) > 1 else text for name, run in named for text in run.missing
        ),
        datasets=datasets,
        runs=tuple(_run_part(name, run) for name, run in named),
        figures=figures,
        not_drawn=not_drawn,
        curves=curves,
        downloads=_downloads(named, datasets, tables, (*figures, *curves)),
    )


def with_extras(page: Page, room: int) -> Page:
    """The page with images and trajectories of clients.

    Args:
        page: without them.
        room: bytes that they may take, divided evenly among the data sets.

    Raises:
        InputError: a file is broken.
    """
    share = room // max(len(page.datasets), 1)
    parts = (
        replace(data, extras=make_extras(data.runs, data.explorer, open_splits(data.runs.runs), share))
        for data in page.datasets
    )
    return replace(page, datasets=tuple(parts))


def _names(runs: Sequence[OpenRun]) -> list[str]:
    """Names of the folders, so that a page does not tell where they lie; of those alike the one above too.

    Alike are also ``a/b`` and ``a_b``, which name the same download.
    """
    places = [run.path.resolve().parts for run in runs]
    lengths = [1] * len(places)
    for _ in range(sum(map(len, places))):
        names = ["/".join(parts[-length:]) for parts, length in zip(places, lengths, strict=True)]
        files = [name.replace("/", "_") for name in names]
        if len(set(files)) == len(files):
            return names
        # The shorter of two first: the longer one has its folder above already.
        shortest = {
            file: min(n for one, n in zip(files, lengths, strict=True) if one == file) for file in files
        }
        lengths = [
            length + (files.count(file) > 1 and length == shortest[file])
            for file, length in zip(files, lengths, strict=True)
        ]
    return [str(run.path) for run in runs]


def _data_part(table: DatasetTable, names: Mapping[Path, str], *, several: bool) -> DataPart:
    metas = metas_of(open_splits(table.runs.runs))
    audits = make_audits(table.runs, names)
    explorer = make_explorer(table.runs, metas)
    if audits:
        explorer = with_verdicts(explorer, audits, own_clients=table.runs.own_clients)
    title = data_title(table.runs.runs[0])
    return DataPart(
        table.runs,
        title,
        f": {title}" if several else "",
        headline(table),
        data_facts(f"{title} ({table.runs.dataset})", metas),
        block(_without_places(table, names)),
        audits,
        explorer,
        (Extra(),) * len(explorer.rows),
    )


def _without_places(table: DatasetTable, names: Mapping[Path, str]) -> DatasetTable:
    """The same with names of folders for runs: a page does not change with where they lie."""
    runs = tuple(replace(run, path=Path(names[run.path])) for run in table.runs.runs)
    return replace(table, runs=replace(table.runs, runs=runs))


def _run_part(name: str, run: OpenRun) -> RunPart:
    trail: list[TextTable | str] = []
    for decision in run.decisions.values():
        trail += explain(decision)
    if run.finished:
        trail += explain_error_sets(run.finished)
    trail += [_budget_table(run.budgets)] if run.budgets else []
    configuration = yaml.safe_dump(dict(run.config), sort_keys=False)
    none = ["No coefficient was tuned."] if not run.decisions else []
    return RunPart(
        name, run_facts(run), changed_settings(run), [*none, *trail], configuration, environment_facts(run)
    )


def _budget_table(budgets: Mapping[str, Budget]) -> TextTable:
    """What the budget rule tried (appendix C.2)."""
    rows = []
    for seed, budget in budgets.items():
        taken = "chosen" if budget.in_range else "chosen, outside the wanted range"
        last = len(budget.trail) - 1
        for index, (eps, rate) in enumerate(budget.trail):
            rows.append((seed, f"{eps:.4g}", f"{rate:.1%}", taken if index == last else ""))
    title = "Budgets of the attack that were tried, and how many attacks on the global model succeed"
    return TextTable(title, ("global model", "eps", "success", ""), tuple(rows), last_left=True)


def _downloads(
    named: Sequence[tuple[str, OpenRun]],
    datasets: Sequence[DataPart],
    tables: Sequence[DatasetTable],
    shown: Sequence[Shown],
) -> tuple[Download, ...]:
    found = [make_download("table.csv", "Table 1 beside the paper's", to_csv(tables))] if tables else []
    for table in tables:
        rows = csv_text(COLUMNS, (vars(row) for row in table.runs.results))
        found.append(
            make_download(f"results_{table.runs.dataset}.csv", "a row per method, seeds and client", rows)
        )
    found += [audit.download for data in datasets for audit in data.audits]
    found += [figure.download for figure in shown]
    for name, run in named:
        suffix = f"_{name}".replace("/", "_") if len(named) > 1 else ""
        text = yaml.safe_dump(dict(run.config), sort_keys=False)
        found.append(
            make_download(f"config{suffix}.yaml", "the settings, for --cf", text, "application/yaml")
        )
    return tuple(found)
