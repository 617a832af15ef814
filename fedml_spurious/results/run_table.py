"""The table at the end of a run, and the sentence that says what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fedml_spurious.common.storage import write_csv, write_text
from fedml_spurious.results.averages import Spread
from fedml_spurious.results.method_names import BASELINE, GLOBAL, HEADLINE
from fedml_spurious.results.rows import QUANTITIES, MethodSummary
from fedml_spurious.results.significance import FEW_CLIENTS, FEW_FL_SEEDS, LEVEL, RESAMPLES, Difference
from fedml_spurious.results.text_tables import Document, TextTable, print_document, to_latex, to_markdown

POOLS = {"mean": "client mean", "weighted": "sample-weighted mean"}
AGAINST_OURS = f"Disparity minus ours'\n[{LEVEL:.0%} CI]"
DIFFERENCE_COLUMNS = (
    "disparity_minus_ours", "disparity_minus_ours_low", "disparity_minus_ours_high", "compared_clients",
)  # fmt: skip


def show_table(console: Console, summaries: Sequence[MethodSummary], notes: Sequence[str] = ()) -> None:
    """Print the table, notes and the sentence."""
    print_document(console, _document(summaries, notes))


def write_table(folder: Path, summaries: Sequence[MethodSummary], notes: Sequence[str] = ()) -> None:
    """Write ``table.csv``, ``table.md`` and ``table.tex``."""
    columns = ["method", "clients", "average", *QUANTITIES, *(f"{name}_std" for name in QUANTITIES), "runs"]
    rows = []
    for pool in POOLS:
        for summary in summaries:
            values = getattr(summary, pool)
            row = {"method": summary.method, "clients": summary.clients, "average": pool}
            row |= {name: value.mean for name, value in values.items() if value}
            row |= {f"{name}_std": value.std for name, value in values.items() if value}
            row["runs"] = runs_of(values)
            rows.append(row | (difference_cells(summary.against_ours) if pool == "mean" else {}))
    write_csv(folder / "table.csv", [*columns, *DIFFERENCE_COLUMNS], rows)
    document = _document(summaries, notes)
    write_text(folder / "table.md", to_markdown(document))
    write_text(folder / "table.tex", to_latex(document))


def _document(summaries: Sequence[MethodSummary], notes: Sequence[str]) -> Document:
    grids = [_grid(summaries, pool, title) for pool, title in POOLS.items()]
    said = [clients_note(summaries), difference_note(summaries), *notes, conclude(summaries)]
    return [*grids, *filter(None, said)]


def _grid(summaries: Sequence[MethodSummary], pool: str, average: str) -> TextTable:
    compared = pool == "mean" and any(summary.against_ours for summary in summaries)
    columns = ("method", *QUANTITIES.values(), *((AGAINST_OURS,) if compared else ()))
    rows = []
    for summary in summaries:
        cells = [spread_cell(getattr(summary, pool)[name]) for name in QUANTITIES]
        difference = (difference_cell(summary.against_ours),) if compared else ()
        rows.append((summary.method, *cells, *difference))
    return TextTable(_title(summaries, average), columns, tuple(rows))


def _title(summaries: Sequence[MethodSummary], average: str) -> str:
    clients = max((summary.all_clients for summary in summaries), default=0)
    runs = max((runs_of(summary.mean) for summary in summaries), default=0)
    deviation = f", mean ± standard deviation over {runs} runs" if runs > 1 else ""
    return f"{average.capitalize()} of {clients} clients{deviation}"


def runs_of(values: Mapping[str, Spread | None]) -> int:
    """Number of pairs of seeds behind a row."""
    return max((value.count for value in values.values() if value), default=0)


def spread_cell(value: Spread | None) -> str:
    """A mean and its standard deviation; N/A where there is none."""
    if value is None:
        return "N/A"
    return f"{value.mean:.3f}" + ("" if value.std is None else f" ± {value.std:.3f}")


def difference_cell(difference: Difference | None) -> str:
    """A difference and its interval; empty where nothing was compared."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def difference_cells(difference: Difference | None) -> dict[str, Any]:
    """The same as cells of a CSV file."""
    if difference is None:
        return {}
    values = (difference.mean, difference.low, difference.high, difference.clients)
    return dict(zip(DIFFERENCE_COLUMNS, values, strict=True))


def clients_note(summaries: Sequence[MethodSummary]) -> str:
    """Which rows are of some clients only; empty where all are of all."""
    found = [
        f"{summary.method} applies to {summary.clients} of {summary.all_clients} clients, and its row is of "
        "those."
        for summary in summaries
        if 0 < summary.clients < summary.all_clients
    ]
    found += [
        f"{summary.method}: {summary.conflicting_clients} of {summary.clients} clients have bias-conflicting "
        "samples, and Acc_BC and disparities are of those."
        for summary in summaries
        if summary.conflicting_clients < summary.clients
    ]
    return " ".join(found)


def difference_note(summaries: Sequence[MethodSummary]) -> str:
    """What the intervals are of; empty where there are none."""
    found = [summary.against_ours for summary in summaries if summary.against_ours]
    if not found:
        return ""
    clients = sorted({difference.clients for difference in found})
    pairs = sorted({difference.pairs for difference in found})
    heading = AGAINST_OURS.replace("\n", " ")
    few = ["clients"] if clients[0] < FEW_CLIENTS else []
    if any(1 < difference.fl_seeds < FEW_FL_SEEDS for difference in found):
        few.append("federated seeds")
    caveats = [f"With so few {' and '.join(few)} the intervals are too narrow."] if few else []
    caveats += ["One pair of seeds tells nothing about other seeds."] if pairs[0] == 1 else []
    what = (
        f"{heading}: client mean over {_either(clients)} clients with bias-conflicting samples and "
        f"{_either(pairs)} pair{'' if pairs == [1] else 's'} of seeds; {RESAMPLES:,} bootstrap resamples, "
        "paired over clients and seeds."
    )
    return " ".join([what, *caveats])


def _either(counts: Sequence[int]) -> str:
    return " or ".join(map(str, counts))


def conclude(summaries: Sequence[MethodSummary]) -> str:
    """One sentence on what the table means; empty where it lacks one of global, ``ft`` and ``ours``."""
    found = {summary.method: summary.mean for summary in summaries}
    values = [
        found.get(method, {}).get(name)
        for method in (GLOBAL, BASELINE, HEADLINE)
        for name in ("disparity", "acc_b")
    ]
    present = [value.mean for value in values if value is not None]
    if len(present) < len(values):
        return ""
    global_disparity, global_acc, ft_disparity, _, ours_disparity, ours_acc = present
    gain = ours_acc - global_acc
    accuracy = f"its Acc_B is {abs(gain):.3f} {'above' if gain >= 0 else 'below'} the global model's"
    if ft_disparity <= global_disparity:
        return (
            f"Fine-tuning did not raise the disparity here ({global_disparity:.3f} for the global model, "
            f"{ft_disparity:.3f} after it), so there was no rise to take back; ours ends at "
            f"{ours_disparity:.3f}, and {accuracy}."
        )
    taken_back = (ft_disparity - ours_disparity) / (ft_disparity - global_disparity)
    change = f"takes back {taken_back:.0%} of that rise" if taken_back >= 0 else "raises it further"
    if taken_back > 1:
        change = "takes back more than that rise"
    return (
        f"Fine-tuning raises the accuracy disparity from {global_disparity:.3f} to {ft_disparity:.3f}; ours "
        f"{change} (disparity {ours_disparity:.3f}), and {accuracy}."
    )
