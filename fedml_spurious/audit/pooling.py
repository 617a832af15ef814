"""The findings on single clients put together: one per method, with intervals over clients and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    """The mean over clients, with the interval of tables: clients and seeds are drawn again.

    The interval is never narrower than the clients' images allow, because few clients may agree by chance.
    """
    if len(column) == 1:
        return next(iter(column.values()))  # its own images say how sure it is
    of_client: dict[tuple[int | None, str], list[Estimate]] = {}
    for (fl_seed, _, client), estimate in column.items():
        of_client.setdefault((fl_seed if own_clients else None, client), []).append(estimate)
    means = {client: fmean(one.value for one in own) for client, own in of_client.items()}
    values: dict[tuple[int, int | None], dict[str, float]] = {}
    for fl_seed, p_seed in dict.fromkeys(place[:2] for place in column):
        values[fl_seed, p_seed] = {
            # A model that is not there, or diverged, counts as the others of its client: none is left out.
            client: column[fl_seed, p_seed, client].value if (fl_seed, p_seed, client) in column else mean
            for (seed, client), mean in means.items()
            if seed in (None, fl_seed)
        }
    nothing = {pair: dict.fromkeys(clients, 0.0) for pair, clients in values.items()}
    found = compare(values, nothing, own_clients=own_clients)
    value = fmean(means.values()) if found is None else found.mean
    half = _half_by_images(list(of_client.values()))
    ends = [value - half, value + half]
    if found is not None and found.low is not None and found.high is not None:
        ends += [found.low, found.high]
    return Estimate(value, min(ends), max(ends))


def _half_by_images(clients: Sequence[Sequence[Estimate]]) -> float:
    """Half the interval of a mean over clients, by their images alone; those of one client are the same."""
    halves = [fmean((one.high - one.low) / 2 for one in own) for own in clients]
    return math.sqrt(sum(half * half for half in halves)) / len(halves)


def _pooled_peers(found: Mapping[Place, PeerEstimate], own_clients: bool) -> PeerEstimate | None:
    if not found:
        return None
    # A client with too few peers is left out, unless all have too few.
    used = {place: one for place, one in found.items() if one.usable is not None} or found
    deltas = {place: one.delta for place, one in used.items() if one.delta is not None}
    fewest = min(one.clients for one in used.values())
    images = sum(one.images for one in used.values())
    return PeerEstimate(fewest, images, _pooled(deltas, own_clients) if deltas else None)
