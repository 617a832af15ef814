"""Ditto with its local fine-tuning solver (section 7.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.learning.losses import l2_distance
from fedml_spurious.personalization.base import Batch, Personalizer
from fedml_spurious.personalization.options import DittoSettings


class Ditto(Personalizer[DittoSettings]):
    """Fine-tuning near the global model (Li et al. 2021, arXiv:2012.04221, the objective named Ditto).

    The local fine-tuning solver starts from the finished global model. Ditto's joint solver trains the
    personal models along with the global one; section 7.3 gives the reason for the choice.
    """

    name = "ditto"
    settings_type = DittoSettings

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """``h(w_p; w_g) = CE(f_p(x), y) + lam / 2 * ||w_p - w_g||^2``."""
        loss = F.cross_entropy(model(batch.x), batch.y)
        if self.settings.lam:
            loss = loss + self.settings.lam / 2 * l2_distance(model.parameters(), batch.w_g)
        return loss
