"""What pydantic found wrong, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

FLOAT_AS_TEXT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


def problems_of(error: ValidationError, model: type[BaseModel], *, prefix: str = "") -> list[str]:
    """All mistakes of a validation: where, what was expected, what was got, what may be meant.

    Args:
        error: what pydantic raised.
        model: the model that was validated.
        prefix: what stands before every key.
    """
    return [_explain_one(dict(item), model, prefix) for item in error.errors()]


def report(problems: Sequence[str], *, source: str) -> str:
    """One message for all mistakes in ``source``."""
    count = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
    return "\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)])


def _explain_one(item: Mapping[str, Any], model: type[BaseModel], prefix: str) -> str:
    location = [str(part) for part in item["loc"]]
    where = prefix + ".".join(location)
    value = item["input"]
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Expected one of: {', '.join(sorted(known))}"
        kind = "section" if len(location) == 1 and not prefix else "key"
        return f"{where}: unknown {kind}. {hint}"
    if item["type"] == "missing":
        return f"{where}: missing; it has no default"
    message = str(item["msg"]).removeprefix("Input should be ").rstrip(".")
    if isinstance(value, (dict, BaseModel)) and not item["type"].endswith("_type"):
        return f"{where}: {message}" if where else message
    hint = ""
    if isinstance(value, str) and FLOAT_AS_TEXT.fullmatch(value):
        hint = f" YAML reads {value} as text: write {float(value)!r} or {_with_point(value)}"
    return f"{where}: expected {message}, got {_describe(value)}.{hint}".removesuffix(".")


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def _describe(value: Any) -> str:
    kinds = {str: "text", list: "the list", tuple: "the list", dict: "the section", bool: "the truth value"}
    kind = kinds.get(type(value), "")
    return f"{kind} {value!r}".strip()


def _known_keys(model: type[BaseModel], location: Iterable[str]) -> list[str]:
    current: Any = model
    for part in location:
        field = current.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        current = field.annotation
    return list(current.model_fields)


def describe_errors(error: ValidationError) -> str:
    """All errors of a pydantic validation in one line: where, what was expected, what was got."""
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        got = f" (got {item['input']!r})" if where and item["type"] != "missing" else ""
        parts.append(f"{where}: {message}{got}" if where else message)
    return "; ".join(parts)
