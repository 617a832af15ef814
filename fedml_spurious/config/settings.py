"""Settings of a run: all sections together, with a section of options for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError, PydanticSerializationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import describe_errors, first_problem
from fedml_spurious.common.words import without_addresses
from fedml_spurious.config.data_section import DataArgs
from fedml_spurious.config.fields import Section
from fedml_spurious.config.processes_section import CommArgs
from fedml_spurious.config.sections import (
    AnalysisArgs,
    AttackArgs,
    CommonArgs,
    DeviceArgs,
    ExperimentArgs,
    ModelArgs,
    PersonalizationArgs,
    TrackingArgs,
    TrainArgs,
    ValidationArgs,
)
from fedml_spurious.learning.options import LocalTraining
from fedml_spurious.personalization import GLOBAL, find_method
from fedml_spurious.personalization.options import BUILT_IN, MethodSettings, TuningRule
from fedml_spurious.results.method_names import BASELINE

if TYPE_CHECKING:
    from fedml_spurious.personalization.base import Personalizer


class Settings(Section):
    """All settings of a run."""

    common_args: CommonArgs = CommonArgs()
    data_args: DataArgs
    model_args: ModelArgs = ModelArgs()
    train_args: TrainArgs = TrainArgs()
    validation_args: ValidationArgs = ValidationArgs()
    device_args: DeviceArgs = DeviceArgs()
    comm_args: CommArgs = CommArgs()
    tracking_args: TrackingArgs = TrackingArgs()
    personalization_args: PersonalizationArgs
    attack_args: AttackArgs = AttackArgs()
    analysis_args: AnalysisArgs = AnalysisArgs()
    experiment_args: ExperimentArgs = ExperimentArgs()

    @model_validator(mode="after")
    def _grids_fit(self) -> Settings:
        for name, grid in self.experiment_args.grids.items():
            for option, values in grid.items():
                own = getattr(self.personalization_args, name, None)
                _check_grid(name, own, option, values)
        return self

    @model_validator(mode="after")
    def _gain_is_known(self) -> Settings:
        if self.compares_with_fine_tuning() and BASELINE not in self.experiment_args.methods:
            raise PydanticCustomError(
                "gain",
                "experiment_args.tuning_reference: gain compares with fine-tuning; add ft to "
                "experiment_args.methods, or set it to global or smallest",
            )
        return self

    @model_validator(mode="after")
    def _silos_are_processes(self) -> Settings:
        if self.common_args.training_type != "cross_silo":
            return self
        if self.comm_args.backend == "sp":
            raise PydanticCustomError(
                "silos", "common_args.training_type: cross_silo needs comm_args.backend MPI or GRPC, got 'sp'"
            )
        if self.data_args.partition is not None:
            raise PydanticCustomError(
                "silos",
                "data_args.partition: in cross_silo the server reads no data and cannot make splits; make "
                "them with `fedml-spurious partition` and name the folder in data_args.data_cache_dir",
            )
        return self

    @model_validator(mode="after")
    def _choices_fit_the_clients(self) -> Settings:
        if self.own_partitions and self.experiment_args.tuning == "client" and len(self.fl_seeds) > 1:
            raise PydanticCustomError(
                "tuning",
                "experiment_args.tuning: client chooses with the first federated seed, and with "
                "data_args.partition.seed null the clients of the others are not the same; set tuning to "
                "shared, give the partition a seed, or run one federated seed",
            )
        return self

    @property
    def own_partitions(self) -> bool:
        """Whether every federated seed has a partition of its own."""
        return self.data_args.partition is not None and self.data_args.partition.per_fl_seed

    @property
    def fl_seeds(self) -> tuple[int, ...]:
        """Seeds of the federated step."""
        return self.experiment_args.fl_seeds or (self.common_args.random_seed,)

    @property
    def trajectory_interval(self) -> int:
        """Batches between two rows of ``trajectory.csv``; 0 writes none."""
        own = self.personalization_args.trajectory_interval
        return own or int("trajectories" in self.analysis_args.record)

    def method_type(self, name: str) -> type[Personalizer[Any]]:
        """The class of a method that this run has, by the name that it has in tables."""
        named = dict(zip(self.methods(), self.experiment_args.methods, strict=True))
        return find_method(named[name])

    def tuning_rule(self, name: str) -> TuningRule:
        """How a coefficient of a method of this run is chosen from a grid."""
        return BUILT_IN[name].tuning_rule if name in BUILT_IN else self.method_type(name).tuning_rule

    def options(self, name: str) -> MethodSettings | None:
        """Options of a method of this run; None for the global model, which has none."""
        found: MethodSettings | None = None if name == GLOBAL else getattr(self.personalization_args, name)
        return found

    def grids(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Values of a coefficient among which tuning chooses, ascending, by method of this run and option."""
        found = {}
        for name, grid in self.experiment_args.grids.items():
            own = getattr(self.personalization_args, name)
            found[name] = {
                option: tuple(sorted(_taken(own, option, value) for value in values))
                for option, values in grid.items()
            }
        return {name: grid for name, grid in found.items() if name in self.methods()}

    def compares_with_fine_tuning(self) -> bool:
        """Whether a coefficient is chosen by what fine-tuning gains."""
        rules = {self.tuning_rule(name) for name in self.grids()}
        return self.experiment_args.tuning_reference == "gain" and "largest_harmless" in rules

    def methods(self) -> list[str]:
        """The methods by the names that they have in tables, in the order of the table."""
        # Those of this package are known without importing them, and torch with them.
        return [
            entry if entry == GLOBAL or entry in BUILT_IN else find_method(entry).name
            for entry in self.experiment_args.methods
        ]

    def fine_tuning(self) -> LocalTraining:
        """How a client fine-tunes."""
        own, train = self.personalization_args, self.train_args
        return LocalTraining(
            own.epochs,
            own.batch_size or train.batch_size,
            own.learning_rate or train.learning_rate,
            train.weight_decay,
            own.batchnorm_mode,
        )


