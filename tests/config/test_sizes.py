"""Whatever sets the size of something is bounded, or compared with the machine, before anything is made."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_partition.own import write_splits
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.learning.models import build_model

# What is as large as it is set: a file, an array, a list, a pool of processes, or a number in a library.
BOUNDED = {
    "model_args.fc_width", "train_args.client_num_in_total", "train_args.client_num_per_round",
    "train_args.comm_round", "train_args.epochs", "train_args.batch_size",
    "validation_args.frequency_of_the_test", "device_args.gpu_id", "device_args.worker_gpus",
    "device_args.threads", "comm_args.silos", "comm_args.grpc_base_port", "attack_args.budget_samples",
    "attack_args.steps", "personalization_args.epochs", "personalization_args.batch_size",
    "personalization_args.trajectory_interval", "common_args.random_seed", "experiment_args.fl_seeds",
    "experiment_args.personalization_seeds", "analysis_args.divergence_interval", "analysis_args.samples",
}  # fmt: skip


def holds_numbers(schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """Whether a key is a whole number, or a list of such."""
    if "$ref" in schema:
        return holds_numbers(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if isinstance(schema.get("items"), dict) else [])]
    return schema.get("type") == "integer" or any(holds_numbers(one, definitions) for one in inner)


def test_every_whole_number_of_the_settings_is_in_the_table(tiny: dict[str, Any]) -> None:
    settings = check_settings(tiny, source="test")
    found = set()
    for section in Settings.model_fields:
        kind = type(getattr(settings, section))
        fields = {
            name
            for name in kind.model_fields
            if not hasattr(getattr(settings.personalization_args, name, None), "one_values")
            and section != "data_args"
        }
        schema = kind.model_json_schema() if fields else {}
        found |= {
            f"{section}.{name}"
            for name, inner in schema.get("properties", {}).items()
            if name in fields and holds_numbers(inner, schema.get("$defs", {}))
        }
    assert found - {"experiment_args.grids"} == BOUNDED


@pytest.mark.parametrize("value", [10**30, 10**60])
@pytest.mark.parametrize("key", sorted(BOUNDED))
def test_a_number_beyond_all_bounds_is_one_message(key: str, value: int, tiny: dict[str, Any]) -> None:
    section, name = key.split(".")
    content = copy.deepcopy(tiny)
    listed = name in ("worker_gpus", "fl_seeds", "personalization_seeds")
    content.setdefault(section, {})[name] = [value] if listed else value
    with pytest.raises(InputError, match=name) as refused:
        check_settings(content, source="test")
    assert len(str(refused.value)) < 500


def test_ports_end_at_65535(tiny: dict[str, Any]) -> None:
    tiny["comm_args"] = {"backend": "GRPC", "grpc_base_port": 60_000, "silos": 6000}
    with pytest.raises(InputError, match="end above 65535"):
        check_settings(tiny, source="test")


def test_a_network_that_no_memory_holds_is_refused_before_it_is_made(federation: SplitFolder) -> None:
    """6,272 inputs of the hidden layer: 10^9 units are 6 * 10^12 weights of 16 bytes each while training."""
    with pytest.raises(InputError, match=r"fc_width: 1000000000 makes 6,\d\d\d,\d\d\d,\d\d\d,\d\d\d weights"):
        build_model("cnn_28x28", num_classes=10, image_shape=federation.image_shape, fc_width=10**9, seed=0)


@pytest.mark.parametrize("column", ["label", "spurious"])
@pytest.mark.parametrize("value", [10_000, 10**12, 2**63 - 1, 2**64 - 1])
def test_numbers_of_classes_that_no_network_has(column: str, value: int, tmp_path: Path) -> None:
    columns: dict[str, Any] = {"label": [0, 1, 0, 1], "spurious": [0, 1, 0, 1], "client": ["a"] * 4}
    columns[column] = np.array([0, 1, 0, value], np.uint64)
    with pytest.raises(InputError, match=rf"{column}: {value} .*at most 10,000 different values"):
        write_splits(tmp_path, "mine", image=np.zeros((4, 8, 8), np.uint8), **columns)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True), ("127.3.2.1", True), ("localhost", True), ("127.evil.com", False),
        ("127.1", False),
        ("127.0.0.1.nip.io", False), ("localhost.evil.com", False), ("0.0.0.0", False), ("10.0.0.1", False),
        ("128.0.0.1", False), ("mylocalhost", False),
    ],
)  # fmt: skip
def test_whether_an_address_is_this_machine_is_parsed(host: str, is_here: bool, tiny: dict[str, Any]) -> None:
    tiny["comm_args"] = {"backend": "GRPC", "grpc_addresses": [f"{host}:9000", f"{host}:9001"]}
    if is_here:
        assert check_settings(tiny, source="test").comm_args.silo_count == 1
        return
    with pytest.raises(InputError, match="is not this machine alone"):
        check_settings(tiny, source="test")
    tiny["comm_args"]["grpc_network"] = True
    assert check_settings(tiny, source="test").comm_args.silo_count == 1
