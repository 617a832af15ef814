"""``config.yaml`` of a run, as far as a reader without torch relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import describe_errors
from fedml_spurious.common.yaml_files import read_yaml


class _Loose(BaseModel):
    """Other keys are whatever the run's version had."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Data(_Loose):
    dataset: str


class _Common(_Loose):
    random_seed: int = 0


class _Experiment(_Loose):
    methods: list[str] = Field(default_factory=list)
    fl_seeds: list[int] | None = None
    personalization_seeds: list[int] = Field(default_factory=list)
    grids: dict[str, dict[str, list[int | float]]] | None = None


class _Config(_Loose):
    __pydantic_extra__: dict[str, dict[str, Any]]

    data_args: _Data
    common_args: _Common = _Common()
    experiment_args: _Experiment = _Experiment()


def read_run_config(path: Path) -> Mapping[str, Any]:
    """The ``config.yaml`` of a run: sections with keys below them.

    Raises:
        InputError: it cannot be read, or is none that a run wrote.
    """
    content = read_yaml(path)
    try:
        _Config.model_validate(content)
    except ValidationError as error:
        problem = describe_errors(error)
    else:
        return content  # type: ignore[no-any-return]  # what was validated is a dictionary
    raise InputError(
        f"{path}: is no configuration that a run wrote ({problem}); remove the file and continue with "
        "--resume and the configuration that the run was started with, which writes it again"
    )
