"""The findings on single clients put together: one per method, with intervals over clients and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from statistics import fmean
from typing import Any

from fedml_spurious.analysis.reliance import Estimate, Reliance
from fedml_spurious.audit.client import AuditOptions, Finding
from fedml_spurious.audit.verdicts import PeerEstimate, judge
from fedml_spurious.results.significance import compare

Place = tuple[int, int | None, str]
"""Federated seed, personalization seed and client."""


def pool(found: Mapping[Place, Finding], options: AuditOptions, *, own_clients: bool) -> Finding:
    """What is said of a method over all its clients and pairs of seeds; every client counts the same.

    Args:
        found: findings of one method, at least one.
        options: what was asked.
        own_clients: whether every federated seed has clients of its own.
    """
    reliances = {place: finding.reliance for place, finding in found.items()}
    # A client with images of one class has no donors, and its images as they are say nothing of the probe.
    with_donors = {place: one for place, one in reliances.items() if one.classes > 1}
    values: dict[str, Any] = {}
    for field in fields(Reliance):
        of_probe = options.probe is not None and field.name in _OF_PROBE
        used = with_donors if of_probe and with_donors else reliances
        values[field.name] = _joined(
            field.name, {place: getattr(one, field.name) for place, one in used.items()}, own_clients
        )
    reliance = Reliance(**values)
    peers = _pooled_peers({place: one.peers for place, one in found.items() if one.peers}, own_clients)
    verdict = judge(reliance, peers, has_probe=options.probe is not None, tolerance=options.tolerance)
    return Finding(reliance, peers, verdict)


_OF_PROBE = {
    "probed_global", "probed_personal", "flips_global", "flips_personal", "disparity_global",
    "disparity_personal", "delta", "delta_of_set",
}  # fmt: skip


def _joined(name: str, column: Mapping[Place, Any], own_clients: bool) -> Any:
    if isinstance(next(iter(column.values())), Estimate):
        return _pooled(column, own_clients)
    if name == "images":
        return sum(column.values())
    return max(column.values()) if name == "classes" else fmean(column.values())


def _pooled(column: Mapping[Place, Estimate], own_clients: bool) -> Estimate:
    """The mean over clients, with the interval of tables: clients and seeds are drawn again."""
    if len(column) == 1:
        return next(iter(column.values()))  # its own images say how sure it is
    values: dict[tuple[int, int | None], dict[str, float]] = {}
    for (fl_seed, p_seed, client), estimate in column.items():
        values.setdefault((fl_seed, p_seed), {})[client] = estimate.value
    nothing = {pair: dict.fromkeys(clients, 0.0) for pair, clients in values.items()}
    found = compare(values, nothing, own_clients=own_clients)
    if found is None or found.low is None or found.high is None:
        # No client has all pairs of seeds: the mean of the intervals is wider than that of their mean.
        value, low, high = (fmean(ends) for ends in zip(*map(_ends, column.values()), strict=True))
        return Estimate(value, low, high)
    return Estimate(found.mean, found.low, found.high)


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _pooled_peers(found: Mapping[Place, PeerEstimate], own_clients: bool) -> PeerEstimate | None:
    if not found:
        return None
    deltas = {place: one.delta for place, one in found.items() if one.delta is not None}
    fewest = min(one.clients for one in found.values())
    images = sum(one.images for one in found.values())
    return PeerEstimate(fewest, images, _pooled(deltas, own_clients) if deltas else None)
