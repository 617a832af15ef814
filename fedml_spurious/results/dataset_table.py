"""From rows to a table: the runs of one data set, averaged, as cells of text and of CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedml_spurious.results.averages import Spread
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.rows import QUANTITIES, Average, Epoch, MethodSummary, count_clients, summarize
from fedml_spurious.results.shares import Shares
from fedml_spurious.results.significance import LEVEL, Difference
from fedml_spurious.results.text_tables import TextTable

POOLS: Mapping[Average, str] = {"mean": "client mean", "weighted": "sample-weighted mean"}
AGAINST_OURS = f"Disparity minus ours'\n[{LEVEL:.0%} CI]"
DIFFERENCE_COLUMNS = (
    "disparity_minus_ours", "disparity_minus_ours_low", "disparity_minus_ours_high", "compared_clients",
)  # fmt: skip
SHARE_COLUMNS = ("kept", "taken_back")


@dataclass(frozen=True)
class DatasetTable:
    """One data set, averaged.

    Attributes:
        runs: the runs that it comes from.
        average: how clients are pooled.
        summaries: one per method.
    """

    runs: DatasetRuns
    average: Average
    summaries: tuple[MethodSummary, ...]

    @classmethod
    def of(cls, runs: DatasetRuns, average: Average) -> DatasetTable:
        """Average the rows of a data set."""
        return cls(runs, average, tuple(summarize(runs.results, own_clients=runs.own_clients)))

    @property
    def clients(self) -> int:
        """Number of clients."""
        return count_clients(self.runs.results, self.runs.own_clients)

    @property
    def epoch(self) -> Epoch:
        """Of which epoch the personal models are."""
        return self.runs.runs[0].epoch

    def values(self, summary: MethodSummary) -> Mapping[str, Spread | None]:
        """Averages of a method by quantity; None where it has no value."""
        found: Mapping[str, Spread | None] = getattr(summary, self.average)
        return found


def measured(table: DatasetTable, title: str, quantities: Sequence[str], *, pairs: bool) -> TextTable:
    """What was measured, and what of fine-tuning it keeps and takes back, a row per method.

    Args:
        table: the data set.
        title: what stands above it.
        quantities: keys of ``QUANTITIES``, a column each.
        pairs: whether the number of pairs of seeds has a column.
    """
    columns = ["method", *(QUANTITIES[name] for name in quantities), "kept", "taken\nback"]
    columns += ["n"] if pairs else []
    rows = []
    for summary in table.summaries:
        values, found = table.values(summary), summary.shares[table.average]
        cells = [summary.method, *(spread_cell(values[name]) for name in quantities)]
        cells += [share_cell(found.kept), share_cell(found.taken_back)]
        rows.append((*cells, *([str(runs_of(values))] if pairs else [])))
    groups = (*(1 for _ in quantities), 3 if pairs else 2)
    return TextTable(title, tuple(columns), tuple(rows), groups=groups)


def differences(table: DatasetTable, title: str) -> list[TextTable]:
    """The disparity minus that of ours with its interval, a row per method; empty without ``ours``.

    A table of its own: the intervals do not fit beside everything else on 110 columns.
    """
    if not any(summary.against_ours for summary in table.summaries):
        return []
    rows = tuple((summary.method, difference_cell(summary.against_ours)) for summary in table.summaries)
    return [TextTable(title, ("method", AGAINST_OURS), rows)]


def runs_of(values: Mapping[str, Spread | None]) -> int:
    """Number of pairs of seeds behind a row."""
    return max((value.count for value in values.values() if value), default=0)


def spread_cell(value: Spread | None) -> str:
    """A mean and its standard deviation; N/A where there is none."""
    if value is None:
        return "N/A"
    return f"{value.mean:.3f}" + ("" if value.std is None else f" ± {value.std:.3f}")


def share_cell(share: float | None) -> str:
    """A share in percent; N/A where there is none."""
    return "N/A" if share is None else f"{round(100 * share)}%"


def difference_cell(difference: Difference | None) -> str:
    """A difference and its interval; empty where nothing was compared."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def spread_cells(values: Mapping[str, Spread | None]) -> dict[str, float | None]:
    """Means and standard deviations as cells of a CSV file, by column; those that are not there left out."""
    cells: dict[str, float | None] = {}
    for name, value in values.items():
        if value is not None:
            cells |= {name: value.mean, f"{name}_std": value.std}
    return cells


def share_cells(shares: Shares) -> dict[str, float | None]:
    """Shares as cells of a CSV file, by the names of ``SHARE_COLUMNS``."""
    return {"kept": shares.kept, "taken_back": shares.taken_back}


def difference_cells(difference: Difference | None) -> dict[str, Any]:
    """A difference as cells of a CSV file, by the names of ``DIFFERENCE_COLUMNS``."""
    if difference is None:
        return {}
    values = (difference.mean, difference.low, difference.high, difference.clients)
    return dict(zip(DIFFERENCE_COLUMNS, values, strict=True))
