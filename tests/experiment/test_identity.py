"""Every setting that determines a result is part of its identity, and may not change when a run goes on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import Finished

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.flatten import flatten
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.identity import PersonalIdentities, budget_identity, global_identity
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.resume import check_folder

# Another value of every key: what it determines is the global model, a personal result, or neither. Keys that
# determine neither and may not change all the same are for whoever reads config.yaml.
GLOBAL: dict[str, Any] = {
    "model_args.model": "cnn_64x64",
    "model_args.fc_width": 9,
    "train_args.client_num_per_round": 3,
    "train_args.comm_round": 4,
    "train_args.epochs": 2,
    "train_args.batch_size": 8,
    "train_args.learning_rate": 0.002,
    "train_args.weight_decay": 0.1,
    "validation_args.frequency_of_the_test": 1,
    "device_args.using_gpu": True,
}
PERSONAL: dict[str, Any] = {
    "attack_args.norm": "l2",
    "attack_args.eps": 0.04,
    "attack_args.budget": "fixed",
    "attack_args.shrink": 0.7,
    "attack_args.success_low": 0.2,
    "attack_args.success_high": 0.6,
    "attack_args.budget_samples": 17,
    "attack_args.steps": 3,
    "attack_args.step_ratio": 0.5,
    "personalization_args.batchnorm": "local",
    "personalization_args.batchnorm_mode": "batch",
    "personalization_args.selection_ties": "earliest",
    "personalization_args.epochs": 3,
    "personalization_args.batch_size": 8,
    "personalization_args.learning_rate": 0.002,
    "personalization_args.trajectory_interval": 3,
}
REFUSED: dict[str, Any] = {
    "data_args.dataset": "mine",  # the fingerprint of the split files is in the identity
    "train_args.client_num_in_total": 4,
    "device_args.gpu_id": 1,
    "personalization_args.clients": ["0001"],  # kept in budget.json
    "common_args.random_seed": 5,  # a seed is a folder; the old one would be gone
    "common_args.config_version": "x",
    "analysis_args.divergence_interval": 2,  # what is recorded beside the results
    "analysis_args.samples": 17,
}
FREE: dict[str, Any] = {
    "common_args.training_type": "simulation",  # cross_silo needs other keys
    "comm_args.timeout": 30.0,
    "comm_args.start_timeout": 30.0,
    "comm_args.backend": "MPI",
    "comm_args.silos": 2,
    "comm_args.silo_clients": [["0000", "0001"], ["0002", "0003"]],
    "comm_args.grpc_addresses": ["127.0.0.1:1000", "127.0.0.1:1001"],
    "comm_args.grpc_base_port": 9000,
    "comm_args.grpc_network": True,
    "analysis_args.record": ["gamma"],
    "tracking_args.enable_wandb": True,
    "tracking_args.enable_tensorboard": True,
    "tracking_args.wandb_project": "mine",
    "tracking_args.run_name": "mine",
    "device_args.threads": 2,
    "device_args.worker_gpus": [0],
    "data_args.data_cache_dir": "elsewhere",
    "data_args.raw": "elsewhere",
    "data_args.cache_mb": 1,
    "validation_args.checkpoint_seconds": 1.0,
    "personalization_args.save_models": False,
    "experiment_args.tuning": "client",
    "experiment_args.trials": "all",
    "experiment_args.report": False,
    "experiment_args.tuning_reference": "smallest",
    "experiment_args.tuning_share": 0.5,
    "experiment_args.tuning_tolerance": 0.1,
    "experiment_args.personalization_seeds": [0, 1],
    "experiment_args.fl_seeds": [0, 1, 2],
    "experiment_args.methods": ["global", "ft", "ours", "l2"],
    "experiment_args.grids": {"ours": {"lam_adv": [1.0]}},
}
ONE_VALUE = {
    "common_args.scenario", "common_args.using_mlops", "train_args.federated_optimizer",
    "train_args.client_optimizer",
}  # fmt: skip
OTHERWISE_TESTED = {"data_args.partition"}  # its result is the fingerprint


@pytest.fixture(scope="module")
def data(splits: Path) -> dict[int, SplitFolder]:
    return dict.fromkeys((0, 1, 2, 5), SplitFolder(splits))


def changed(config: dict[str, Any], key: str, value: Any) -> Settings:
    section, name = key.split(".")
    content = copy.deepcopy(config)
    content.setdefault(section, {})[name] = value
    return check_settings(content, source="test")


def test_every_key_is_in_the_table(finished: Finished) -> None:
    settings = check_settings(finished.config, source="test")
    known = {
        f"{section}.{key}"
        for section in type(settings).model_fields
        for key in type(getattr(settings, section)).model_fields
        if section != "personalization_args"
        or not hasattr(getattr(settings.personalization_args, key), "one_values")
    }
    assert (
        known == GLOBAL.keys() | PERSONAL.keys() | REFUSED.keys() | FREE.keys() | ONE_VALUE | OTHERWISE_TESTED
    )


@pytest.mark.parametrize(("key", "value"), [*GLOBAL.items(), *PERSONAL.items(), *REFUSED.items()])
def test_what_determines_a_result_may_not_change(key: str, value: Any, finished: Finished) -> None:
    named = {"common_args.random_seed": "random_seed"}.get(key, key)
    with pytest.raises(InputError, match="holds a run of another configuration") as refused:
        check_folder(finished.folder, changed(finished.config, key, value), resume=True)
    assert named in str(refused.value)


@pytest.mark.parametrize(("key", "value"), FREE.items())
def test_what_determines_none_may_change(key: str, value: Any, finished: Finished) -> None:
    try:
        settings = changed(finished.config, key, value)
    except InputError:  # keys that need each other
        return
    check_folder(finished.folder, settings, resume=True)


@pytest.mark.parametrize("key", [*GLOBAL, *PERSONAL])
def test_the_identity_tells_them_apart(key: str, finished: Finished, data: dict[int, SplitFolder]) -> None:
    """Also where somebody has edited or removed config.yaml."""
    before = check_settings(finished.config, source="test")
    now = changed(finished.config, key, (GLOBAL | PERSONAL)[key])
    one, other = (global_identity(settings, data[0], 0)["sha256"] for settings in (before, now))
    assert (one != other) == (key in GLOBAL)
    one, other = (budget_identity(settings, data[0], 0)["sha256"] for settings in (before, now))
    attacked = key.startswith("attack_args.") or key == "personalization_args.batchnorm"
    assert (one != other) == (key in GLOBAL or attacked)
    for work in (ResultKey("global", 0, None, "0000"), ResultKey("ft", 0, 0, "0000", before.options("ft"))):
        results = [PersonalIdentities(settings, data, {}).of(work)["sha256"] for settings in (before, now)]
        assert results[0] != results[1]


def test_options_seeds_budget_and_data_are_part_of_it(
    finished: Finished, data: dict[int, SplitFolder], conflicting_splits: Path
) -> None:
    settings = check_settings(finished.config, source="test")
    identities = PersonalIdentities(settings, data, {})
    weaker = settings.options("ours").model_copy(update={"lam_adv": 0.5})  # type: ignore[union-attr]
    keys = [
        ResultKey("ours", 0, 0, "0000", settings.options("ours")),
        ResultKey("ours", 0, 1, "0000", settings.options("ours")),
        ResultKey("ours", 1, 0, "0000", settings.options("ours")),
        ResultKey("ours", 0, 0, "0000", weaker),
        ResultKey("l2", 0, 0, "0000", settings.options("l2")),
        ResultKey("global", 0, None, "0000"),
    ]
    found = [identities.of(key)["sha256"] for key in keys]
    for other in (
        PersonalIdentities(settings, data, {0: 0.02}),
        PersonalIdentities(settings, {0: SplitFolder(conflicting_splits)}, {}),
    ):
        found.append(other.of(keys[0])["sha256"])
    assert len(set(found)) == len(found)
    assert (
        identities.of(keys[0])["sha256"]
        == identities.of(ResultKey("ours", 0, 0, "0001", keys[0].options))["sha256"]
    )


def test_the_configuration_that_a_run_wrote_has_every_key(finished: Finished) -> None:
    """A key that is not written could change without being noticed."""
    written = flatten(yaml.safe_load((finished.folder / "config.yaml").read_text()))
    settings = check_settings(finished.config, source="test")
    expected = flatten(settings.model_dump(mode="json", exclude_none=True))
    assert written == expected | {("experiment_args", "report"): False}  # ``invoke`` asks for none
