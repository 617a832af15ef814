"""Types of options that several data sets share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from fedml_spurious.common.errors import InputError


def _parse_ratios(value: Any) -> Any:
    if isinstance(value, str):
        parts = value.split(":")
        if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"expected ratios of three whole numbers such as 72:8:20, got {value!r}")
        return tuple(int(part) for part in parts)
    return tuple(value) if isinstance(value, list) else value


def _parse_names(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


Ratios = Annotated[tuple[int, int, int], BeforeValidator(_parse_ratios)]
Names = Annotated[tuple[str, ...], BeforeValidator(_parse_names)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def check_ratios(ratios: tuple[int, int, int]) -> None:
    """Make sure that ratios train:val:test are usable.

    Raises:
        InputError: a negative one, or none for training.
    """
    if min(ratios) < 0 or ratios[0] == 0:
        raise InputError(f"ratios: {':'.join(map(str, ratios))}: expected none below 0 and some training")
