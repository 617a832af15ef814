from __future__ import annotations

import contextlib
import math
import re
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.validation import describe_errors, problems_of, report
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings


class Inner(FrozenModel):
    rate: float = 0.5


class Outer(FrozenModel):
    count: int = Field(default=1, ge=0)
    name: str = Field(default="a", pattern="^[a-z]+$")
    kind: Literal["red", "blue"] = "red"
    items: Annotated[list[int], Field(min_length=1)] = [1]  # noqa: RUF012 - pydantic copies it
    values: list[int | Annotated[float, Field(allow_inf_nan=False)]] = [1]  # noqa: RUF012 - the same
    pair: tuple[int, int] = (1, 2)
    off: Literal[False] = False
    inner: Inner = Inner()
    needed: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count == 7:
            raise ValueError("count: 7 brings bad luck")
        if self.count == 13:
            raise PydanticCustomError("luck", "13 brings bad luck")
        return self


def refused(content: Any, *, strings: bool = False) -> ValidationError:
    check = Outer.model_validate_strings if strings else Outer.model_validate
    with pytest.raises(ValidationError) as caught:
        check(content)
    return caught.value


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"needed": 1, "count": -1}, "count: expected at least 0, got -1"),
        ({"needed": 1, "count": True}, "count: expected a whole number, got the truth value true"),
        ({"needed": 1, "name": "A"}, "name: expected pattern '^[a-z]+$', got text 'A'"),
        ({"needed": 1, "kind": "green"}, "kind: expected 'red' or 'blue', got text 'green'"),
        ({"needed": 1, "items": []}, "items: expected at least 1 item, got the list []"),
        ({"needed": 1, "items": [-1, "x"]}, "items.1: expected a whole number, got text 'x'"),
        ({"needed": 1, "items": 3}, "items: expected a list, got 3"),
        ({"needed": 1, "values": ["x"]}, "values.0: expected a number, got text 'x'"),
        ({"needed": 1, "values": [math.nan]}, "values.0: expected a finite number, got nan"),
        ({"needed": 1, "values": None}, "values: expected a list, got null"),
        ({"needed": 1, "values": "1"}, "values: expected a list, got text '1'"),
        (
            {"needed": 1, "pair": [1, 2]},
            "pair: expected a tuple, which no file can hold (the class of the options should say list), got "
            "the list [1, 2]",
        ),
        ({"needed": 1, "off": True}, "off: expected false, got the truth value true"),
        ({"needed": 1, "name": print}, "name: expected text, got <built-in function print>"),
        ({"needed": 1, "name": refused}, "name: expected text, got <function refused>"),
        ({"needed": 1, "inner": 3}, "inner: expected a section, got 3"),
        (
            {"needed": 1, "inner": {"rate": "1e-3"}},
            "inner.rate: expected a number, got text '1e-3'. YAML reads 1e-3 as text: write 0.001 or 1.0e-3",
        ),
        ({"needed": 1, "inner": {"rates": 1}}, "inner.rates: unknown key. Did you mean rate?"),
        ({"needed": 1, "inner": {"x": 1}}, "inner.x: unknown key. Expected one of: rate"),
        ({"needed": 1, "iner": {}}, "iner: unknown section. Did you mean inner?"),
        ({}, "needed: missing; it has no default"),
        ({"needed": 1, "count": 7}, "count: 7 brings bad luck"),
        ({"needed": 1, "count": 13}, "13 brings bad luck"),
        ([1], "expected a section, got the list [1]"),
    ],
)
def test_a_mistake_has_one_wording(content: Any, problem: str) -> None:
    error = refused(content)
    assert problems_of(error, Outer) == [problem]
    assert describe_errors(error, Outer) == problem
    assert report([problem], source="here") == f"here: 1 setting is wrong\n  {problem}"


def test_two_keys_with_one_value_are_two_mistakes() -> None:
    error = refused({"needed": "x", "count": "x", "inner": {"rate": "x"}})
    assert problems_of(error, Outer) == [
        "count: expected a whole number, got text 'x'",
        "inner.rate: expected a number, got text 'x'",
        "needed: expected a whole number, got text 'x'",
    ]


def python_words(message: str) -> list[str]:
    """Words of pydantic and of Python that nobody who writes YAML should have to know."""
    return re.findall(
        r"[Vv]alue error|[Ii]nput should|\btuple\b|\bdictionary\b|\bvalid\b| at 0x|True|None", message
    )


def test_no_wrong_value_of_any_setting_is_answered_in_python() -> None:
    """Every key of every section, with values of every kind that YAML has."""
    wrong: list[Any] = ["x", -1, 1.5, True, None, [], ["x", -1], {}, {"x": {"y": -1}}, math.nan, 10**30]
    seen = set()
    for section, field in Settings.model_fields.items():
        for key in field.annotation.model_fields:
            for value in wrong:
                content = {"data_args": {"dataset": "d", "data_cache_dir": "d"}}
                content.setdefault(section, {})[key] = value
                with contextlib.suppress(InputError):
                    check_settings(content, source="here")
                    continue
                with pytest.raises(InputError) as refused:
                    check_settings(content, source="here")
                assert python_words(str(refused.value)) == [], content
                # Two items are enough everywhere: it is they that are wrong, not their number.
                assert not (value == ["x", -1] and "item" in str(refused.value)), content
                seen.add((section, key))
    assert len(seen) > 50


def test_texts_of_a_command_line_are_not_taken_for_yaml() -> None:
    error = refused({"needed": "1e3", "count": "7"}, strings=True)
    assert describe_errors(error) == "needed: expected a whole number, got text '1e3'"
    assert describe_errors(refused({"needed": "1", "count": "7"}, strings=True)) == "count: 7 brings bad luck"


def test_keys_that_a_model_leaves_open_are_meant_too() -> None:
    error = refused({"needed": 1, "inner": {"lenght": 1}})
    assert problems_of(error, Outer, open_sections={"inner": ["length"]}) == [
        "inner.lenght: unknown key. Did you mean length?"
    ]
