"""FedML's ``args`` stops here: one function reads it, one makes it from our settings."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import problems_of, report
from fedml_spurious.config.settings import Settings
from fedml_spurious.learning.options import LocalTraining

# FedML wraps these around training and aggregation; ours would silently leave them out.
_UNSUPPORTED = ("enable_dp", "enable_attack", "enable_defense", "enable_fhe")


class TrainerArguments(BaseModel):
    """What the trainer and the aggregator read of FedML's ``args``; numbers may be text, as in its YAML.

    Attributes:
        random_seed: seed of the federated step.
        comm_round: number of rounds.
        epochs: local epochs in a round.
        batch_size: samples per batch.
        learning_rate: of Adam.
        weight_decay: of Adam.
        client_num_in_total: number of clients.
        client_num_per_round: clients that train in a round.
        frequency_of_the_test: rounds between two measurements of the global model.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    random_seed: int = Field(default=0, ge=0)
    comm_round: int = Field(ge=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    client_num_in_total: int = Field(ge=1)
    client_num_per_round: int = Field(ge=1)
    frequency_of_the_test: int = Field(default=10, ge=1)

    def local_training(self) -> LocalTraining:
        """How a client trains in a round."""
        return LocalTraining(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)


def read_arguments(args: Any) -> TrainerArguments:
    """Read FedML's ``args``.

    Raises:
        InputError: values are missing or wrong, or ``args`` asks for something that these classes lack.
    """
    asked = [name for name in _UNSUPPORTED if getattr(args, name, False)]
    if asked:
        raise InputError(
            f"FedML args: {', '.join(asked)} is set, but SpuriousTrainer and SpuriousAggregator have no "
            "differential privacy, attacks, defences or encryption; unset it"
        )
    try:
        return TrainerArguments.model_validate(args, from_attributes=True)
    except ValidationError as error:
        raise InputError(report(problems_of(error, TrainerArguments), source="FedML args")) from None


def fedml_arguments(settings: Settings, *, fl_seed: int, num_clients: int) -> Namespace:
    """FedML's flat ``args`` for one federated run.

    Args:
        settings: settings of the run.
        fl_seed: seed of the federated step.
        num_clients: clients of the data set.
    """
    sections = ("common_args", "train_args", "validation_args", "device_args", "comm_args")
    flat: dict[str, Any] = {}
    for section in sections:
        flat.update(getattr(settings, section).model_dump())
    flat.update(dataset=settings.data_args.dataset, model=settings.model_args.model)
    flat.update(random_seed=fl_seed, client_num_in_total=num_clients, rank=0, role="server", round_idx=0)
    return Namespace(**flat)
