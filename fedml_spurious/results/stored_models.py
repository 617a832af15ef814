"""JSON files of a run folder, read as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import problems_of

Model = TypeVar("Model", bound=BaseModel)


def read_stored(path: Path, model: type[Model], *, expected: str) -> Model:
    """Read a JSON file.

    Args:
        path: the file.
        model: what it holds.
        expected: end of the message when it does not: what was expected, and what to do.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        problem = error.strerror or str(error)
    except ValidationError as error:
        problem = problems_of(error, model)[0]
    raise InputError(f"{path}: cannot be read ({problem}); expected {expected}")
