"""How a client's accuracies went while it was personalized, as small lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedml_spurious.common.storage import read_csv

WIDTH, HEIGHT = 120, 50
"""Of the drawing, in its own units; accuracies from 0 at the bottom to 1 at the top."""
_POINTS = 24
"""More are thinned out: nobody sees them."""


@dataclass(frozen=True)
class Spark:
    """The lines of one method on one client.

    Attributes:
        method: name of the method.
        acc_b: points of the line of Acc_B, as SVG has them.
        acc_bc: those of Acc_BC; empty where the client has no bias-conflicting sample.
        text: the first and the last values in words.
    """

    method: str
    acc_b: str
    acc_bc: str
    text: str


Rows = Mapping[str, Sequence[Mapping[str, str]]]
"""Rows of ``trajectory.csv`` by client, in the order of the batches."""


def read_trajectories(path: Path, method: str, fl_seed: int, p_seed: int | None) -> Rows:
    """The trajectory of a method with one pair of seeds; empty where the run recorded none."""
    file = path / "personal" / method / f"fl{fl_seed}_p{p_seed}" / "trajectory.csv"
    by_client: dict[str, list[Mapping[str, str]]] = {}
    for row in read_csv(file, grows=True) if file.is_file() else ():
        by_client.setdefault(row["client"], []).append(row)
    return by_client


def make_spark(method: str, rows: Sequence[Mapping[str, str]]) -> Spark | None:
    """The lines of one client; None without rows."""
    if not rows:
        return None
    step = max(1, -(-len(rows) // _POINTS))
    # The last point is what became of it, and stays.
    thinned = [row for index, row in enumerate(rows) if (len(rows) - 1 - index) % step == 0]
    texts = []
    for name, column in (("Acc_B", "acc_b"), ("Acc_BC", "acc_bc")):
        values = [row[column] for row in (rows[0], rows[-1]) if row[column]]
        if len(values) == 2:
            texts.append(f"{name} {float(values[0]):.2f} to {float(values[1]):.2f}")
    return Spark(method, _line(thinned, "acc_b"), _line(thinned, "acc_bc"), ", ".join(texts))


def _line(rows: Sequence[Mapping[str, str]], column: str) -> str:
    last = max(len(rows) - 1, 1)
    return " ".join(
        f"{WIDTH * index / last:.0f},{HEIGHT * (1 - float(row[column])):.0f}"
        for index, row in enumerate(rows)
        if row[column]
    )
