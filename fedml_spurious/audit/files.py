"""``audit.csv``, ``audit.json`` and ``audit.png``: what an audit leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from fedml_spurious.audit.client import AuditOptions, Example, Finding
from fedml_spurious.audit.summary import Audited
from fedml_spurious.common.storage import atomic_path, write_csv, write_json
from fedml_spurious.results.audits import AUDIT_PICTURE, AUDIT_ROWS, AUDIT_SUMMARY


def _interval(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


COLUMNS = (
    "dataset", "method", "fl_seed", "p_seed", "client", "verdict", "reason", "images", "classes",
    "acc_global", "acc_personal", *_interval("change"), "probed_global", "probed_personal", "flips_global",
    "flips_personal", *_interval("disparity_global"), *_interval("disparity_personal"), *_interval("delta"),
    "peers", "peer_images", *_interval("peer_delta"), "acc_adv_global", "acc_adv_personal", "kl",
)  # fmt: skip
TRUTH_COLUMNS = ("delta_truth", "delta_of_set_low", "delta_of_set_high")
_CELL, _GAP = 56, 4  # pixels


def finding_cells(finding: Finding, options: AuditOptions) -> Mapping[str, object]:
    """Columns of ``audit.csv``; those of a probe or of peers stay empty where there were none."""
    found, peers = finding.reliance, finding.peers
    cells: dict[str, object] = {
        "verdict": finding.verdict.word,
        "reason": finding.verdict.reason,
        "images": found.images,
        "classes": found.classes,
        "acc_global": found.acc_global,
        "acc_personal": found.acc_personal,
    }
    estimates = {"change": found.change}
    if options.probe is not None and found.classes > 1:
        shares = ("probed_global", "probed_personal", "flips_global", "flips_personal")
        cells |= {name: getattr(found, name) for name in shares}
        names = ("disparity_global", "disparity_personal", "delta")
        estimates |= {name: getattr(found, name) for name in names}
    if peers is not None:
        cells |= {"peers": peers.clients, "peer_images": peers.images}
        estimates |= {"peer_delta": peers.delta} if peers.delta else {}
    for name, estimate in estimates.items():
        cells |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return cells


def truth_cells(finding: Finding, truth: float | None, options: AuditOptions) -> Mapping[str, object]:
    """Columns beside the truth: the rise on the bias-conflicting test set, and where it is expected."""
    if options.probe is None or finding.reliance.classes < 2:
        return {"delta_truth": truth}
    expected = finding.reliance.delta_of_set
    return {"delta_truth": truth, "delta_of_set_low": expected.low, "delta_of_set_high": expected.high}


def write_audit(folder: Path, audited: Audited, *, truth: bool) -> None:
    """Write the files; without a probe there is no picture.

    Args:
        folder: where they go.
        audited: what was found.
        truth: whether what the bias-conflicting test sets say has columns.
    """
    # First away and last written: an audit is there when its summary is.
    (folder / AUDIT_SUMMARY).unlink(missing_ok=True)
    write_csv(folder / AUDIT_ROWS, (*COLUMNS, *TRUTH_COLUMNS) if truth else COLUMNS, audited.rows)
    picture = folder / AUDIT_PICTURE
    if audited.examples:
        with atomic_path(picture) as draft:
            draw_examples(audited.examples).save(draft, format="PNG")
    else:
        picture.unlink(missing_ok=True)
    write_json(folder / AUDIT_SUMMARY, audited.summary.model_dump(mode="json", exclude_none=True))


def draw_examples(examples: Sequence[Example]) -> Image.Image:
    """A column per example: the image, its donor, and what the probe made of them."""
    step = _CELL + _GAP
    canvas = Image.new("RGB", (len(examples) * step - _GAP, 3 * step - _GAP), (128, 128, 128))
    for column, example in enumerate(examples):
        for line, image in enumerate((example.image, example.donor, example.probed)):
            canvas.paste(_picture(image), (column * step, line * step))
    return canvas


def _picture(image: Tensor) -> Image.Image:
    pixels = (image.clamp(0, 1) * 255).round().to("cpu").numpy().astype(np.uint8).transpose(1, 2, 0)
    # As large as fits into the cell, in its shape.
    height, width = pixels.shape[:2]
    scale = _CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
