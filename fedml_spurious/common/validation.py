"""What pydantic found wrong, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

FLOAT_AS_TEXT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")

# What pydantic says beside what was expected.
_NOISE = re.compile(
    r"^\w+ should (be|have|match) | after validation, not .*|, unable to parse .*| or instance of \w+"
)


def problems_of(
    error: ValidationError,
    model: type[BaseModel] | None = None,
    *,
    open_sections: Mapping[str, Iterable[str]] | None = None,
) -> list[str]:
    """All mistakes of a validation: where, what was expected, what was got, what may be meant.

    Args:
        error: what pydantic raised.
        model: the model that was validated, whose keys a wrong one may mean.
        open_sections: keys of sections of which the model does not say them, by the place of the section.
    """
    return [_explain_one(dict(item), model, open_sections or {}) for item in error.errors()]


def report(problems: Sequence[str], *, source: str) -> str:
    """One message for all mistakes in ``source``, a line for each."""
    count = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
    return "\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)])


def describe_errors(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """All mistakes of a validation in one line; see :func:`problems_of`."""
    return "; ".join(problems_of(error, model))


def _explain_one(
    item: Mapping[str, Any], model: type[BaseModel] | None, open_sections: Mapping[str, Iterable[str]]
) -> str:
    location = [str(part) for part in item["loc"]]
    where = f"{'.'.join(location)}: " if location else ""
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        known = list(open_sections.get(".".join(location[:-1]), _known_keys(model, location[:-1])))
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f". Expected one of: {', '.join(sorted(known))}" if known else ""
        hint = f". Did you mean {close[0]}?" if close else hint
        return f"{where}unknown {'section' if isinstance(value, dict) else 'key'}{hint}"
    if kind == "missing":
        return f"{where}missing; it has no default"
    message = str(item["msg"])
    if kind == "value_error":  # a text of ours, which says all of it
        return where + message.removeprefix("Value error, ")
    message = _NOISE.sub("", message).rstrip(".")
    if isinstance(value, (dict, BaseModel)) and not kind.endswith("_type"):
        return where + message
    hint = ""
    if kind.endswith("_type") and isinstance(value, str) and FLOAT_AS_TEXT.fullmatch(value):
        hint = f". YAML reads {value} as text: write {float(value)!r} or {_with_point(value)}"
    return f"{where}expected {message}, got {_describe(value)}{hint}"


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def _describe(value: Any) -> str:
    kinds = {str: "text", list: "the list", tuple: "the list", dict: "the section", bool: "the truth value"}
    kind = kinds.get(type(value), "")
    return f"{kind} {value!r}".strip()


def _known_keys(model: type[BaseModel] | None, location: Iterable[str]) -> list[str]:
    if model is None:
        return []
    current: Any = model
    for part in location:
        field = current.model_fields.get(part)
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            return []
        current = field.annotation
    return list(current.model_fields)
