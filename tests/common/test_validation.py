from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.validation import describe_errors, problems_of, report


class Inner(FrozenModel):
    rate: float = 0.5


class Outer(FrozenModel):
    count: int = Field(default=1, ge=0)
    name: str = Field(default="a", pattern="^[a-z]+$")
    kind: Literal["red", "blue"] = "red"
    items: Annotated[list[int], Field(min_length=1)] = [1]  # noqa: RUF012 - pydantic copies it
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
        ({"needed": 1, "count": -1}, "count: expected greater than or equal to 0, got -1"),
        ({"needed": 1, "count": True}, "count: expected a valid integer, got the truth value True"),
        ({"needed": 1, "name": "A"}, "name: expected pattern '^[a-z]+$', got text 'A'"),
        ({"needed": 1, "kind": "green"}, "kind: expected 'red' or 'blue', got text 'green'"),
        ({"needed": 1, "items": []}, "items: expected at least 1 item, got the list []"),
        ({"needed": 1, "inner": 3}, "inner: expected a valid dictionary, got 3"),
        (
            {"needed": 1, "inner": {"rate": "1e-3"}},
            "inner.rate: expected a valid number, got text '1e-3'. "
            "YAML reads 1e-3 as text: write 0.001 or 1.0e-3",
        ),
        ({"needed": 1, "inner": {"rates": 1}}, "inner.rates: unknown key. Did you mean rate?"),
        ({"needed": 1, "inner": {"x": 1}}, "inner.x: unknown key. Expected one of: rate"),
        ({"needed": 1, "iner": {}}, "iner: unknown section. Did you mean inner?"),
        ({}, "needed: missing; it has no default"),
        ({"needed": 1, "count": 7}, "count: 7 brings bad luck"),
        ({"needed": 1, "count": 13}, "13 brings bad luck"),
        ([1], "expected a valid dictionary, got the list [1]"),
    ],
)
def test_a_mistake_has_one_wording(content: Any, problem: str) -> None:
    error = refused(content)
    assert problems_of(error, Outer) == [problem]
    assert describe_errors(error, Outer) == problem
    assert report([problem], source="here") == f"here: 1 setting is wrong\n  {problem}"


def test_texts_of_a_command_line_are_not_taken_for_yaml() -> None:
    error = refused({"needed": "1e3", "count": "7"}, strings=True)
    assert describe_errors(error) == "needed: expected a valid integer, got text '1e3'"
    assert describe_errors(refused({"needed": "1", "count": "7"}, strings=True)) == "count: 7 brings bad luck"


def test_keys_that_a_model_leaves_open_are_meant_too() -> None:
    error = refused({"needed": 1, "inner": {"lenght": 1}})
    assert problems_of(error, Outer, open_sections={"inner": ["length"]}) == [
        "inner.lenght: unknown key. Did you mean length?"
    ]
