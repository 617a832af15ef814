"""All rows that a run has stored so far, trials of coefficients among them, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedml_spurious.results.finished_run import fingerprints
from fedml_spurious.results.rows import RESULT_FILES, ClientResult, Epoch, read_results

CLIENT_FILES: dict[Epoch, str] = {"selected": "clients.csv", "last": "clients_last.csv"}


@dataclass(frozen=True)
class StoredRow:
    """A row with what it is of.

    Attributes:
        row: the row.
        options: options of its method as the folder names them, such as ``lam_adv=1.0,lam_l2=0.1``; empty
            where it has none.
        epoch: of which epoch the model is.
        final: whether it is in the results of a finished run; else it was tried, or the run goes on.
        splits: SHA-256 of the split files, which tells clients of one federated seed from those of another.
    """

    row: ClientResult
    options: str
    epoch: Epoch
    final: bool
    splits: str


def stored_rows(run: Path) -> Iterator[StoredRow]:
    """All rows of a run folder: by epoch, method, options, seeds and client.

    Args:
        run: the folder, which may be absent or unfinished.

    Raises:
        InputError: a file is broken.
    """
    splits = fingerprints(run)
    for epoch, name in CLIENT_FILES.items():
        results = run / RESULT_FILES[epoch]
        final = set(read_results(results)) if results.is_file() else set()
        for method in sorted((run / "personal").glob("*")):
            for options, path in _parts(method, name):
                # A kill may leave a client twice, of which the later holds, and rows in the order of work.
                rows = {row.client: row for row in read_results(path, grows=True)}
                for _, row in sorted(rows.items()):
                    yield StoredRow(row, options, epoch, row in final, splits.get(row.fl_seed, ""))


def _parts(method: Path, name: str) -> list[tuple[str, Path]]:
    """Options and file of every part; a method with options has what holds in the end a second time."""
    of_options = sorted(method.glob(f"*/fl*/{name}"))
    if of_options:
        return [(path.parent.parent.name, path) for path in of_options]
    return [("", path) for path in sorted(method.glob(f"fl*/{name}"))]
