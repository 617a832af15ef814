"""The table at the end of a run, and the sentence that says what it means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedml_spurious.averages import Spread
from fedml_spurious.method_names import BASELINE, GLOBAL, HEADLINE
from fedml_spurious.results import QUANTITIES, MethodSummary
from fedml_spurious.storage import write_csv, write_text

_POOLS = {"mean": "client mean", "weighted": "sample-weighted mean"}


def show_table(console: Console, summaries: Sequence[MethodSummary]) -> None:
    """Print the table and the sentence."""
    for pool, title in _POOLS.items():
        table = Table(title=_title(summaries, title), title_justify="left")
        table.add_column("method")
        for heading in QUANTITIES.values():
            table.add_column(heading, justify="right")
        for summary in summaries:
            table.add_row(*_cells(summary, pool))
        console.print(table)
    sentence = conclude(summaries)
    if sentence:
        console.print(sentence, highlight=False)


def write_table(folder: Path, summaries: Sequence[MethodSummary]) -> None:
    """Write ``table.csv`` and ``table.md``."""
    columns = ["method", "clients", "average", *QUANTITIES, *(f"{name}_std" for name in QUANTITIES), "runs"]
    rows = []
    for pool in _POOLS:
        for summary in summaries:
            values = getattr(summary, pool)
            row = {"method": summary.method, "clients": summary.clients, "average": pool}
            row |= {name: value.mean for name, value in values.items() if value}
            row |= {f"{name}_std": value.std for name, value in values.items() if value}
            row["runs"] = max((value.count for value in values.values() if value), default=0)
            rows.append(row)
    write_csv(folder / "table.csv", columns, rows)
    parts = [f"{_title(summaries, title)}\n\n{_markdown(summaries, pool)}" for pool, title in _POOLS.items()]
    write_text(folder / "table.md", "\n".join([*parts, conclude(summaries)]).rstrip() + "\n")


def _title(summaries: Sequence[MethodSummary], average: str) -> str:
    clients = max((summary.clients for summary in summaries), default=0)
    runs = max((value.count for summary in summaries for value in summary.mean.values() if value), default=0)
    spread = f", mean ± standard deviation over {runs} runs" if runs > 1 else ""
    return f"{average.capitalize()} of {clients} clients{spread}"


def _markdown(summaries: Sequence[MethodSummary], pool: str) -> str:
    header = ["method", *QUANTITIES.values()]
    lines = [header, ["---", *["---:"] * len(QUANTITIES)], *(_cells(summary, pool) for summary in summaries)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _cells(summary: MethodSummary, pool: str) -> list[str]:
    values = getattr(summary, pool)
    return [summary.method, *(_cell(values[name]) for name in QUANTITIES)]


def _cell(value: Spread | None) -> str:
    if value is None:
        return "N/A"
    return f"{value.mean:.3f}" + ("" if value.std is None else f" ± {value.std:.3f}")


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
    return (
        f"Fine-tuning raises the accuracy disparity from {global_disparity:.3f} to {ft_disparity:.3f}; ours "
        f"{change} (disparity {ours_disparity:.3f}), and {accuracy}."
    )
