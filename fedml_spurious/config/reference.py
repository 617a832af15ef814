"""The page ``docs/configuration.md``, made from the settings and their docstrings.

Run as ``python -m fedml_spurious.config.reference``; ``make docs`` writes the page.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data_partition.registry import PARTITIONS
from fedml_spurious.config.settings import Settings
from fedml_spurious.personalization.options import BUILT_IN

INTRODUCTION = """\
# Configuration

This page is made from the docstrings of the settings by `make docs`; change those, not this page.

A configuration is a YAML file with FedML's sections and FedML's key names, and four sections of ours:
`personalization_args`, `attack_args`, `analysis_args` and `experiment_args`. A key that is left out has its
default. Mistakes in keys and values are named together, unknown keys are errors, types are not converted, and
the settings are frozen. `--set section.key=value` replaces one value of the file. Write `1.0e-4`, not `1e-4`,
which YAML reads as text. "absent" is a key that is left out, or `null`.
"""
METHODS_INTRODUCTION = """\
## Options of the methods

Each method has a section of its name in `personalization_args`. [methods.md](methods.md) says what they are.
"""
PARTITION_INTRODUCTION = """\
## Options of the partitions

The keys of `data_args.partition`, which depend on `data_args.dataset`. `fedml-spurious partition NAME` takes
them too, as `--map-divergence` for `map_divergence`. The data sets are in [data.md](data.md).
"""
Row = tuple[str, str, str, str, str]
COLUMNS = ("key", "type", "default", "allowed", "what")
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_NAMES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "truth value"}


def configuration_page() -> str:
    """The whole page, in Markdown.

    Raises:
        ValueError: a key has no words in its docstring, or words are about a key that is not there.
    """
    sections = [_section(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join([INTRODUCTION, *sections, _methods(), _partitions()])


def field_words(model: type[BaseModel]) -> dict[str, str]:
    """What the ``Attributes:`` of a settings class, and of those that it extends, say of every field.

    Raises:
        ValueError: a field without words, or words without a field.
    """
    words: dict[str, str] = {}
    own = [base for base in model.__mro__ if issubclass(base, BaseModel) and base is not BaseModel]
    for base in reversed(own):
        words.update(_attributes(base.__doc__ or ""))
    missing = [name for name in model.model_fields if not words.get(name)]
    unknown = [name for name in words if name not in model.model_fields]
    if missing or unknown:
        raise ValueError(
            f"{model.__module__}.{model.__qualname__}: expected one entry under 'Attributes:' for every "
            f"field; missing: {', '.join(missing) or 'none'}; of no field: {', '.join(unknown) or 'none'}"
        )
    return {name: words[name] for name in model.model_fields}


def _attributes(docstring: str) -> dict[str, str]:
    """The entries under ``Attributes:`` in a docstring, each in one line."""
    _, _, text = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    entries = "".join(takewhile(lambda line: line.startswith("    "), text.splitlines(keepends=True)))
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", entries, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _section(name: str, field: FieldInfo) -> str:
    model = field.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    summary = inspect.cleandoc(model.__doc__ or "").splitlines()[0]
    about = _markdown(summary.removeprefix(f"``{name}``").lstrip(":. "))
    lines = [f"## {name}", "", about[:1].upper() + about[1:], ""]
    return "\n".join([*lines, *_table(_rows(model)), ""])


def _methods() -> str:
    rows: list[Row] = []
    for name, method in BUILT_IN.items():
        rows += _rows(method.settings_type, prefix=f"{name}.")
    without = [f"`{name}`" for name, method in BUILT_IN.items() if not method.settings_type.model_fields]
    return "\n".join([METHODS_INTRODUCTION, *_table(rows), "", f"Without options: {', '.join(without)}.", ""])


def _partitions() -> str:
    parts = [PARTITION_INTRODUCTION]
    for name, partition in PARTITIONS.items():
        parts += [f"### {name}", "", *_table(_rows(partition.Options)), ""]
    return "\n".join(parts)


def _rows(model: type[BaseModel], prefix: str = "") -> list[Row]:
    """A row per field: key, type, default, allowed values, words."""
    schema = model.model_json_schema()
    words = field_words(model)
    rows: list[Row] = []
    for name, field in model.model_fields.items():
        shape = _without_null(schema["properties"][name])
        default = "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
        rows.append((f"`{prefix}{name}`", _type(shape), default, _allowed(shape), _markdown(words[name])))
    return rows


def _table(rows: Iterable[Row]) -> list[str]:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]


def _without_null(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON schema without its alternative null, which is a key that is left out."""
    choices = [choice for choice in shape.get("anyOf", ()) if choice.get("type") != "null"]
    if {choice.get("type") for choice in choices} == {"integer", "number"}:
        return {"type": "number"}
    return choices[0] if choices else shape


def _type(shape: Mapping[str, Any], plural: str = "") -> str:
    kind = shape.get("type", "object")  # the options of a partition, whose keys depend on the data set
    if kind == "array":
        items = shape.get("items") or shape["prefixItems"][0]
        return f"list{plural} of {_type(_without_null(items), 's')}"
    if kind == "object":
        inner = shape.get("additionalProperties", True)
        return f"section{plural}" if inner is True else f"section{plural} of {_type(inner, 's')}"
    return _NAMES[str(kind)] + plural


def _allowed(shape: Mapping[str, Any]) -> str:
    """Allowed values or range, in words; empty where the type says all."""
    if "const" in shape:
        return f"only {_value(shape['const'])}"
    if "enum" in shape:
        return ", ".join(map(_value, shape["enum"]))
    if "prefixItems" in shape:
        return f"{len(shape['prefixItems'])} values"
    if "items" in shape:
        inner = _allowed(_without_null(shape["items"]))
        number = f"{shape['minItems']} or more" if shape.get("minItems") else ""
        return ", ".join(part for part in (number, inner and f"each {inner}") if part)
    parts = [f"{word} {shape[bound]:g}" for bound, word in _BOUNDS.items() if bound in shape]
    if shape.get("minLength"):
        parts.append("not empty")
    return ", ".join(parts)


def _value(value: Any) -> str:
    """A value as YAML has it."""
    if value is None:
        return "absent"
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _markdown(text: str) -> str:
    """The text of a docstring in Markdown: its references as names, its code in single quotes."""
    text = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


if __name__ == "__main__":
    click.echo(configuration_page(), nl=False)
