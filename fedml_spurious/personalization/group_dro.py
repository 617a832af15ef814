"""Group DRO: fine-tuning for the worse of the two groups."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.personalization.base import (
    Batch,
    ClientView,
    Observer,
    Personalized,
    fine_tune,
)
from fedml_spurious.personalization.options import GroupDROSettings
from fedml_spurious.personalization.upweighting import GroupBalanced


class GroupDRO(GroupBalanced[GroupDROSettings]):
    """Group DRO (Sagawa et al. 2020, arXiv:1911.08731, Algorithm 1); not a method of the paper.

    The groups are the bias-aligned and the bias-conflicting samples. As in the algorithm, groups are drawn
    uniformly; a step takes a batch in place of a single sample, so it moves both weights at once.
    """

    name = "group_dro"
    settings_type = GroupDROSettings

    def __init__(self, settings: GroupDROSettings) -> None:
        super().__init__(settings)
        self._log_q: Tensor | None = None

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        """Fine-tune with group weights that start at 1/2 for every client."""
        return fine_tune(type(self)(self.settings), view, observe)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``sum_g q_g * loss_g`` after ``q_g <- q_g * exp(step_size * loss_g)``, normalised.

        ``loss_g`` is the mean cross-entropy of the batch's samples of group ``g``, and 0 where it has none.
        """
        losses = F.cross_entropy(model(batch.x), batch.y, reduction="none")
        members = torch.stack([batch.aligned, ~batch.aligned]).to(losses.dtype)  # (2, B)
        group_losses = members @ losses / members.sum(dim=1).clamp(min=1.0)
        log_q = torch.zeros_like(group_losses) if self._log_q is None else self._log_q
        self._log_q = log_q.detach() + self.settings.step_size * group_losses.detach()
        return (self._log_q.softmax(dim=0) * group_losses).sum()
