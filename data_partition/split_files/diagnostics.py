"""How strong the shortcut is that training samples offer, before anything is trained.

From the counts in the description alone; no image is read. Information is in bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_partition.split_files.meta import ClientMeta, SplitMeta
from fedml_spurious.common.arrays import FloatArray


@dataclass(frozen=True)
class Shortcut:
    """What the spurious feature tells of the class in some training samples.

    Attributes:
        samples: number of samples.
        class_entropy: entropy of the class.
        information: mutual information of class and spurious feature, at most ``class_entropy``.
        aligned: share of bias-aligned samples.
        by_feature: accuracy of the best classifier that sees the spurious feature alone.
        by_nothing: accuracy of the best that sees nothing: the share of the largest class.
    """

    samples: int
    class_entropy: float
    information: float
    aligned: float
    by_feature: float
    by_nothing: float


def client_shortcuts(meta: SplitMeta) -> dict[str, Shortcut]:
    """The shortcut of every client with training samples, by its id."""
    tables = {name: _table(meta, client) for name, client in sorted(meta.clients.items())}
    return {
        name: _shortcut(table, _aligned(meta, meta.clients[name]))
        for name, table in tables.items()
        if table.sum()
    }


def pooled_shortcut(meta: SplitMeta) -> Shortcut | None:
    """The shortcut in all clients' training samples together; None without any."""
    table = np.sum([_table(meta, client) for client in meta.clients.values()], axis=0)
    return _shortcut(table, sum(_aligned(meta, c) for c in meta.clients.values())) if table.sum() else None


def _groups(client: ClientMeta) -> list[tuple[int, int, int]]:
    """Class, spurious value and number of training samples."""
    parts = ((group.split("/"), count) for group, count in client.groups["train"].items())
    return [(int(label), int(spurious), count) for (label, spurious), count in parts]


def _table(meta: SplitMeta, client: ClientMeta) -> FloatArray:
    """Training samples by class and spurious value, shape (K, A)."""
    table = np.zeros((meta.num_classes, len(meta.spurious_names)))
    for label, spurious, count in _groups(client):
        table[label, spurious] += count
    return table


def _aligned(meta: SplitMeta, client: ClientMeta) -> int:
    aligned = client.color_map
    return sum(
        count
        for label, spurious, count in _groups(client)
        if (
            aligned.get(label) == spurious
            if aligned is not None
            else (label, spurious) not in meta.conflicting_groups
        )
    )


def _shortcut(table: FloatArray, aligned: int) -> Shortcut:
    total = table.sum()
    by_class, by_value = table.sum(axis=1), table.sum(axis=0)
    of_class = _entropy(by_class)
    return Shortcut(
        samples=int(total),
        class_entropy=of_class,
        information=max(0.0, of_class + _entropy(by_value) - _entropy(table)),
        aligned=aligned / total,
        by_feature=float(table.max(axis=0).sum() / total),
        by_nothing=float(by_class.max() / total),
    )


def _entropy(counts: FloatArray) -> float:
    """Entropy of a distribution given by counts of any shape, in bits."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def describe_shortcut(meta: SplitMeta) -> list[str]:
    """The clients' shortcuts and that of all pooled, in lines of text; none without training samples."""
    clients, pooled = list(client_shortcuts(meta).values()), pooled_shortcut(meta)
    if pooled is None:
        return []
    lines = [
        "what the spurious feature tells of the class, in training samples:",
        f"{'':22}{'a client: min':>14}{'median':>9}{'max':>9}{'all pooled':>12}",
    ]
    for name, text in _QUANTITIES.items():
        values = [getattr(one, name) for one in clients]
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        lines.append(f"{text:22}{low:>14.3f}{middle:>9.3f}{high:>9.3f}{getattr(pooled, name):>12.3f}")
    return [*lines, _conclusion(clients, pooled)]


_QUANTITIES = {
    "aligned": "share aligned",
    "class_entropy": "entropy of class, bits",
    "information": "information, bits",
    "by_feature": "right by it alone",
    "by_nothing": "right by largest class",
}


def _conclusion(clients: Sequence[Shortcut], pooled: Shortcut) -> str:
    mean = np.mean([client.by_feature for client in clients])
    return (
        f"The best classifier that sees it alone is right on {mean:.1%} of a client's samples (mean); one "
        f"for all clients on {pooled.by_feature:.1%}, where {pooled.by_nothing:.1%} are of the largest class."
    )


def client_table(meta: SplitMeta) -> list[str]:
    """A line per client."""
    names = meta.client_names
    heading = f"{'client':8}{'samples':>8}{'aligned':>9}{'entropy':>10}{'information':>13}{'by it alone':>13}"
    lines = [
        f"{client:8}{one.samples:>8,}{one.aligned:>9.3f}{one.class_entropy:>10.3f}{one.information:>13.3f}"
        f"{one.by_feature:>13.3f}  {names.get(client, '')}".rstrip()
        for client, one in client_shortcuts(meta).items()
    ]
    return [f"{heading}  name" if names else heading, *lines]
