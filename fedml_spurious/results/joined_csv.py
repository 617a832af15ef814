"""Runs of any number of data sets side by side, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from fedml_spurious.results.dataset_table import (
    DIFFERENCE_COLUMNS,
    SHARE_COLUMNS,
    DatasetTable,
    difference_cells,
    runs_of,
    share_cells,
    spread_cells,
)
from fedml_spurious.results.method_names import GLOBAL, selected_by
from fedml_spurious.results.paper import COMPARED, TABLE_1, TITLES, paper_shares, paper_values
from fedml_spurious.results.rows import MethodSummary


def to_csv(tables: Sequence[DatasetTable]) -> str:
    """A row per data set and method, with every digit; empty cells: N/A, or not in the paper."""
    columns = ["dataset", "paper_dataset", "method", "average", "clients", "seed_pairs"]
    for name in COMPARED:
        columns += [name, f"{name}_std", f"{name}_paper", f"{name}_minus_paper"]
    columns += ["acc_b_paper_spread", "acc_bc_paper_spread", "acc_adv", "acc_adv_std", *DIFFERENCE_COLUMNS]
    columns += ["selected_by", "coefficients"]
    for name in SHARE_COLUMNS:
        columns += [name, f"{name}_paper"]
    columns += ["epoch"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_row(table, summary) for table in tables for summary in table.summaries)
    return buffer.getvalue()


def _csv_row(table: DatasetTable, summary: MethodSummary) -> dict[str, Any]:
    dataset, method, values = table.runs.dataset, summary.method, table.values(summary)
    row: dict[str, Any] = {
        "dataset": dataset,
        "paper_dataset": TITLES.get(dataset),
        "method": method,
        "average": table.average,
        "clients": summary.clients,
        "seed_pairs": runs_of(values),
        "selected_by": None if method == GLOBAL else selected_by(method),
        "coefficients": table.runs.coefficients(method),
        "epoch": table.epoch,
    }
    for name, theirs in paper_values(dataset, method).items():
        ours = values[name]
        row |= {f"{name}_paper": theirs, f"{name}_minus_paper": ours and ours.mean - theirs}
    cell = TABLE_1.get(dataset, {}).get(method)
    if cell is not None:
        row |= {"acc_b_paper_spread": cell.spread_b, "acc_bc_paper_spread": cell.spread_bc}
    row |= share_cells(summary.shares[table.average])
    row |= {f"{name}_paper": share for name, share in share_cells(paper_shares(dataset, method)).items()}
    return row | spread_cells(values) | difference_cells(summary.against_ours)
