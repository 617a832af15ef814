"""Which types may travel between the processes of a run: a closed list that every type joins itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import TypeVar

_TypeT = TypeVar("_TypeT", bound=type)
_registered: dict[str, type] = {}
_names: dict[type, str] = {}


def travels(kind: _TypeT) -> _TypeT:
    """Class decorator: objects of this dataclass may be sent to other processes, as their fields.

    A message that comes in can make objects of these types and of no others. A process knows the types of the
    modules that it has imported; importing :mod:`fedml_spurious.experiment.run`, as every process of a run
    does, brings those of all its tasks, and :mod:`fedml_spurious.audit.tasks` those of an audit.

    Raises:
        TypeError: it is no dataclass.
        ValueError: another type of this name is registered.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is no dataclass; put @travels above @dataclass")
    other = _registered.setdefault(kind.__name__, kind)
    _names[kind] = kind.__name__
    if other is not kind:
        raise ValueError(
            f"{kind.__module__}.{kind.__name__} cannot travel: {other.__module__} has registered a type "
            "of this name; give it another one"
        )
    return kind


def let_travel(kind: type) -> None:
    """Let objects of a settings class be sent, under its full name; a class defined anew takes its place."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    _registered[name], _names[kind] = kind, name


def name_of(kind: type) -> str | None:
    """The name under which objects of a type travel; None where they may not."""
    return _names.get(kind)


def travelling_types() -> Mapping[str, type]:
    """All types that may travel, by name."""
    return MappingProxyType(_registered)
