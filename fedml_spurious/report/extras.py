"""Images and trajectories of clients, the worst first, as many as there is room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedml_spurious.figures.run_splits import Splits
from fedml_spurious.report.clients import ClientRow, Explorer
from fedml_spurious.report.pictures import Strip, strips
from fedml_spurious.report.trajectories import Rows, Spark, make_spark, read_trajectories
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import who

_MARKUP = 160
"""Bytes of the elements around an image or a trajectory."""
_LINE = 16
"""The same around a line of text."""


@dataclass(frozen=True)
class Extra:
    """What of a client is shown as far as the page stays small.

    Attributes:
        strips: its images.
        trajectories: how its accuracies went.
        audit: what the audit says of its personal models, with the reasons.
    """

    strips: tuple[Strip, ...] = ()
    trajectories: tuple[Spark, ...] = ()
    audit: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it takes in the page, about."""
        texts = [strip.source + 2 * strip.caption for strip in self.strips]
        texts += [spark.acc_b + spark.acc_bc + spark.text for spark in self.trajectories]
        return sum(len(text) + _MARKUP for text in texts) + sum(len(line) + _LINE for line in self.audit)


def make_extras(
    runs: DatasetRuns, explorer: Explorer, splits: Mapping[int, Splits], room: int
) -> tuple[Extra, ...]:
    """What is shown of each client, in the order of the explorer's rows, until the room is used up.

    Args:
        runs: the runs of the data set.
        explorer: its clients.
        splits: split files by federated seed.
        room: bytes.

    Raises:
        InputError: a file is broken.
    """
    seeds: dict[tuple[str, int | None], tuple[int, int | None]] = {}
    for result in runs.results:
        if result.method != GLOBAL:
            seeds.setdefault(who(result, runs.own_clients), (result.fl_seed, result.p_seed))
    trajectories = _Trajectories(runs)
    found: list[Extra] = []
    for row in explorer.rows:
        fl_seed, p_seed = seeds.get((row.client, row.fl_seed), (row.fl_seed or 0, None))
        own = splits.get(fl_seed)
        images = strips(own.folder, row.client) if own and own.has_images else ()
        extra = Extra(images, trajectories.of(row, explorer.methods, fl_seed, p_seed), row.audit)
        room -= extra.size
        if room < 0:
            break
        found.append(extra)
    return (*found, *(Extra(),) * (len(explorer.rows) - len(found)))


class _Trajectories:
    """Reads every file once."""

    def __init__(self, runs: DatasetRuns) -> None:
        self._runs = runs
        self._read: dict[tuple[str, int, int | None], Rows] = {}

    def of(
        self, row: ClientRow, methods: tuple[str, ...], fl_seed: int, p_seed: int | None
    ) -> tuple[Spark, ...]:
        found = []
        for method in methods:
            rows = self._rows(method, fl_seed, p_seed).get(row.client, ())
            found.append(make_spark(method, rows))
        return tuple(line for line in found if line)

    def _rows(self, method: str, fl_seed: int, p_seed: int | None) -> Rows:
        key = (method, fl_seed, p_seed)
        if key not in self._read:
            several = (read_trajectories(run.path, *key) for run in self._runs.runs)
            self._read[key] = next((rows for rows in several if rows), {})
        return self._read[key]
