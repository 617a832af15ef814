"""How many images of each group the clients of CelebA_S get: tables 3, 4 and 5 of the paper, or a file.

Bias-conflicting are blond males, as in the paper. With ``conflicting: [blond_male, non_blond_female]`` beside
``clients`` they are all whose hair is that of the other sex, and ``test_bc`` may hold both groups.

A file for ``--group-counts`` is YAML or JSON. It lists the clients in order; what is not named is 0::

    clients:
      - train_and_validation: {non_blond_female: 40, non_blond_male: 30, blond_female: 8, blond_male: 2}
        test: {non_blond_female: 20, non_blond_male: 20, blond_female: 10, blond_male: 0}
        test_bc: {blond_male: 15}
      - train_and_validation: {non_blond_female: 30, non_blond_male: 40, blond_female: 8, blond_male: 2}
        test: {non_blond_female: 20, non_blond_male: 20, blond_female: 10, blond_male: 0}
        test_bc: {blond_male: 12}
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import (
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data_partition.celeba.labels import GROUP_NAMES, Group
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.common.validation import describe_errors
from fedml_spurious.common.yaml_files import read_yaml

GroupName = Literal["non_blond_female", "non_blond_male", "blond_female", "blond_male"]


class SplitCounts(FrozenModel):
    """Images of each group in a split."""

    non_blond_female: NonNegativeInt = 0
    non_blond_male: NonNegativeInt = 0
    blond_female: NonNegativeInt = 0
    blond_male: NonNegativeInt = 0

    def array(self) -> IndexArray:
        """Counts indexed by group, shape (4,)."""
        return np.array([getattr(self, name) for name in GROUP_NAMES], dtype=np.int64)


class ClientCounts(FrozenModel):
    """Images of one client.

    Attributes:
        train_and_validation: a row of table 3.
        test: a row of table 4, the biased test set.
        test_bc: a row of table 5, the bias-conflicting test set; its images are in no other split. Clients
            without one are not personalized.
    """

    train_and_validation: SplitCounts
    test: SplitCounts
    test_bc: SplitCounts

    def demand(self) -> IndexArray:
        """Images of each group that the client needs in all, shape (4,)."""
        return self.train_and_validation.array() + self.test.array() + self.test_bc.array()


class GroupCounts(FrozenModel):
    """Images of every client of the kind that tables 3, 4 and 5 describe.

    Attributes:
        conflicting: groups that are bias-conflicting on every client; only they may be in ``test_bc``.
        clients: client k is ``clients[k]``.
    """

    conflicting: list[GroupName] = Field(default=["blond_male"], min_length=1)
    clients: list[ClientCounts] = Field(min_length=1)

    @field_validator("conflicting")
    @classmethod
    def _once_each(cls, names: list[GroupName]) -> list[GroupName]:
        # In one order, so that the same groups make the same description.
        return sorted(set(names), key=GROUP_NAMES.index)

    @model_validator(mode="after")
    def _only_conflicting_ones_conflict(self) -> Self:
        for position, client in enumerate(self.clients):
            named = {group for group, count in client.test_bc if count}
            for group in sorted(named - set(self.conflicting)):
                raise PydanticCustomError(
                    "not_conflicting",
                    "clients.{position}.test_bc.{group}: not bias-conflicting; conflicting names {known}",
                    {"position": position, "group": group, "known": ", ".join(self.conflicting)},
                )
        return self

    @property
    def conflicting_groups(self) -> tuple[Group, ...]:
        """Groups that are bias-conflicting."""
        return tuple(Group[name.upper()] for name in self.conflicting)

    def demand(self) -> IndexArray:
        """Images of each group that each client needs, shape (C, 4)."""
        return np.stack([client.demand() for client in self.clients])


def _paper_client(train_and_validation: list[int], test: list[int], blond_males: int) -> ClientCounts:
    return ClientCounts(
        train_and_validation=SplitCounts(**dict(zip(GROUP_NAMES, train_and_validation, strict=True))),
        test=SplitCounts(**dict(zip(GROUP_NAMES, test, strict=True))),
        test_bc=SplitCounts(blond_male=blond_males),
    )


# Columns as printed: non-blond female, non-blond male, blond female, blond male; table 5 has only the last.
PAPER_COUNTS = GroupCounts(
    clients=[
        _paper_client([55, 31, 12, 2], [115, 60, 45, 2], 200),
        _paper_client([30, 68, 0, 2], [60, 75, 79, 0], 203),
        _paper_client([59, 28, 11, 2], [86, 111, 14, 0], 204),
    ]
)


def find_group_counts(name: Path) -> Path:
    """The file that ``--group-counts`` names: a path, or the name of one that ships, such as celeba_s_small.

    Raises:
        InputError: there is neither.
    """
    shipped = {path.stem: path for path in (Path(__file__).parent / "group_counts").glob("*.yaml")}
    if name.is_file():
        return name
    if str(name) in shipped:
        return shipped[str(name)]
    raise InputError(f"{name}: no such file with group counts; give one, or {', '.join(sorted(shipped))}")


def read_group_counts(path: Path) -> GroupCounts:
    """Read a file for ``--group-counts``, see the head of this module.

    Raises:
        InputError: the file cannot be read or does not have that form; the text lists every mistake.
    """
    content = read_yaml(path)
    try:
        return GroupCounts.model_validate(content)
    except ValidationError as error:
        raise InputError(
            f"{path}: is no table of group counts. Expected clients, and for each of them "
            f"train_and_validation, test and test_bc with counts of {', '.join(GROUP_NAMES)}; got "
            f"{describe_errors(error, GroupCounts)}"
        ) from error
