"""The section on the data of a run, with the options of the partition scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from data_partition.registry import PARTITIONS
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.config.fields import FilePath, NonNegative, Section


@dataclass(frozen=True)
class PartitionOptions:
    """Options of a partition script.

    Attributes:
        given: as the file gives them, for ``config.yaml``.
        checked: as the script takes them; a seed of null is the default here, and is not used.
    """

    given: Any
    checked: FrozenModel

    @property
    def per_fl_seed(self) -> bool:
        """Whether every federated seed has a partition of its own, which ``seed: null`` asks for."""
        return self.given.get("seed", 0) is None

    def of(self, fl_seed: int) -> FrozenModel:
        """The options that make the splits of a federated seed."""
        return self.checked.model_copy(update={"seed": fl_seed}) if self.per_fl_seed else self.checked


def _check_options(given: Any, info: ValidationInfo) -> PartitionOptions | None:
    dataset = info.data.get("dataset")
    if given is None or dataset is None:
        return None
    if dataset not in PARTITIONS:
        raise PydanticCustomError(
            "partition",
            "no partition script '{dataset}'; expected data_args.dataset to be one of {known}",
            {"dataset": dataset, "known": ", ".join(PARTITIONS)},
        )
    known = given
    if isinstance(given, dict) and given.get("seed", 0) is None:  # the federated seed, known when one is run
        known = {name: value for name, value in given.items() if name != "seed"}
    return PartitionOptions(given, PARTITIONS[dataset].Options.model_validate(known))


class DataArgs(Section):
    """``data_args``: the split files, or how they are made for the run.

    Attributes:
        dataset: name of the data set; the split files are ``<dataset>_train.h5`` and so on.
        data_cache_dir: folder of existing client split files.
        partition: options of the partition script that makes the split files in the run folder, where
            ``data_cache_dir`` is absent. ``seed: null`` takes the federated seed, so that every one has
            clients, splits and colour maps of its own (in ``data/fl<SEED>/``); any other seed, 0 where it is
            absent, makes one partition that all federated seeds share.
        raw: folder of the raw data that ``partition`` reads.
        cache_mb: 10^6 bytes of samples that every process keeps, as bytes, on the device where it computes;
            those that were used last. 0 reads the files every time.
    """

    dataset: str = Field(min_length=1)
    data_cache_dir: FilePath | None = None
    partition: Annotated[
        PartitionOptions | None,
        PlainValidator(_check_options),
        PlainSerializer(lambda options: options and options.given),
    ] = None
    raw: FilePath | None = None
    cache_mb: NonNegative = 256.0

    @model_validator(mode="after")
    def _one_source(self) -> DataArgs:
        if (self.data_cache_dir is None) == (self.partition is None):
            raise PydanticCustomError(
                "one_source",
                "expected either data_cache_dir (a folder of split files) or partition (options to make "
                "them), got {got}",
                {"got": "neither" if self.partition is None else "both"},
            )
        return self
