"""Personalization methods, one file each, found by name, and the one fine-tuning loop that serves them.

Imports ``learning``, ``results`` for the names of methods, and ``common``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.imports import import_object
from fedml_spurious.common.validation import problems_of, report
from fedml_spurious.personalization.options import (
    BUILT_IN,
    MethodSettings,
    TuningRule,
)
from fedml_spurious.personalization.options import PAPER_METHODS as PAPER_METHODS
from fedml_spurious.results.method_names import GLOBAL as GLOBAL

if TYPE_CHECKING:
    from fedml_spurious.personalization.base import Personalizer


class _Methods(Mapping[str, "type[Personalizer[Any]]"]):
    """Classes of the built-in methods by name, imported at the first access, and torch with them."""

    def __getitem__(self, name: str) -> type[Personalizer[Any]]:
        module, _, class_name = BUILT_IN[name].place.partition(":")
        return cast("type[Personalizer[Any]]", getattr(import_module(f"{__name__}.{module}"), class_name))

    def __iter__(self) -> Iterator[str]:
        return iter(BUILT_IN)

    def __len__(self) -> int:
        return len(BUILT_IN)


METHODS: Mapping[str, type[Personalizer[Any]]] = _Methods()


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
        known = [GLOBAL, *METHODS]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f". Did you mean {close[0]}?" if close else ""
        expected = f"{', '.join(known)}, or module:Class of your own"
        raise InputError(f"{where}: unknown method {name!r}; expected {expected}{hint}")
    method = import_object(name, where=where)
    from fedml_spurious.personalization.base import Personalizer  # late: it needs torch

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
