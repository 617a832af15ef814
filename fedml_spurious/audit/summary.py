"""Findings on single personal models as an audit tells them: rows, and what is said of each method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedml_spurious.analysis.reliance import Estimate
from fedml_spurious.audit.client import AuditOptions, Example, Finding
from fedml_spurious.results.audits import VERDICTS, AuditEstimate, AuditSummary, AuditTruth, MethodAudit
from fedml_spurious.results.averages import client_mean


@dataclass(frozen=True)
class Audited:
    """What an audit found.

    Attributes:
        rows: of ``audit.csv``, a personal model each.
        summary: of ``audit.json``.
        examples: images beside what the probe made of them.
    """

    rows: list[dict[str, Any]]
    summary: AuditSummary
    examples: list[Example]


@dataclass(frozen=True)
class Told:
    """What is known of one personal model.

    Attributes:
        finding: what the audit found.
        acc_adv_global: accuracy of the global model on adversarial examples of the biased test set.
        acc_adv_personal: that of the personal model.
        kl: divergence of its predictions on these, in nats; None where nothing was attacked.
        truth: rise of the disparity on the bias-conflicting test set; None where it was not asked for.
    """

    finding: Finding
    acc_adv_global: float | None = None
    acc_adv_personal: float | None = None
    kl: float | None = None
    truth: float | None = None


def summarize(
    told: Mapping[str, Sequence[Told]],
    pooled: Mapping[str, Finding],
    options: AuditOptions,
    *,
    absent: int = 0,
) -> AuditSummary:
    """What is said of each method.

    Args:
        told: what is known of its personal models, by method.
        pooled: what is said of all of them together.
        options: what was asked.
        absent: personal models that are not here.
    """
    return AuditSummary(
        probe=options.probe_name or None,
        peers=options.peers,
        tolerance=options.tolerance,
        absent=absent,
        methods={name: _method(pooled[name], models, options) for name, models in told.items()},
    )


def _method(pooled: Finding, told: Sequence[Told], options: AuditOptions) -> MethodAudit:
    reliance, peers = pooled.reliance, pooled.peers
    words = [one.finding.verdict.word for one in told]
    has_probe = options.probe is not None and reliance.classes > 1
    return MethodAudit(
        verdict=pooled.verdict.word,
        reason=pooled.verdict.reason,
        models={verdict: words.count(verdict) for verdict in VERDICTS},
        change=_estimate(reliance.change),
        disparity_global=_estimate(reliance.disparity_global) if has_probe else None,
        disparity_personal=_estimate(reliance.disparity_personal) if has_probe else None,
        delta=_estimate(reliance.delta) if has_probe else None,
        peer_delta=_estimate(peers.delta) if peers and peers.delta else None,
        acc_adv_global=client_mean([one.acc_adv_global for one in told]),
        acc_adv_personal=client_mean([one.acc_adv_personal for one in told]),
        kl=client_mean([one.kl for one in told]),
        truth=_truth(told, options) if options.truth else None,
    )


def _estimate(found: Estimate) -> AuditEstimate:
    return AuditEstimate(value=found.value, low=found.low, high=found.high)


def _truth(told: Iterable[Told], options: AuditOptions) -> AuditTruth:
    known = [(one.finding, one.truth) for one in told if one.truth is not None]
    intervals = [(_interval(finding, options), truth) for finding, truth in known]
    compared = [(found, truth) for found, truth in intervals if found is not None]
    return AuditTruth(
        delta=client_mean([truth for _, truth in known]),
        compared=len(compared),
        covered=sum(found.low <= truth <= found.high for found, truth in compared),
    )


def _interval(finding: Finding, options: AuditOptions) -> Estimate | None:
    """Where the rise on a test set is expected: by the probe where there is one, else by peers."""
    if options.probe is not None:
        return finding.reliance.delta_of_set if finding.reliance.classes > 1 else None
    return finding.peers.delta if finding.peers else None
