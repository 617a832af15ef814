"""``personal/jtt/.../details.json``: how well JTT's error sets find the bias-conflicting samples."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Annotated

from pydantic import ConfigDict, Field, RootModel

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.stored_models import read_stored
from fedml_spurious.results.text_tables import TextTable

JTT = "jtt"
SHOWN_CLIENTS = 20
"""With more clients a table shows their mean and range."""
_QUANTITIES = {
    "samples": "samples",
    "conflicting": "conflicting",
    "error_set": "error set",
    "precision": "precision",
    "recall": "recall",
}

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ErrorSet(FrozenModel):
    """The error set of one client: the training samples that the first stage gets wrong.

    Attributes:
        samples: training samples.
        error_set: those in the error set.
        conflicting: bias-conflicting ones.
        hits: bias-conflicting ones in the error set.
        precision: ``hits / error_set``; None where the error set is empty.
        recall: ``hits / conflicting``; None where there is none.
    """

    samples: Count
    error_set: Count
    conflicting: Count
    hits: Count
    precision: Share | None
    recall: Share | None


class _ErrorSets(RootModel[Annotated[dict[str, ErrorSet], Field(min_length=1)]]):
    """Error sets by client."""

    model_config = ConfigDict(frozen=True, strict=True)


ErrorSets = Mapping[str, ErrorSet]
"""By client."""

_EXPECTED = "the error sets that JTT stored"


def read_error_sets(run: FinishedRun) -> Mapping[str, ErrorSets]:
    """Error sets of a run by its seeds, such as ``fl0 p0``; empty where it has no JTT, or is an older one.

    Raises:
        InputError: a file is broken.
    """
    seeds = dict.fromkeys((row.fl_seed, row.p_seed) for row in run.results if row.method == JTT)
    found: dict[str, ErrorSets] = {}
    for fl_seed, p_seed in seeds:
        path = run.path / "personal" / JTT / f"fl{fl_seed}_p{p_seed}" / "details.json"
        if path.exists():
            found[f"fl{fl_seed} p{p_seed}"] = read_stored(path, _ErrorSets, expected=_EXPECTED).root
    return found


def explain_error_sets(run: FinishedRun) -> list[TextTable]:
    """A table of a run's error sets by seeds and client, or pooled over many clients; none without them."""
    found = read_error_sets(run)
    if not found:
        return []
    many = max(map(len, found.values())) > SHOWN_CLIENTS
    rows = []
    for seeds, sets in found.items():
        rows += [_pooled(seeds, sets)] if many else [_row(seeds, client, own) for client, own in sets.items()]
    how = "\nMean over clients [smallest, largest]" if many else ""
    title = f"jtt: error sets, and how well they find the bias-conflicting training samples{how}"
    columns = ("seeds", "clients" if many else "client", *_QUANTITIES.values())
    return [TextTable(title, columns, tuple(rows), left=1 if many else 2)]


def _row(seeds: str, client: str, own: ErrorSet) -> tuple[str, ...]:
    return (seeds, client, *(_cell(getattr(own, name)) for name in _QUANTITIES))


def _cell(value: float | None) -> str:
    if value is None:
        return "N/A"
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _pooled(seeds: str, sets: ErrorSets) -> tuple[str, ...]:
    cells = []
    for name in _QUANTITIES:
        values = [value for own in sets.values() if (value := getattr(own, name)) is not None]
        cells.append(_range(values) if values else "N/A")
    return (seeds, str(len(sets)), *cells)


def _range(values: list[float]) -> str:
    mean = f"{fmean(values):.{1 if isinstance(values[0], int) else 2}f}"
    return f"{mean} [{_cell(min(values))}, {_cell(max(values))}]"
