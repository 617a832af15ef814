"""FT: plain fine-tuning of the global model."""

from __future__ import annotations

from fedml_spurious.personalization.base import MethodSettings, Personalizer


class FineTuning(Personalizer[MethodSettings]):
    """FT (section 7.3): cross-entropy only. The method that the paper shows to entangle spurious features."""

    name = "ft"
