"""The base of everything that is read from a file or a command line and checked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fedml_spurious.common.travelling import let_travel


class FrozenModel(BaseModel):
    """A model whose unknown keys are errors, whose types are not converted, and that never changes.

    Numbers are finite: an option that is NaN equals nothing, itself included, and JSON has no word for it.
    """

    # Defaults too: `lam: float = 1` is 1.0, as it is when it comes from a file.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        let_travel(cls)
