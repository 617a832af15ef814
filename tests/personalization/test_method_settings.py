"""Options of a method: what results are kept by, and how they travel."""

from __future__ import annotations

from fedml_spurious.common.travelling import name_of, travelling_types
from fedml_spurious.personalization import METHODS, make_method
from fedml_spurious.personalization.base import MethodSettings


class OwnSettings(MethodSettings):
    strength: float = 1.0
    depth: int = 2
    layers: list[int] = []  # noqa: RUF012  # pydantic copies it


def test_results_are_kept_by_the_options_that_are_one_value_in_order_of_their_names() -> None:
    assert list(OwnSettings(layers=[1]).one_values().items()) == [("depth", 2), ("strength", 1.0)]
    assert make_method("ft").settings.one_values() == {}


def test_options_with_a_list_can_be_keys_too() -> None:
    one, same, other = OwnSettings(layers=[1]), OwnSettings(layers=[1]), OwnSettings(layers=[2])
    assert {one: "here"}[same] == "here"
    assert one != other


def test_the_options_of_every_method_travel() -> None:
    kinds = [method.settings_type for method in METHODS.values()] + [OwnSettings]
    for kind in kinds:
        assert travelling_types()[name_of(kind)] is kind


def test_a_class_that_is_defined_anew_takes_the_place_of_the_older_one() -> None:
    def define() -> type[MethodSettings]:
        class Settings(MethodSettings):
            pass

        return Settings

    first, second = define(), define()
    assert travelling_types()[name_of(first)] is second
