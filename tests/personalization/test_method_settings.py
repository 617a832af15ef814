"""Options of a method: what results are kept by, and how they travel."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.travelling import name_of, travelling_types
from fedml_spurious.config.file import check_settings
from fedml_spurious.fedml_adapter.processes.wire import from_plain, to_plain
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


def test_what_an_option_may_hold_arrives_equal() -> None:
    """Nested sections too; and a default that is written as 1 is the number 1.0 that a file gives."""

    class Inner(FrozenModel):
        depth: int = 2

    class Nested(MethodSettings):
        lam: float = 1
        inner: Inner = Inner()
        names: tuple[str, ...] = ("a",)

    assert str(Nested().lam) == "1.0"
    assert from_plain(to_plain(Nested(lam=0.5))) == Nested(lam=0.5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("class Options(BaseModel):\n    pass", "settings_type that is no subclass of"),
        ("class Options(MethodSettings):\n    lam: float", "every option of Options needs a default"),
        (
            "class Options(MethodSettings):\n    lam: float = Field(-1, ge=0)",
            "every option of Options needs a",
        ),
        (
            "class Options(MethodSettings):\n    pass\nPersonalizer.tuning_rule = 'fastest'",
            "Mine has the tuning_rule 'fastest'; expected largest_harmless or most_accurate",
        ),
    ],
)
def test_settings_of_ones_own_that_cannot_work_are_refused(
    body: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    name = f"own_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(
        "from pydantic import BaseModel, Field\n"
        "from fedml_spurious.personalization.base import MethodSettings, Personalizer\n"
        f"{body}\n"
        "class Mine(Personalizer):\n    name = 'mine'\n    settings_type = Options\n"
    )
    content = {"data_args": {"dataset": "d", "data_cache_dir": "x"}}
    with pytest.raises(InputError, match=expected):
        check_settings(content | {"experiment_args": {"methods": [f"{name}:Mine"]}}, source="test")


def test_a_class_that_is_defined_anew_takes_the_place_of_the_older_one() -> None:
    def define() -> type[MethodSettings]:
        class Settings(MethodSettings):
            pass

        return Settings

    first, second = define(), define()
    assert travelling_types()[name_of(first)] is second
