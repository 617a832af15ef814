"""Configurations of FedML: what of them is taken, renamed, or answered with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedml_spurious.common.errors import InputError

WRAPPER = "spurious_args"
"""Section below which a file that FedML reads too has our three sections: FedML takes sections apart."""

RENAMED = {
    ("tracking_args", "wandb_name"): "run_name",
}
"""Keys of FedML's that mean what one of ours means."""

_PLATFORM = "it belongs to FedML's hosted platform, which is never contacted here; leave it out"
_SECURITY = "there is no {} here, which would change what is measured; set enable to false, or leave it out"

SECTIONS = {
    "client_specific_args": "processes share one configuration here; leave it out",
    "defense_args": _SECURITY.format("defence of the server against clients"),
    "dp_args": _SECURITY.format("differential privacy"),
    "fhe_args": _SECURITY.format("encryption of the weights"),
    "environment_args": _PLATFORM,
    "launcher_args": _PLATFORM,
    "serving_args": "models are not served here; leave it out",
    "contribution_args": "contributions of clients are not assessed here; leave it out",
}
"""Sections of FedML's that are not used, and why."""

_ATTACKS = "FedML's attacks on the federation are not used; attack_args here is the method's PGD"
_DIRICHLET = (
    "clients come from split files, made by data_args.partition or `fedml-spurious partition`, not by "
    "FedML's drawing of labels; leave it out"
)
_GPUS = "GPUs are named by device_args.gpu_id, and by device_args.worker_gpus for several processes"
_SERVER = "belongs to optimisers other than FedAvg, the only one here; leave it out"
_CLIENT = "clients train with Adam alone, fresh in every round (appendix C.2); leave it out"
_LOGS = "logs are in the run folder; leave it out"
_TRANSPORT = "belongs to a transport of FedML's that is not used; comm_args.backend is sp, MPI or GRPC"

KEYS = {
    "attack_args.attack_type": _ATTACKS,
    "attack_args.enable_attack": _ATTACKS,
    "comm_args.grpc_ipconfig_path": (
        "its table is comm_args.grpc_addresses here: a list of host:port of every rank, the server first"
    ),
    "comm_args.is_mobile": "devices run Python here; leave it out",
    "comm_args.mqtt_config_path": _TRANSPORT,
    "comm_args.s3_config_path": _TRANSPORT,
    "comm_args.trpc_master_config_path": _TRANSPORT,
    "common_args.config_path": _PLATFORM,
    "common_args.mlops_api_key": _PLATFORM,
    "common_args.mlops_project_name": _PLATFORM,
    "common_args.mlops_run_name": _PLATFORM,
    "data_args.data_file_path": _DIRICHLET,
    "data_args.part_file": _DIRICHLET,
    "data_args.partition_alpha": _DIRICHLET,
    "data_args.partition_file_path": _DIRICHLET,
    "data_args.partition_method": _DIRICHLET,
    "data_args.synthetic_data_url": "data are never downloaded from an address here; leave it out",
    "device_args.device_type": _GPUS,
    "device_args.gpu_ids": _GPUS,
    "device_args.gpu_mapping_file": _GPUS,
    "device_args.gpu_mapping_key": _GPUS,
    "device_args.mpi_gpu_mapping": _GPUS,
    "device_args.worker_num": "mpirun -np says how many processes there are; leave it out",
    "model_args.model_file_cache_folder": "global models are in the run folder; leave it out",
    "model_args.global_model_file_path": "global models are in the run folder; leave it out",
    "model_args.output_dim": "the number of classes comes from the split files; leave it out",
    "tracking_args.enable_sys_perf_profiling": _PLATFORM,
    "tracking_args.enable_tracking": (
        "tracking is Weights & Biases here, tracking_args.enable_wandb; FedML's platform is never contacted"
    ),
    "tracking_args.log_file_dir": _LOGS,
    "tracking_args.log_server_url": _LOGS,
    "tracking_args.wandb_entity": "the environment variable WANDB_ENTITY says it; leave it out",
    "tracking_args.wandb_group_id": "a run is one run there; leave it out",
    "tracking_args.wandb_key": "the environment variable WANDB_API_KEY says it, and no file; leave it out",
    "tracking_args.wandb_only_server": "only the server logs there; leave it out",
    "train_args.client_id_list": (
        "the clients of a round are drawn; those to personalize are personalization_args.clients"
    ),
    "train_args.group_comm_round": _SERVER,
    "train_args.group_method": _SERVER,
    "train_args.group_num": _SERVER,
    "train_args.momentum": _CLIENT,
    "train_args.server_lr": _SERVER,
    "train_args.server_momentum": _SERVER,
    "train_args.server_optimizer": _SERVER,
}
"""Keys of FedML's that are not used, and why."""

_OFF = ("[]", 0, False)  # how FedML's files say that something is not wanted


def take_fedml(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take of a configuration of FedML's what means something here.

    What is switched off or empty is left out without a word, because it is not wanted here either.

    Args:
        content: sections as a file has them.

    Returns:
        The sections without FedML's own, and a problem for each of those that asks for something.
    """
    taken: dict[str, Any] = {}
    problems = []
    for section, keys in content.items():
        if section in SECTIONS and section not in taken:
            if _wants_something(keys):
                problems.append(f"{section}: a section of FedML's: {SECTIONS[section]}")
        elif isinstance(keys, dict):
            taken[section], more = _take_keys(section, keys)
            problems += more
        else:
            taken[section] = keys
    return taken, problems


def _take_keys(section: str, keys: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    taken, problems = {}, []
    for key, value in keys.items():
        where = f"{section}.{key}"
        ours = RENAMED.get((section, key))
        if ours is not None:
            if ours in keys:
                problems.append(f"{where}: means {section}.{ours}, which is there too; leave one out")
            taken[ours] = value
        elif where not in KEYS:
            taken[key] = value
        elif value is not None and value not in _OFF:
            problems.append(f"{where}: a key of FedML's: {KEYS[where]}")
    return taken, problems


def _wants_something(keys: Any) -> bool:
    switches = {key: value for key, value in keys.items() if key.startswith("enable")} if keys else {}
    if not isinstance(keys, dict) or not keys:
        return bool(keys)
    return any(value not in _OFF for value in (switches or keys).values())


def unwrap(content: dict[str, Any], source: str) -> dict[str, Any]:
    """Put the sections below :data:`WRAPPER` where ours are.

    Raises:
        InputError: it is no section of sections, or one of them is there twice.
    """
    if WRAPPER not in content:
        return content
    own = content[WRAPPER]
    if not isinstance(own, dict) or not all(
        value is None or isinstance(value, dict) for value in own.values()
    ):
        raise InputError(f"{source}: {WRAPPER}: expected sections such as personalization_args below it")
    twice = [name for name in own if name in content]
    if twice:
        raise InputError(f"{source}: {twice[0]} stands below {WRAPPER} and beside it; leave one out")
    rest = {name: section for name, section in content.items() if name != WRAPPER}
    return rest | {name: section or {} for name, section in own.items()}
