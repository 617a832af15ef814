"""UW: up-weighting the bias-conflicting samples by sampling (section 7.3)."""

from __future__ import annotations

import numpy as np

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.personalization.base import ClientView, MethodSettings, Personalizer, SettingsT


class GroupBalanced(Personalizer[SettingsT]):
    """Fine-tuning on samples drawn so that both groups, bias-aligned and bias-conflicting, are as likely.

    An epoch has as many draws as the client has training samples; a draw is with replacement. The validation
    split is not resampled.
    """

    def not_applicable(self, view: ClientView) -> str:
        """A client without samples in one of the groups cannot balance them."""
        for name, members in (("bias-aligned", view.aligned), ("bias-conflicting", ~view.aligned)):
            if not members.any():
                return f"no {name} training sample"
        return ""

    def sequence(self, view: ClientView, rng: np.random.Generator) -> IndexArray:
        """Rows drawn with replacement, each group with probability 1/2, uniformly within it."""
        aligned = view.aligned.cpu().numpy()
        num_aligned = np.count_nonzero(aligned)
        num_conflicting = len(aligned) - num_aligned
        probability = np.where(aligned, 0.5 / num_aligned, 0.5 / num_conflicting)
        return rng.choice(len(aligned), size=len(aligned), p=probability)


class UpWeighting(GroupBalanced[MethodSettings]):
    """UW (section 7.3, after Sagawa et al. 2020): cross-entropy on group-balanced samples."""

    name = "uw"
