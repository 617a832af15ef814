"""The audits of runs on the page: what is said of each method, and of each client in the explorer."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.report.clients import ClientRow, Explorer, Said
from fedml_spurious.report.downloads import Download, make_download
from fedml_spurious.results.audits import (
    AUDIT_PICTURE,
    AUDIT_ROWS,
    SHORT,
    VERDICTS,
    StoredAudit,
    audit_document,
    read_audit,
)
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.text_tables import Document

_WHERE = ("fl_seed", "p_seed", "client", "method")


@dataclass(frozen=True)
class Picture:
    """An image inside the page.

    Attributes:
        source: data link.
        width: in pixels.
        height: in pixels.
    """

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class AuditPart:
    """The audit of one run.

    Attributes:
        stored: what is in its folder.
        document: what is said of each method.
        picture: images beside what the probe made of them; None without a probe.
        download: ``audit.csv``.
    """

    stored: StoredAudit
    document: Document
    picture: Picture | None
    download: Download


def make_audits(runs: DatasetRuns, names: Mapping[Path, str]) -> tuple[AuditPart, ...]:
    """The audits of the runs that have one.

    Args:
        runs: runs of one data set.
        names: what the page calls each run, by its folder; no two are alike.

    Raises:
        InputError: a file is broken.
    """
    found = []
    for run in runs.runs:
        stored = read_audit(run.path)
        if stored is None:
            continue
        name = names[run.path]
        suffix = f"_{name}".replace("/", "_") if len(names) > 1 else ""
        found.append(
            AuditPart(
                stored,
                audit_document(f"Audit of {name}", stored.summary, pictured=bool(stored.picture)),
                _picture(run.path / AUDIT_PICTURE, stored.picture) if stored.picture else None,
                make_download(
                    f"audit{suffix}.csv",
                    "what the audit says of every personal model",
                    (run.path / AUDIT_ROWS).read_text(encoding="utf-8"),
                ),
            )
        )
    return tuple(found)


def _picture(path: Path, content: bytes) -> Picture:
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path}: is no image ({error}); {remedy(path)}") from None
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


def with_verdicts(explorer: Explorer, audits: Iterable[AuditPart], *, own_clients: bool) -> Explorer:
    """The explorer with what the audits say of each client.

    Args:
        explorer: the clients.
        audits: of the runs.
        own_clients: whether every federated seed has clients of its own.
    """
    # Runs that share methods and seeds have the same models, and so say the same.
    rows = {tuple(row[name] for name in _WHERE): row for part in audits for row in part.stored.rows}
    by_client: dict[tuple[str, int | None], list[Mapping[str, str]]] = {}
    for row in rows.values():
        key = row["client"], int(row["fl_seed"]) if own_clients else None
        by_client.setdefault(key, []).append(row)
    told = [
        _told(row, by_client.get((row.client, row.fl_seed), []), explorer.methods) for row in explorer.rows
    ]
    given = {said.verdict for row in told for said in row.verdicts}
    return replace(
        explorer,
        rows=tuple(told),
        verdicts=tuple(SHORT[verdict] for verdict in VERDICTS if SHORT[verdict] in given),
    )


def _told(row: ClientRow, audited: list[Mapping[str, str]], methods: Iterable[str]) -> ClientRow:
    verdicts = []
    for verdict in VERDICTS:
        of = {one["method"] for one in audited if one["verdict"] == verdict}
        if of:
            verdicts.append(Said(SHORT[verdict], tuple(method for method in methods if method in of)))
    several = len({(one["fl_seed"], one["p_seed"]) for one in audited}) > 1
    lines = []
    for one in audited:
        seeds = f" (fl{one['fl_seed']} p{one['p_seed']})" if several else ""
        lines.append(f"{one['method']}{seeds}: {one['verdict']}: {one['reason']}.")
    return replace(row, verdicts=tuple(verdicts), audit=tuple(lines))
