"""The data sets that can be partitioned, imported when they are used: a configuration is checked before."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from data_partition.partition import Partition


class _Partitions(Mapping[str, "Partition[Any]"]):
    """NAME -> ``PARTITION`` of the module ``data_partition.NAME``, imported at the first access."""

    _names = ("colored_mnist", "colored_coil20", "celeba_real", "celeba_synthetic")

    def __getitem__(self, name: str) -> Partition[Any]:
        if name not in self._names:
            raise KeyError(name)
        return cast("Partition[Any]", importlib.import_module(f"data_partition.{name}").PARTITION)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


PARTITIONS: Mapping[str, Partition[Any]] = _Partitions()
