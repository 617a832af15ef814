"""What pydantic found wrong, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from fedml_spurious.common.words import counted, without_addresses

_SHOWN = 300  # characters of a value
FLOAT_AS_TEXT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)")

# Settings that are ids of clients, whose leading zeros are part of them.
_IDS = {"clients", "silo_clients"}

# What pydantic expects, in words for people who write YAML and no Python.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a section",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "model_type": "a section",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}
_NUMBERS = ("a finite number", "a number", "a whole number")
# What pydantic says beside what was expected, where it has no entry above.
_NOISE = re.compile(
    r"^\w+ should (be|have|match) | after validation, not .*|, unable to parse .*| or instance of \w+"
)
# What pydantic puts at the end of a place for a type among others.
_ALTERNATIVE = re.compile(r"(int|float|str|bool|none)$|(constrained|function)-|(list|tuple|dict)\[")
_Item = Mapping[str, Any]


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
    items = [dict(item) for item in error.errors()]
    return [_explain(group, model, open_sections or {}) for group in _by_place(items)]


def typed_problems(error: ValidationError) -> list[str]:
    """All mistakes in what was typed on a command line, where a number is a number and no text."""
    found = []
    for group in _by_place([dict(item) for item in error.errors()]):
        place = [str(part) for part in group[0]["loc"]]
        option = f"{place[0]}: " if place else ""
        text = _explain([{**item, "loc": ()} for item in group], None, {})
        typed = str(group[0]["input"])
        if FLOAT_AS_TEXT.fullmatch(typed) or _NUMBER.fullmatch(typed):
            text = text.replace(f"got text {typed!r}", f"got {typed}")
        found.append(option + text.replace("got text ", "got "))
    return found


def first_problem(error: ValidationError) -> str:
    """What was expected and what was got of the first mistake, without its place."""
    return _explain([{**next(_by_place([dict(item) for item in error.errors()]))[0], "loc": ()}], None, {})


def report(problems: Sequence[str], *, source: str) -> str:
    """One message for all mistakes in ``source``, a line for each."""
    count = f"{counted(len(problems), 'setting')} {'is' if len(problems) == 1 else 'are'} wrong"
    return "\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)])


def describe_errors(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """All mistakes of a validation in one line; see :func:`problems_of`."""
    return "; ".join(problems_of(error, model))


def _by_place(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """The mistakes, each once: what every alternative of a value says of it is one mistake."""
    groups: dict[tuple[Any, ...], list[_Item]] = {}
    for item in items:
        place = item["loc"]
        # A list whose items are wrong has lost them, and seems too short.
        inside = any(
            len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in items
        )
        if item["type"] == "too_short" and inside:
            continue
        is_alternative = bool(place) and _ALTERNATIVE.match(str(place[-1])) is not None
        kept = {**item, "loc": place[:-1] if is_alternative else place}
        groups.setdefault((kept["loc"], None if is_alternative else item["type"]), []).append(kept)
    yield from groups.values()


def _explain(
    group: Sequence[_Item], model: type[BaseModel] | None, open_sections: Mapping[str, Iterable[str]]
) -> str:
    item = group[0]
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
    if kind == "json_invalid":
        return f"{where}broken JSON: {item['ctx']['error']}"
    if kind == "value_error":  # a text of ours, which says all of it
        return where + str(item["msg"]).removeprefix("Value error, ")
    expected = list(dict.fromkeys(_expected(one) for one in group))
    # A number that may be whole or not is a number.
    numbers = [words for words in _NUMBERS if words in expected]
    expected = [words for words in expected if words not in numbers[1:]]
    if isinstance(value, (dict, BaseModel)) and not kind.endswith(("_type", "_short", "_long")):
        return where + " or ".join(expected)
    hint = ""
    if kind == "string_type" and type(value) is int and set(location) & _IDS:
        hint = '. Quote ids: YAML reads 0010 as the number 8; write ["0010"]'
    if kind.endswith("_type") and isinstance(value, str) and FLOAT_AS_TEXT.fullmatch(value):
        hint = f". YAML reads {value} as text: write {float(value)!r} or {_with_point(value)}"
    return f"{where}expected {' or '.join(expected)}, got {_describe(value)}{hint}"


def _expected(item: _Item) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "tuple_type" and isinstance(item["input"], list):  # of a method of the user's own
        return "a tuple, which no file can hold (the class of the options should say list)"
    if kind in _EXPECTED:
        limits = {name: f"{limit:g}" for name, limit in context.items() if isinstance(limit, (int, float))}
        return _EXPECTED[kind].format(**limits)
    if kind in ("too_short", "too_long"):
        bound, word = ("min_length", "at least") if kind == "too_short" else ("max_length", "at most")
        return f"{word} {counted(context[bound], 'item')}"
    if kind == "literal_error":
        return str(context["expected"]).replace("True", "true").replace("False", "false")
    return _NOISE.sub("", str(item["msg"])).rstrip(".")


def _with_point(number: str) -> str:
    mantissa, exponent = re.split("[eE]", number)
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def _describe(value: Any) -> str:
    """A value as YAML has it, cut where it is long."""
    kinds = {str: "text", list: "the list", tuple: "the list", dict: "the section", bool: "the truth value"}
    shown = {True: "true", False: "false", None: "null"}.get(value) if _is_plain(value) else None
    text = shown or repr(list(value) if isinstance(value, tuple) else value)
    text = without_addresses(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    return f"{kinds.get(type(value), '')} {text}".strip()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


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
