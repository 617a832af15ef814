"""The rows of the explorer: every client with what each method does on it, the worst first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data_partition.colored.coloring import PALETTE
from data_partition.split_files.meta import SplitMeta
from fedml_spurious.results.averages import client_mean, disparity
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.proportions import Interval, difference_interval, share_interval
from fedml_spurious.results.rows import ClientResult, who


@dataclass(frozen=True)
class Measured:
    """What a method does on one client: means over the pairs of seeds, with intervals over its test samples.

    Attributes:
        method: name of the method.
        acc_b: accuracy on the biased test set, in [0, 1]; None where the method does not apply.
        acc_bc: accuracy on the bias-conflicting test set; None too where the client has none.
        disparity: ``acc_b - acc_bc``.
        acc_adv: accuracy on adversarial examples of the biased test set.
        epochs: selected epochs, one per pair of seeds.
        acc_b_interval: 95 % interval of ``acc_b``.
        acc_bc_interval: that of ``acc_bc``.
        disparity_interval: that of the disparity.
    """

    method: str
    acc_b: float | None
    acc_bc: float | None
    disparity: float | None
    acc_adv: float | None
    epochs: tuple[int, ...]
    acc_b_interval: Interval | None
    acc_bc_interval: Interval | None
    disparity_interval: Interval | None


@dataclass(frozen=True)
class Pair:
    """A class and the value of the spurious feature that goes with it on a client.

    Attributes:
        label: name of the class.
        spurious: name of the value.
        color: ``#rrggbb`` where the value is a colour of the palette; else empty.
    """

    label: str
    spurious: str
    color: str


@dataclass(frozen=True)
class Said:
    """What the audit says of a client's personal models.

    Attributes:
        verdict: the verdict, in short.
        methods: methods of which it is said, with one pair of seeds at least.
    """

    verdict: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class ClientRow:
    """A row of the explorer.

    Attributes:
        client: id of the client.
        fl_seed: its federated seed, where every seed has clients of its own; else None.
        name: what the page calls it: its id, and what it was called in a user's own data.
        classes: names of its classes; empty where the split files are gone.
        n_train: training samples.
        n_test: samples of the biased test set.
        n_test_bc: samples of the bias-conflicting test set.
        methods: what every method does, in the order of the table.
        color_map: which value goes with which class; empty without a map.
        is_worst: whether it is among the tenth of the clients with the largest disparity.
        verdicts: what the audit says of its personal models; empty without an audit.
        audit: the same with the reasons, a line each.
    """

    client: str
    fl_seed: int | None
    name: str
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    n_test_bc: int
    methods: tuple[Measured, ...]
    color_map: tuple[Pair, ...]
    is_worst: bool = False
    verdicts: tuple[Said, ...] = ()
    audit: tuple[str, ...] = ()

    @property
    def worst(self) -> float | None:
        """The largest disparity of a personal model; of the global one where there is no other."""
        personal = [found for found in self.methods if found.method != GLOBAL] or self.methods
        return max((found.disparity for found in personal if found.disparity is not None), default=None)


@dataclass(frozen=True)
class Explorer:
    """All clients.

    Attributes:
        methods: names of the methods, a group of columns each.
        rows: the clients, the worst first, those without a disparity last.
        mean: mean of every column of numbers over the clients, in the order of :func:`numbers`.
        median: the median of every column.
        verdicts: those that the audit gave, in short; empty without one.
    """

    methods: tuple[str, ...]
    rows: tuple[ClientRow, ...]
    mean: tuple[float | None, ...]
    median: tuple[float | None, ...]
    verdicts: tuple[str, ...] = ()


Metas = Mapping[int, SplitMeta]
"""Descriptions of the split files by federated seed; empty where they are gone."""


def make_explorer(runs: DatasetRuns, metas: Metas) -> Explorer:
    """Gather the rows of every client, and sort them.

    Args:
        runs: the runs of one data set.
        metas: what is known of their clients.
    """
    by_client: dict[tuple[str, int | None], list[ClientResult]] = {}
    for result in runs.results:
        by_client.setdefault(who(result, runs.own_clients), []).append(result)
    methods = tuple(runs.methods())
    names = {fl_seed: meta.client_names for fl_seed, meta in metas.items()}
    rows = [_row(key, found, methods, metas, names) for key, found in by_client.items()]
    ordered = sorted(rows, key=_badness)
    tenth = math.ceil(sum(row.worst is not None for row in rows) / 10)
    marked = [_mark(row, index < tenth) for index, row in enumerate(ordered)]
    columns = list(zip(*map(numbers, marked), strict=True))
    return Explorer(
        methods,
        tuple(marked),
        tuple(client_mean(column) for column in columns),
        tuple(_present(statistics.median, column) for column in columns),
    )


def numbers(row: ClientRow) -> list[float | None]:
    """The numbers of a row, a column each."""
    found: list[float | None] = [row.n_train, row.n_test, row.n_test_bc, row.worst]
    for measured in row.methods:
        found += [measured.acc_b, measured.acc_bc, measured.disparity]
    return found


def _present(what: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return what(present) if present else None


def _badness(row: ClientRow) -> tuple[bool, float, str]:
    return row.worst is None, -(row.worst or 0.0), row.name


def _mark(row: ClientRow, is_worst: bool) -> ClientRow:
    return replace(row, is_worst=is_worst)


def _row(
    key: tuple[str, int | None],
    results: Sequence[ClientResult],
    methods: Sequence[str],
    metas: Metas,
    names: Mapping[int, Mapping[str, str]],
) -> ClientRow:
    client, fl_seed = key
    first = results[0]
    meta = metas.get(first.fl_seed)
    own = meta.clients.get(client) if meta else None
    called = names[first.fl_seed].get(client, "") if meta else ""
    return ClientRow(
        client=client,
        fl_seed=fl_seed,
        name=f"{'' if fl_seed is None else f'fl{fl_seed} '}{client} {called}".rstrip(),
        classes=tuple(meta.class_names[label] for label in own.classes) if meta and own else (),
        n_train=first.n_train,
        n_test=first.n_test,
        n_test_bc=first.n_test_bc,
        methods=tuple(
            _measured(method, [row for row in results if row.method == method]) for method in methods
        ),
        color_map=_pairs(meta, own.color_map) if meta and own and own.color_map else (),
    )


def _pairs(meta: SplitMeta, color_map: Mapping[int, int]) -> tuple[Pair, ...]:
    found = []
    for label, value in sorted(color_map.items()):
        name = meta.spurious_names[value]
        rgb = PALETTE.get(name)
        color = "#" + bytes(rgb).hex() if rgb else ""
        found.append(Pair(meta.class_names[label], name, color))
    return tuple(found)


def _measured(method: str, rows: Sequence[ClientResult]) -> Measured:
    acc_b, acc_bc, acc_adv = (
        client_mean([getattr(row, name) for row in rows]) for name in ("acc_b", "acc_bc", "acc_adv")
    )
    n_test, n_test_bc = (rows[0].n_test, rows[0].n_test_bc) if rows else (0, 0)
    both = acc_b is not None and acc_bc is not None and n_test and n_test_bc
    return Measured(
        method,
        acc_b,
        acc_bc,
        disparity(acc_b, acc_bc),
        acc_adv,
        tuple(row.selected_epoch for row in rows if row.selected_epoch is not None),
        share_interval(acc_b, n_test) if acc_b is not None and n_test else None,
        share_interval(acc_bc, n_test_bc) if acc_bc is not None and n_test_bc else None,
        difference_interval(acc_b or 0.0, n_test, acc_bc or 0.0, n_test_bc) if both else None,
    )