def _taken(own: MethodSettings, option: str, value: float) -> float:
    """A value of a grid as the method's options take it: 1 as 1.0 where they have decimals."""
    taken: float = getattr(type(own)(**{**own.model_dump(), option: value}), option)
    return taken


def _check_grid(name: str, own: Any, option: str, values: Sequence[float]) -> None:
    """Make sure that a method has this option and that the option takes these values."""
    where = f"grids.{name}.{option}"
    if not isinstance(own, MethodSettings):
        problem = "no method of that name has a section in personalization_args"
    elif option not in type(own).model_fields:
        known = ", ".join(sorted(type(own).model_fields)) or "none"
        problem = f"{name} has no such option; it has {known}"
    else:
        try:
            taken = []
            for value in values:
                taken.append(_taken(own, option, value))
            twice = [value for value in dict.fromkeys(taken) if taken.count(value) > 1]
            if not twice:
                return
            problem = f"names {', '.join(f'{value:g}' for value in twice)} twice"
        except ValidationError as error:
            problem = first_problem(error)
    raise PydanticCustomError(
        "grid", "experiment_args.{where}: {problem}", {"where": where, "problem": problem}
    )


def _check_name(entry: str, name: Any, known: Mapping[str, Any]) -> None:
    """Make sure that a method of the user's own has a name for sections, folders and tables."""
    where = f"experiment_args.methods: {entry} has the name {name!r}"
    if not (isinstance(name, str) and name.isidentifier() and name.isascii()):
        raise InputError(f"{where}; expected letters, digits and underscores")
    if name == GLOBAL or name in known or name in PersonalizationArgs.model_fields:
        raise InputError(f"{where}, which something else has; give the class another name")


def _defaults(name: str, options: type[MethodSettings]) -> MethodSettings:
    where = f"experiment_args.methods: {name}: every option of {options.__name__} needs a default that"
    try:
        defaults = options()
        defaults.model_dump(mode="json")  # as config.yaml will hold them
    except ValidationError as error:
        raise InputError(f"{where} it takes itself ({describe_errors(error)})") from None
    except PydanticSerializationError as error:
        raise InputError(f"{where} a file can hold ({without_addresses(str(error))})") from None
    return defaults


@cache
def settings_type(methods: tuple[str, ...]) -> type[Settings]:
    """The settings model with a section for every built-in method and for those named.

    Args:
        methods: names of methods, ``module:Class`` for one's own.

    Raises:
        InputError: there is no such method, or two have the same name.
    """
    known = {name: method.settings_type for name, method in BUILT_IN.items()}
    for entry in methods:
        if entry != GLOBAL and entry not in BUILT_IN:
            method = find_method(entry)
            _check_name(entry, method.name, known)
            known[method.name] = method.settings_type
    fields: dict[str, Any] = {name: (options, _defaults(name, options)) for name, options in known.items()}
    personalization = create_model("PersonalizationArgs", __base__=PersonalizationArgs, **fields)
    return create_model(
        "Settings", __base__=Settings, personalization_args=(personalization, personalization())
    )
