"""Personalization methods, one file each, found by name, and the one fine-tuning loop that serves them.

Imports ``learning``, ``results`` for the names of methods, and ``common``.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.imports import import_object
from fedml_spurious.common.validation import problems_of, report
from fedml_spurious.personalization.adversarial_transfer import AdversarialOnly, AdversarialTransfer, L2Only
from fedml_spurious.personalization.base import MethodSettings, Personalizer, TuningRule
from fedml_spurious.personalization.ditto import Ditto
from fedml_spurious.personalization.fine_tuning import FineTuning
from fedml_spurious.personalization.gradient_alignment import GradientAlignment
from fedml_spurious.personalization.group_dro import GroupDRO
from fedml_spurious.personalization.jtt import JustTrainTwice
from fedml_spurious.personalization.local_training import LocalOnly
from fedml_spurious.personalization.partial_tuning import BatchNormOnly, HeadOnly
from fedml_spurious.personalization.upweighting import UpWeighting
from fedml_spurious.results.method_names import GLOBAL as GLOBAL

_OF_THE_PAPER: tuple[type[Personalizer[Any]], ...] = (
    FineTuning, Ditto, UpWeighting, JustTrainTwice, AdversarialOnly, L2Only, AdversarialTransfer,
)  # fmt: skip
_EXTRAS: tuple[type[Personalizer[Any]], ...] = (
    HeadOnly,
    BatchNormOnly,
    GroupDRO,
    GradientAlignment,
    LocalOnly,
)

METHODS: dict[str, type[Personalizer[Any]]] = {method.name: method for method in (*_OF_THE_PAPER, *_EXTRAS)}
PAPER_METHODS = (GLOBAL, *(method.name for method in _OF_THE_PAPER))
"""What the paper compares (Table 1 and Figure 6), in the order of our table."""


def make_method(name: str, **options: Any) -> Personalizer[Any]:
    """A method with its options, for example ``make_method("ours", lam_adv=1.0, lam_l2=0.1)``.

    Args:
        name: see :func:`find_method`.
        **options: of the method; its defaults hold for the others.

    Raises:
        InputError: there is no such method or option, or the method does not take the value.
    """
    found = find_method(name)
    try:
        return found(found.settings_type(**options))
    except ValidationError as error:
        problems = problems_of(error, found.settings_type)
        raise InputError(report(problems, source=f"options of {name}")) from None


def find_method(name: str) -> type[Personalizer[Any]]:
    """Find a method by its name, or import one of your own.

    Args:
        name: a name of ``METHODS``, or ``module:Class`` for a subclass of ``Personalizer``.

    Raises:
        InputError: there is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    where = "experiment_args.methods"
    if ":" not in name:
        known = ", ".join([GLOBAL, *METHODS])
        raise InputError(f"{where}: unknown method {name!r}; expected {known}, or module:Class of your own")
    method = import_object(name, where=where)
    if not (isinstance(method, type) and issubclass(method, Personalizer)):
        raise InputError(f"{where}: {name} is no subclass of fedml_spurious.personalization.Personalizer")
    if not hasattr(method, "name"):
        raise InputError(f"{where}: {name} has no name; give the class one, for sections and tables")
    if not (isinstance(method.settings_type, type) and issubclass(method.settings_type, MethodSettings)):
        raise InputError(
            f"{where}: {name} has a settings_type that is no subclass of "
            "fedml_spurious.personalization.base.MethodSettings"
        )
    if method.tuning_rule not in get_args(TuningRule):
        raise InputError(
            f"{where}: {name} has the tuning_rule {method.tuning_rule!r}; expected "
            f"{' or '.join(get_args(TuningRule))}"
        )
    return method
