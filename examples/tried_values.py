"""What every coefficient that tuning tried keeps and takes back: python examples/tried_values.py RUN...

For each of the values in RUN/personal/<method>/<options>/: validation accuracy, share of fine-tuning's gain
in Acc_B that is kept and share of its rise in disparity that is taken back, for the selected and the last
epoch. It looks at test sets, which tuning must not: it is for choosing a rule once, on seeds that no
published table has.
"""

import sys
from pathlib import Path

from fedml_spurious.results.rows import ClientResult, average, read_results
from fedml_spurious.results.shares import shares

EPOCHS = {"selected": "clients.csv", "last": "clients_last.csv"}


def rows_of(run: Path, options: str, name: str) -> list[ClientResult]:
    """Rows of one method with these options, over all pairs of seeds."""
    return [
        row for part in sorted((run / "personal" / options).glob("fl*")) for row in read_results(part / name)
    ]


def means(rows: list[ClientResult]) -> dict[str, float | None]:
    """Client means by quantity, over all pairs of seeds."""
    return {name: value and value.mean for name, value in average(rows, "mean").items()}


def main(run: Path) -> None:
    """Print a line for every value that was tried."""
    print(f"{run}\n{'':32}{'val_acc':>16}{'kept':>16}{'taken back':>16}   (selected, last)")
    tried = {path.parent.parent for path in run.glob("personal/*/*/fl*/clients.csv")}
    for part in sorted(tried):
        options = str(part.relative_to(run / "personal"))
        cells = [[], [], []]
        for name in EPOCHS.values():
            rows = rows_of(run, options, name)
            found, tuned, reference = (
                means(kept) for kept in (rows, rows_of(run, "ft", name), rows_of(run, "global", name))
            )
            between = shares(found, tuned, reference)
            correct = sum((row.val_acc or 0.0) * row.n_val for row in rows) / sum(row.n_val for row in rows)
            for column, value in zip(cells, (correct, between.kept, between.taken_back), strict=True):
                column.append("N/A" if value is None else f"{value:.3f}")
        print(f"{options:32}" + "".join(f"{', '.join(column):>16}" for column in cells))


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(Path(folder))
