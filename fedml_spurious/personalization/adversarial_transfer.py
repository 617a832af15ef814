"""The method of the paper (section 6) and its two ablations (Figure 6)."""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance
from fedml_spurious.personalization.base import Batch, Candidate, Personalizer
from fedml_spurious.personalization.options import (
    AdversarialSettings,
    AdversarialTransferSettings,
    L2Settings,
)


def transfer_loss(model: nn.Module, batch: Batch, lam_adv: float) -> Tensor:
    """``CE(f_p(x), y) + lam_adv * BCE(z_p, z_g)``, the second term on ``x_adv`` (section 6.1).

    Both sets of images go through the model in one pass, so that both terms speak of one function whatever
    ``batchnorm_mode`` is. Under ``frozen`` that is the function that is attacked, selected and measured, and
    the second term is least, and flat, where ``w_p = w_g``. Under ``batch`` the statistics are those of clean
    and adversarial images together. One term under running and the other under batch statistics would be two
    functions that come apart.
    """
    if not lam_adv:
        return F.cross_entropy(model(batch.x), batch.y)
    logits, logits_adv = model(torch.cat([batch.x, batch.x_adv])).chunk(2)
    return F.cross_entropy(logits, batch.y) + lam_adv * adversarial_disagreement(logits_adv, batch.z_g)


class AdversarialOnly(Personalizer[AdversarialSettings]):
    """Ablation: ``CE + lam_adv * disagreement on x_adv`` (Figure 6b)."""

    name = "adv"
    settings_type = AdversarialSettings
    tuning_rule = "largest_harmless"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y) + lam_adv * BCE(z_p, z_g)`` on the adversarial examples of the batch."""
        return transfer_loss(model, batch, self.settings.lam_adv)


class L2Only(Personalizer[L2Settings]):
    """Ablation: ``CE + lam_l2 * ||w_g - w_p||^2`` (Figure 6c).

    This is fine-tuning with the proximal term of FedProx (Li et al. 2020, arXiv:1812.06127), whose
    ``mu / 2`` is ``lam_l2``. Ditto's local objective has the same form with ``lam / 2``; the two differ in
    how the coefficient is chosen (appendix C.2).
    """

    name = "l2"
    settings_type = L2Settings
    tuning_rule = "largest_harmless"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y) + lam_l2 * ||w_g - w_p||^2``."""
        loss = F.cross_entropy(model(batch.x), batch.y)
        if self.settings.lam_l2:
            loss = loss + self.settings.lam_l2 * l2_distance(model.parameters(), batch.w_g)
        return loss


class AdversarialTransfer(Personalizer[AdversarialTransferSettings]):
    """Ours: both terms (section 6), selected by validation accuracy and transferability (section 7.3)."""

    name = "ours"
    settings_type = AdversarialTransferSettings
    tuning_rule = "largest_harmless"

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``CE(f_p(x), y) + lam_adv * BCE(z_p, z_g) + lam_l2 * ||w_g - w_p||^2``."""
        loss = transfer_loss(model, batch, self.settings.lam_adv)
        if self.settings.lam_l2:
            loss = loss + self.settings.lam_l2 * l2_distance(model.parameters(), batch.w_g)
        return loss

    def score(self, candidate: Candidate) -> float:
        """Validation accuracy minus the decrease of transferability.

        ``val_acc - max(0, Acc_Adv(f_p) - Acc_Adv(f_g))`` on adversarial examples of the validation split.
        """
        count = candidate.val_adv.count
        lost = candidate.val_adv.correct - round((candidate.global_val_adv_accuracy or 0.0) * count)
        # In fractions, so that epochs that tie are equal to the last bit.
        right = Fraction(candidate.val.correct, candidate.val.count or 1)
        return float(right - Fraction(max(0, lost), count or 1))
