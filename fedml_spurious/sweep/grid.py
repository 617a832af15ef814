"""The grid of a sweep: which values which keys of the configuration take."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import FLOAT_AS_TEXT
from fedml_spurious.common.yaml_files import parse_yaml

_EXAMPLE = "--grid 'data_args.partition.map_divergence=[0.0, 0.5, 1.0]'"
_PLAIN_NAME = re.compile(r"[\w.,=+-]{1,150}")

# Every cell is run with all of them, each in a run of its own.
_SEEDS = ("experiment_args.fl_seeds", "common_args.random_seed")


@dataclass(frozen=True)
class Axis:
    """A key of the configuration and the values that it takes.

    Attributes:
        key: such as ``data_args.partition.map_divergence``.
        values: at least one, all different.
    """

    key: str
    values: tuple[Any, ...]


Cell = Mapping[str, Any]
"""A value for every key of the grid."""


def parse_grid(texts: Sequence[str]) -> list[Axis]:
    """The axes of a grid from ``section.key=[...]``.

    Raises:
        InputError: a text is no axis, or two are of the same key.
    """
    axes = [_parse_axis(text) for text in texts]
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--grid {key}: is given twice; give all its values in one list")
    return axes


def _parse_axis(text: str) -> Axis:
    key, equals, listed = text.partition("=")
    if not equals or "." not in key or not all(key.split(".")):
        raise InputError(f"--grid {text}: expected section.key=[value, ...], for example {_EXAMPLE}")
    if key in _SEEDS:
        raise InputError(
            f"--grid {key}: every cell is run with every federated seed, so seeds are no axis; give them "
            "with --set 'experiment_args.fl_seeds=[...]'"
        )
    values = parse_yaml(listed, f"--grid {text}")
    if not isinstance(values, list) or not values:
        raise InputError(f"--grid {text}: expected a list of values, for example {_EXAMPLE}")
    values = [float(value) if _is_float(value) else value for value in values]  # 1e-3 is text in YAML
    texts = [as_json(value) for value in values]
    twice = [value for value in dict.fromkeys(texts) if texts.count(value) > 1]
    if twice:
        raise InputError(f"--grid {text}: names {', '.join(twice)} twice")
    return Axis(key, tuple(values))


def _is_float(value: Any) -> bool:
    return isinstance(value, str) and FLOAT_AS_TEXT.fullmatch(value) is not None


def as_json(value: Any) -> str:
    """A value as JSON, which is YAML as well; what JSON does not know is text."""
    return json.dumps(value, default=str)


def cells_of(axes: Sequence[Axis]) -> list[Cell]:
    """Every combination of the values, the last axis changing fastest; one empty cell without axes."""
    keys = [axis.key for axis in axes]
    combinations = itertools.product(*(axis.values for axis in axes))
    return [dict(zip(keys, values, strict=True)) for values in combinations]


def cell_name(cell: Cell) -> str:
    """A name for the folder of a cell: its values by the last words of their keys, where these differ."""
    last = {key: key.rpartition(".")[2] for key in cell}
    if len(set(last.values())) < len(last):
        last = {key: key for key in cell}
    name = ",".join(f"{last[key]}={plain(value)}" for key, value in cell.items()) or "all"
    if _PLAIN_NAME.fullmatch(name):
        return name
    return hashlib.sha256(as_json(dict(cell)).encode()).hexdigest()[:16]


def plain(value: Any) -> str:
    """A value as people write it: texts without quotes, others as JSON."""
    return value if isinstance(value, str) else as_json(value)
