"""JSON files of a run folder, read as frozen models."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_unchanged
from fedml_spurious.common.validation import problems_of

Model = TypeVar("Model", bound=BaseModel)


def read_stored(path: Path, model: type[Model], *, expected: str) -> Model:
    """Read a JSON file.

    Args:
        path: the file.
        model: what it holds.
        expected: what was expected, for the message when it holds something else.

    Raises:
        InputError: the file cannot be read, holds something else, or is not what its run wrote.
    """
    content = read_unchanged(path)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        problem = problems_of(error, model)[0]
    raise InputError(f"{path}: cannot be read ({problem}); expected {expected}; {remedy(path)}")
