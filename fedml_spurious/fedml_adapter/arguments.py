"""FedML's ``args`` stops here: one function reads it, one makes it from our settings."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import problems_of, report
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.learning.options import LocalTraining

_OWN = ("personalization_args", "attack_args", "experiment_args")
_TRAIN = {
    "comm_round", "epochs", "batch_size", "learning_rate", "weight_decay", "client_num_in_total",
    "client_num_per_round",
}  # fmt: skip
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


def require_an_end(args: Any) -> None:
    """Refuse a run that FedML never ends.

    Raises:
        InputError: it is one.
    """
    if averaged_by_fedml(args) and int(args.comm_round) == 1:
        raise InputError(
            "FedML args: comm_round: FedML's MPI simulation never ends with a single round, because its "
            "clients end on their second message; set it to 2 or more, or use training_type cross_silo"
        )


def averaged_by_fedml(args: Any) -> bool:
    """Whether FedML averages the clients' models itself: its MPI simulation asks no aggregator."""
    return getattr(args, "training_type", "") == "simulation" and getattr(args, "backend", "") == "MPI"


def personalization_rounds(args: Any) -> int:
    """Rounds of FedML that the personalization step takes, which ``comm_round`` has to count.

    One; and one before it for the attack's budget, where the rule has to find it.
    """
    return 1 if settings_of(args).attack_args.budget == "fixed" else 2


def settings_of(args: Any) -> Settings:
    """The settings of both steps from FedML's flat ``args``.

    Args:
        args: with ``personalization_args``, ``attack_args`` and ``experiment_args`` as sections of ours. In a
            file that FedML reads they stand below a section of any name: FedML writes the keys of all
            sections into one object, where the epochs of two sections would be one.

    Raises:
        InputError: settings are wrong or absent.
    """
    basic = read_arguments(args)
    own = {section: dict(getattr(args, section, None) or {}) for section in _OWN}
    if not any(hasattr(args, section) for section in _OWN):
        raise InputError(
            "FedML args: personalization_args, attack_args and experiment_args are missing. FedML takes "
            "sections apart; put these three below a section spurious_args, which leaves them whole"
        )
    seeds = own["experiment_args"].setdefault("fl_seeds", [basic.random_seed])
    if list(seeds) != [basic.random_seed]:
        raise InputError(
            f"FedML args: experiment_args.fl_seeds: a run of FedML has one seed, random_seed "
            f"({basic.random_seed}), got {seeds}; leave fl_seeds out"
        )
    folder = Path(str(getattr(args, "yaml_config_file", None) or ".")).resolve().parent
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # for methods and networks of one's own, beside the configuration
    train = basic.model_dump(include=_TRAIN)
    return check_settings(
        {
            "common_args": {"random_seed": basic.random_seed},
            "data_args": {
                "dataset": str(args.dataset),
                "data_cache_dir": str(getattr(args, "data_cache_dir", None) or "."),
            },
            "model_args": {
                "model": str(getattr(args, "model", "cnn_28x28")),
                "fc_width": int(getattr(args, "fc_width", 4096)),
            },
            "train_args": train,
            "validation_args": {"frequency_of_the_test": basic.frequency_of_the_test},
            **own,
        },
        source="FedML args",
    )


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
    flat.update(settings.model_args.model_dump(), dataset=settings.data_args.dataset)
    flat.update(data_cache_dir=settings.data_args.data_cache_dir)
    flat.update(random_seed=fl_seed, client_num_in_total=num_clients, rank=0, role="server", round_idx=0)
    flat.update(
        {section: getattr(settings, section).model_dump(mode="json", exclude_none=True) for section in _OWN}
    )
    flat["experiment_args"]["fl_seeds"] = [fl_seed]
    return Namespace(**flat)
