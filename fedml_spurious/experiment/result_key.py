"""The key of a result row, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.state_dicts import State
from fedml_spurious.personalization.options import MethodSettings
from fedml_spurious.results.rows import ClientResult


@travels
@dataclass(frozen=True)
class ResultKey:
    """One method with one pair of seeds for one client.

    Attributes:
        method: name of the method.
        fl_seed: seed of the global model.
        p_seed: seed of the personalization; None for the global model as it is.
        client: id of the client.
        options: options of the method; None for the global model.
    """

    method: str
    fl_seed: int
    p_seed: int | None
    client: str
    options: MethodSettings | None = None

    def values(self) -> dict[str, Any]:
        """Options that are one value, by name, which the result is kept by."""
        return self.options.one_values() if self.options else {}


@travels
@dataclass(frozen=True)
class Outcome:
    """What became of a piece of work.

    Attributes:
        result: its row of ``results.csv``, of the selected model.
        last: its row of ``results_last.csv``, of the model after the last epoch; the same row where the
            selected model is that one, or a method of the user's own tells no other.
        trajectory: rows of ``trajectory.csv``; none where none were asked for.
        state: the personal model on the CPU, where models are kept; else None.
        details: numbers that tell how the method got there, by name; none for most methods.
    """

    result: ClientResult
    last: ClientResult
    trajectory: tuple[dict[str, Any], ...] = ()
    state: State | None = None
    details: Mapping[str, float | None] = field(default_factory=dict)
