"""Options of the built-in methods, and what may be chosen for all of them.

No torch: a configuration is checked before it is imported. The methods are in the files beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.results.method_names import GLOBAL

SelectionTies = Literal["latest", "earliest"]
TuningRule = Literal["largest_harmless", "most_accurate"]


class MethodSettings(FrozenModel):
    """Options of a method; subclasses add theirs."""

    def one_values(self) -> dict[str, Any]:
        """Options that are a number, a text or a truth value, by name: what results are kept by."""
        return {name: value for name, value in sorted(self) if is_one_value(value)}

    def __hash__(self) -> int:
        return hash(tuple(self.one_values().items()))


def is_one_value(value: Any) -> bool:
    """Whether an option is a number, a text or a truth value, and no list or section."""
    return value is None or isinstance(value, (bool, int, float, str))


class DittoSettings(MethodSettings):
    """Options of Ditto.

    Attributes:
        lam: pull of the personal weights towards the global ones; 0 is fine-tuning. The paper tunes it over
            0.1 and 1.0 (appendix C.2).
    """

    lam: float = Field(default=0.1, ge=0, allow_inf_nan=False)


class JTTSettings(MethodSettings):
    """Options of JTT.

    Attributes:
        identification_epochs: ``T``, epochs of the first stage; 0 takes the errors of the global model
            itself.
        multiplicity: how often a misclassified sample stands in an epoch of the second stage
            (appendix C.2: 50).
    """

    identification_epochs: int = Field(default=1, ge=0)
    multiplicity: int = Field(default=50, ge=1)


class AdversarialSettings(MethodSettings):
    """Options of the adversarial term.

    Attributes:
        lam_adv: coefficient of the adversarial disagreement; 0 is fine-tuning.
    """

    lam_adv: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class L2Settings(MethodSettings):
    """Options of the L2 term.

    Attributes:
        lam_l2: coefficient of ``||w_g - w_p||^2``; 0 is fine-tuning.
    """

    lam_l2: float = Field(default=0.1, ge=0, allow_inf_nan=False)


class AdversarialTransferSettings(AdversarialSettings, L2Settings):
    """Options of both terms."""


class HeadSettings(MethodSettings):
    """Options of fine-tuning the head.

    Attributes:
        layer: name of the layer that trains, as in ``named_modules()`` of the network, such as
            ``classifier``; where absent the last layer is found by a pass of two images.
    """

    layer: str | None = Field(default=None, min_length=1)


class GroupDROSettings(MethodSettings):
    """Options of group DRO.

    Attributes:
        step_size: ``eta_q``, how fast the weights of the groups follow their losses; 0 keeps both at 1/2.
    """

    step_size: float = Field(default=0.01, ge=0, allow_inf_nan=False)


class GradientAlignmentSettings(MethodSettings):
    """Options of the alignment penalty.

    Attributes:
        lam: coefficient of ``1 - cos(theta)``; 0 is fine-tuning.
    """

    lam: float = Field(default=1.0, ge=0, allow_inf_nan=False)


class LocalSettings(MethodSettings):
    """Options of local training.

    Attributes:
        epochs: passes over the client's samples; as in ``personalization_args`` where absent, which is few
            for a network that starts from nothing.
    """

    epochs: int | None = Field(default=None, ge=1)


@dataclass(frozen=True)
class BuiltIn:
    """A method of this package, as far as a configuration goes.

    Attributes:
        place: its module in this package, and its class there.
        settings_type: its options; those of its class.
        tuning_rule: how its coefficients are chosen; that of its class.
    """

    place: str
    settings_type: type[MethodSettings] = MethodSettings
    tuning_rule: TuningRule = "most_accurate"


BUILT_IN = {
    "ft": BuiltIn("fine_tuning:FineTuning"),
    "ditto": BuiltIn("ditto:Ditto", DittoSettings),
    "uw": BuiltIn("upweighting:UpWeighting"),
    "jtt": BuiltIn("jtt:JustTrainTwice", JTTSettings),
    "adv": BuiltIn("adversarial_transfer:AdversarialOnly", AdversarialSettings, "largest_harmless"),
    "l2": BuiltIn("adversarial_transfer:L2Only", L2Settings, "largest_harmless"),
    "ours": BuiltIn(
        "adversarial_transfer:AdversarialTransfer", AdversarialTransferSettings, "largest_harmless"
    ),
    "head": BuiltIn("partial_tuning:HeadOnly", HeadSettings),
    "bn": BuiltIn("partial_tuning:BatchNormOnly"),
    "group_dro": BuiltIn("group_dro:GroupDRO", GroupDROSettings),
    "grad_align": BuiltIn(
        "gradient_alignment:GradientAlignment", GradientAlignmentSettings, "largest_harmless"
    ),
    "local": BuiltIn("local_training:LocalOnly", LocalSettings),
}
"""Methods by name, in the order of our table."""

PAPER_METHODS = (GLOBAL, "ft", "ditto", "uw", "jtt", "adv", "l2", "ours")
"""What the paper compares (Table 1 and Figure 6), in the order of our table."""
