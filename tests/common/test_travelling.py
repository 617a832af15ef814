"""The closed list of types that may travel between processes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fedml_spurious.common.travelling import travelling_types, travels


def test_a_type_is_registered_where_it_is_defined() -> None:
    @travels
    @dataclass(frozen=True)
    class CountOfTestTravelling:
        count: int

    assert travelling_types()["CountOfTestTravelling"] is CountOfTestTravelling
    with pytest.raises(TypeError, match="does not support item assignment"):
        travelling_types()["Path"] = object  # type: ignore[index]


def test_two_types_of_one_name_are_refused() -> None:
    """A message names a type; it must not mean another one on the other side."""

    def define() -> None:
        @travels
        @dataclass(frozen=True)
        class TwinOfTestTravelling:
            count: int

    define()
    with pytest.raises(ValueError, match=r"TwinOfTestTravelling cannot travel: \S*test_travelling has"):
        define()


def test_only_dataclasses_travel() -> None:
    with pytest.raises(TypeError, match="Plain is no dataclass; put @travels above @dataclass"):

        @travels
        class Plain:
            pass
