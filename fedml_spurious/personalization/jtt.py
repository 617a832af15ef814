"""JTT: Just Train Twice (section 7.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.metrics import EVALUATION_BATCH
from fedml_spurious.learning.modes import frozen
from fedml_spurious.personalization.base import (
    ClientView,
    Observer,
    Personalized,
    Personalizer,
    fine_tune,
    fine_tune_stage,
)
from fedml_spurious.personalization.options import JTTSettings

logger = logging.getLogger(__name__)

IDENTIFICATION = 1  # stage 0 is the final one, so that an empty error set gives fine-tuning bit for bit


def error_set(model: nn.Module, samples: Labelled) -> Tensor:
    """Which samples the model misclassifies in eval mode, shape (N,), bool; the model is left as it was."""
    with frozen(model), torch.no_grad():
        predicted = [model(part).argmax(dim=1) for part in torch.split(samples.x, EVALUATION_BATCH)]
    return torch.cat(predicted) != samples.y


def upsampled(errors: Tensor, multiplicity: int) -> IndexArray:
    """Every row once, and the rows of the error set ``multiplicity`` times in all, in ascending order."""
    return np.repeat(np.arange(len(errors)), np.where(errors.cpu().numpy(), multiplicity, 1))


class JustTrainTwice(Personalizer[JTTSettings]):
    """JTT (Liu et al. 2021, arXiv:2107.09044, Algorithm 1), with fine-tuning in place of training.

    Stage 1 fine-tunes the global model for ``T`` epochs and collects the training samples that it gets
    wrong. Stage 2 fine-tunes the global model anew, with those samples repeated. No group label enters the
    training. They only decide where the method applies, as in the paper, and how good the error set was.
    """

    name = "jtt"
    settings_type = JTTSettings

    def not_applicable(self, view: ClientView) -> str:
        """Without bias-conflicting training samples there is nothing for the error set to find."""
        return "no bias-conflicting training sample" if view.aligned.all() else ""

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        """Find the error set, then fine-tune with it repeated; only the second stage is observed."""
        epochs = self.settings.identification_epochs
        identifier = fine_tune_stage(self, view, stage=IDENTIFICATION, epochs=epochs)
        errors = error_set(identifier, view.train)
        quality = error_set_quality(errors, ~view.aligned)
        _log_quality(view, quality)
        rows = upsampled(errors, self.settings.multiplicity)
        personal = fine_tune(self, view, observe, sequence=lambda rng: rng.permutation(rows))
        return replace(personal, details=quality)


def error_set_quality(errors: Tensor, conflicting: Tensor) -> dict[str, float | None]:
    """How well an error set finds the true bias-conflicting samples.

    Args:
        errors: which samples are in the error set, shape (N,), bool.
        conflicting: which samples are bias-conflicting, shape (N,), bool.

    Returns:
        ``samples``, ``error_set``, ``conflicting`` and ``hits`` (in both) as counts, from which clients can
        be pooled; ``precision`` and ``recall`` in [0, 1], None where nothing was or could be found.
    """
    found, sought = int(errors.sum()), int(conflicting.sum())
    hits = int((errors & conflicting).sum())
    return {
        "samples": len(errors),
        "error_set": found,
        "conflicting": sought,
        "hits": hits,
        "precision": hits / found if found else None,
        "recall": hits / sought if sought else None,
    }


def _log_quality(view: ClientView, quality: Mapping[str, float | None]) -> None:
    address = (view.client, view.fl_seed, view.p_seed)
    if not quality["error_set"]:
        logger.info("jtt, client %d (fl%d p%d): the error set is empty; stage 2 is plain FT", *address)
        return
    logger.info(
        "jtt, client %d (fl%d p%d): error set of %d of %d samples, precision %.3f, recall %.3f",
        *address,
        *(quality[name] for name in ("error_set", "samples", "precision", "recall")),
    )
