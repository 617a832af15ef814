"""Types of the fields of the configuration, and what all of its sections share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from fedml_spurious.common.frozen_model import FrozenModel

FilePath = Annotated[str, Field(min_length=1)]


def _no_more_than(limit: int, words: str) -> AfterValidator:
    """A bound far above any use, and below what a library or the memory fails at."""

    def check(value: int) -> int:
        if value > limit:
            raise PydanticCustomError("bound", "at most {words}", {"words": words})
        return value

    return AfterValidator(check)


BILLION = _no_more_than(10**9, "10^9")
Count = Annotated[int, Field(ge=1), BILLION]
Seed = Annotated[int, Field(ge=0), _no_more_than(2**63 - 1, "2^63 - 1")]
GpuNumber = Annotated[int, Field(ge=0, le=1023)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def as_tuple(value: Any) -> Any:
    """A list as a tuple: YAML has lists only, and a strict tuple field would refuse them."""
    return tuple(value) if isinstance(value, list) else value


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), BeforeValidator(as_tuple)]
Values = Annotated[
    tuple[int | Annotated[float, Field(allow_inf_nan=False)], ...],
    Field(min_length=1),
    BeforeValidator(as_tuple),
]
Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(as_tuple)]
GpuNumbers = Annotated[tuple[GpuNumber, ...], Field(min_length=1), BeforeValidator(as_tuple)]
Recordings = Annotated[
    tuple[Literal["trajectories", "divergence", "gamma", "twins"], ...], BeforeValidator(as_tuple)
]
SiloClients = Annotated[tuple[Names, ...], Field(min_length=1), BeforeValidator(as_tuple)]


class Section(FrozenModel):
    """A section of the configuration: unknown keys are errors and types are not converted."""


def refuse_repeats(section: Section, *keys: str) -> None:
    """Refuse keys that name a value twice; for validators of a section."""
    for key in keys:
        values = getattr(section, key) or ()
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if twice:
            named = ", ".join(map(str, twice))
            raise PydanticCustomError("repeats", "{key} names {named} twice", {"key": key, "named": named})
