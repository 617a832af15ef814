"""The base of everything that is read from a file or a command line and checked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A model whose unknown keys are errors, whose types are not converted, and that never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
