"""``audit.json``: what an audit says of every method, as the audit writes it and the report reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.storage import read_csv, read_unchanged
from fedml_spurious.common.words import counted
from fedml_spurious.results.stored_models import read_stored
from fedml_spurious.results.text_tables import Document, TextTable

AUDIT_ROWS, AUDIT_SUMMARY, AUDIT_PICTURE = "audit.csv", "audit.json", "audit.png"
AUDIT_FILES = (AUDIT_ROWS, AUDIT_SUMMARY, AUDIT_PICTURE)

MORE, NOT_MORE, CANNOT_SAY = "more", "not more on the attribute you named", "cannot say"
VERDICTS = (MORE, NOT_MORE, CANNOT_SAY)
SHORT = {MORE: MORE, NOT_MORE: "not more", CANNOT_SAY: CANNOT_SAY}
"""The verdicts where there is little room."""
BIASED_REFERENCE = 0.1
"""Disparity of the global model, by the probe, beyond which it is a biased reference."""

_NEEDED = {"method", "fl_seed", "p_seed", "client", "verdict", "reason"}
_LIMITS = "The audit finds no shortcut that nobody named or that all clients share; 'not more' is not 'fair'."
_ORDERS_ONLY = (
    "Orders methods and epochs of this run; not in points, not comparable between runs; no evidence about "
    "methods that train on it"
)
_DISCLOSED = (
    "Peers: every personal model was shown to the clients that were asked; counts came back, no image moved."
)


class AuditEstimate(FrozenModel):
    """An estimate with its 95 % interval; a difference of accuracies, in [-2, 2]."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


class AuditTruth(FrozenModel):
    """What the bias-conflicting test sets say, beside the estimates.

    Attributes:
        delta: mean rise of the disparity over the global model's; None where no client has such samples.
        compared: personal models that have both an estimate and such samples.
        covered: those whose interval holds the truth; with a probe, the interval for a test set that has each
            class with one other attribute.
    """

    delta: float | None
    compared: int
    covered: int


class MethodAudit(FrozenModel):
    """What is said of a method, over all its personal models; every one counts the same.

    Attributes:
        verdict: one of ``VERDICTS``.
        reason: why, in words.
        models: number of personal models by verdict.
        change: personal minus global accuracy on the clients' own images.
        disparity_global: estimate of the global model's disparity; None without a probe.
        disparity_personal: that of the personal models'.
        delta: estimate of the rise of the disparity, by the probe.
        peer_delta: the same by peers; None where none were asked.
        acc_adv_global: mean accuracy of the global model on adversarial examples of the biased test sets.
        acc_adv_personal: that of the personal models.
        kl: mean divergence of the personal from the global predictions on these, in nats.
        truth: None where it was not asked for.
    """

    verdict: str
    reason: str
    models: dict[str, int]
    change: AuditEstimate
    disparity_global: AuditEstimate | None = None
    disparity_personal: AuditEstimate | None = None
    delta: AuditEstimate | None = None
    peer_delta: AuditEstimate | None = None
    acc_adv_global: float | None = None
    acc_adv_personal: float | None = None
    kl: float | None = None
    truth: AuditTruth | None = None


class AuditSummary(FrozenModel):
    """An audit, the same whoever did it; what older versions said beside is left unread.

    Attributes:
        probe: what the user called the probe; None without one.
        peers: whether peers were asked.
        tolerance: rise of the disparity that counts as none.
        absent: personal models that the run has results of and that are not here.
        methods: what is said of each method.
    """

    model_config = ConfigDict(extra="ignore")

    probe: str | None = None
    peers: bool
    tolerance: float
    absent: int
    methods: dict[str, MethodAudit]


@dataclass(frozen=True)
class StoredAudit:
    """The audit in a run folder.

    Attributes:
        summary: content of ``audit.json``.
        rows: of ``audit.csv``, as text.
        picture: content of ``audit.png``; empty where there is none.
    """

    summary: AuditSummary
    rows: list[dict[str, str]]
    picture: bytes


def read_audit(folder: Path) -> StoredAudit | None:
    """Read the audit of a run; None where there is none.

    Raises:
        InputError: a file of it is absent, broken, not what the audit wrote, or of models that are of no run.
    """
    if not (folder / AUDIT_SUMMARY).is_file():
        return None
    summary = read_stored(folder / AUDIT_SUMMARY, AuditSummary, expected="what an audit found")
    rows = read_csv(folder / AUDIT_ROWS)
    if not rows or not _NEEDED <= rows[0].keys():
        lacking = ", ".join(sorted(_NEEDED - rows[0].keys())) if rows else "every row"
        raise InputError(
            f"{folder / AUDIT_ROWS}: holds no rows of an audit (it lacks {lacking}); "
            f"{remedy(folder / AUDIT_ROWS)}"
        )
    if not all(row["fl_seed"].isdecimal() for row in rows):
        raise InputError(
            f"{folder / AUDIT_ROWS}: is the audit of models that are of no run (its rows name no seeds); "
            f"move {', '.join(AUDIT_FILES)} to another folder, or {remedy(folder / AUDIT_ROWS)}"
        )
    picture = folder / AUDIT_PICTURE
    return StoredAudit(summary, rows, read_unchanged(picture) if picture.is_file() else b"")


