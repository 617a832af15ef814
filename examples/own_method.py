"""A method of your own, in the table by configuration only: own_method.yaml names it own_method:WiseFT.

WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903) mixes fine-tuned weights with those before the fine-tuning.
"""

import copy
from dataclasses import replace

from pydantic import Field

from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.state_dicts import load_state
from fedml_spurious.personalization import base


class WiseFTSettings(base.MethodSettings):
    """``keep``: share of the global weights in the personal model; 0 is fine-tuning, 1 the global model."""

    keep: float = Field(default=0.5, ge=0, le=1)


class WiseFT(base.Personalizer[WiseFTSettings]):
    """``w = keep * w_g + (1 - keep) * w_p``, with ``w_p`` from plain fine-tuning."""

    name = "wise_ft"
    settings_type = WiseFTSettings
    tuning_rule = "largest_harmless"  # the more of the global model, the better, if accuracy permits

    def personalize(self, view: base.ClientView, observe: base.Observer | None = None) -> base.Personalized:
        """Fine-tune and mix; the tuning compares the mixtures on the validation split."""
        return self._mixed(super().personalize(view, observe), view)

    def _mixed(self, tuned: base.Personalized, view: base.ClientView) -> base.Personalized:
        mixture, w_g = copy.deepcopy(view.global_model), view.global_model.state_dict()
        new = {n: w.lerp(w_g[n], self.settings.keep) for n, w in tuned.state.items() if w.is_floating_point()}
        load_state(mixture, tuned.state | new)
        accuracy = evaluate(mixture, view.val.x, view.val.y).accuracy
        last = tuned.last and self._mixed(tuned.last, view)  # after the last epoch, if another was selected
        return replace(tuned, state=mixture.state_dict(), val_acc=accuracy, last=last)