def shares_text(models: Iterable[Mapping[str, int]]) -> str:
    """How many personal models got each verdict: ``more 3 of 30 (10%), not more ...``."""
    found = list(models)
    total = sum(sum(one.values()) for one in found)
    parts = []
    for verdict in VERDICTS:
        count = sum(one.get(verdict, 0) for one in found)
        parts.append(f"{SHORT[verdict]} {count} of {total} ({count / total:.0%})")
    return ", ".join(parts)


def audit_document(title: str, summary: AuditSummary, *, pictured: bool) -> Document:
    """An audit as tables and paragraphs: what was measured, what probe and peers say, what only orders.

    Args:
        title: what was audited.
        summary: what is said of each method.
        pictured: whether images beside what the probe made of them are in ``audit.png``.
    """
    asked = [f"probe {summary.probe}" if summary.probe else "no probe"]
    asked += ["peers"] if summary.peers else []
    head = (
        f"{title} ({', '.join(asked)}, tolerance {summary.tolerance:g})\n"
        f"Verdicts on personal models: {shares_text(one.models for one in summary.methods.values())}"
    )
    rows = tuple((name, *_cells(found, summary)) for name, found in summary.methods.items())
    reasons = [f"{name}: {found.verdict}: {found.reason}." for name, found in summary.methods.items()]
    return [
        TextTable(head, ("method", *_columns(summary)), rows),
        "\n".join(reasons),
        *_orders_only(summary),
        "\n".join(_notes(summary, pictured)),
    ]


def _has_truth(summary: AuditSummary) -> bool:
    return any(found.truth for found in summary.methods.values())


def _columns(summary: AuditSummary) -> list[str]:
    columns = ["Acc_B: personal\nminus global"]
    if summary.probe:
        columns += ["disparity\nglobal", "disparity\npersonal", "rise\n(probe)"]
    columns += ["rise\n(peers)"] if summary.peers else []
    columns += ["rise\n(truth)", "truth in\ninterval"] if _has_truth(summary) else []
    return columns + [f"{SHORT[verdict]}\n(models)" for verdict in VERDICTS]


def _cells(found: MethodAudit, summary: AuditSummary) -> list[str]:
    cells = [str(found.change)]
    if summary.probe:
        disparities = (found.disparity_global, found.disparity_personal)
        cells += [_na(one and f"{one.value:.3f}") for one in disparities] + [_na(found.delta)]
    cells += [_na(found.peer_delta)] if summary.peers else []
    if _has_truth(summary):
        truth = found.truth
        cells += [_na(truth and truth.delta is not None and f"{truth.delta:+.3f}")]
        cells += [_na(truth and truth.compared and f"{truth.covered} of {truth.compared}")]
    return cells + [str(found.models.get(verdict, 0)) for verdict in VERDICTS]


def _na(value: object) -> str:
    return str(value) if value else "N/A"


def _orders_only(summary: AuditSummary) -> list[TextTable]:
    """Acc_Adv and KL, apart from what is in points; nothing for models that are not of a run."""
    rows = []
    for name, found in summary.methods.items():
        if found.kl is not None:
            cells = (found.acc_adv_global, found.acc_adv_personal, found.kl)
            rows.append((name, *("N/A" if cell is None else f"{cell:.3f}" for cell in cells)))
    columns = ("method", "Acc_Adv\nglobal", "Acc_Adv\npersonal", "KL on x_adv\n(nats)")
    return [TextTable(_ORDERS_ONLY, columns, tuple(rows))] if rows else []


def _notes(summary: AuditSummary, pictured: bool) -> list[str]:
    """What has to be said beside every audit."""
    notes = [_LIMITS]
    if pictured:
        notes.append(
            f"Look at the images that the probe made ({AUDIT_PICTURE}): their content should be as it was."
        )
    found = [one.disparity_global.value for one in summary.methods.values() if one.disparity_global]
    if found and max(found) > BIASED_REFERENCE:
        notes.append(
            f"Warning: the global model is biased itself (its disparity by the probe is {max(found):.3f}): "
            "'not more' is relative to a biased reference."
        )
    if summary.peers:
        notes.append(_DISCLOSED)
    if summary.absent:
        models = counted(summary.absent, "personal model")
        notes.append(f"{models} of the results are not here, and not audited.")
    return notes
