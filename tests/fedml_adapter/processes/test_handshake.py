"""What the server compares before a run starts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from data_partition.colored_mnist import Options, build
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.fedml_adapter.processes.handshake import (
    describe_splits,
    introduce,
    require_equal,
    require_same_splits,
)


def test_a_partition_seed_of_null_is_not_an_absent_one(tiny: dict[str, Any]) -> None:
    tiny["data_args"] = {"dataset": "colored_mnist", "partition": {"source": "digits"}}
    absent = introduce(check_settings(copy.deepcopy(tiny), source="test"), 1, {})
    tiny["data_args"]["partition"]["seed"] = None
    null = introduce(check_settings(tiny, source="test"), 1, {})
    require_equal(null, null, 1)
    with pytest.raises(InputError, match=r"data_args\.partition\.seed: 'absent' there, None on rank 0"):
        require_equal(null, absent, 1)


def test_processes_of_another_command_or_with_other_options_are_refused(tiny: dict[str, Any]) -> None:
    """A silo shows no model to peers because another process was started with ``--peers``."""
    settings = check_settings(tiny, source="test")
    mine = introduce(settings, 1, {"command": "audit", "peers": True})
    require_equal(mine, introduce(settings, 1, {"peers": True, "command": "audit"}), 1)
    for theirs, message in (
        ({"command": "audit", "peers": False}, "peers: False there, True on rank 0"),
        ({"command": "run"}, "command: 'run' there, 'audit' on rank 0"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            require_equal(mine, introduce(settings, 1, theirs), 1)
        assert "was asked for something else" in str(caught.value)
        assert "Start all processes with the same command and options" in str(caught.value)


def test_the_split_files_of_every_seed_are_compared(splits: Path, tmp_path: Path) -> None:
    build(
        Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2), raw=None, out=tmp_path
    )
    one, other = SplitFolder(splits), SplitFolder(tmp_path)
    mine = describe_splits({0: one, 1: other})
    require_same_splits(mine, {"splits": describe_splits({0: one, 1: other}), "host": "h"}, 1)
    for theirs, folder in (({0: one, 1: one}, splits), ({0: other, 1: other}, tmp_path)):
        with pytest.raises(InputError, match=f"rank 1 on h has other split files in {folder} than rank 0"):
            require_same_splits(mine, {"splits": describe_splits(theirs), "host": "h"}, 1)


def test_what_belongs_to_a_host_may_differ_and_what_changes_results_may_not(tiny: dict[str, Any]) -> None:
    mine = introduce(check_settings(copy.deepcopy(tiny), source="test"), 2, {})
    own = copy.deepcopy(tiny)
    own["data_args"] |= {"data_cache_dir": "/elsewhere", "cache_mb": 1.0, "raw": "/raw"}
    own["device_args"] = {"gpu_id": 3, "worker_gpus": [3, 2]}
    own["tracking_args"] = {"run_name": "mine"}
    theirs = introduce(check_settings(own, source="test"), 2, {})
    require_equal(mine, theirs, 1)
    other = copy.deepcopy(own)
    other["train_args"]["learning_rate"] = 0.5
    changes: list[tuple[dict[str, Any], str]] = [
        ({"settings": introduce(check_settings(other, source="test"), 2, {})["settings"]},
         r"has other settings\n  train_args.learning_rate: 0.5 there, 0.001 on rank 0\nStart all processes"),
        ({"versions": theirs["versions"] | {"torch": "1.0"}},
         r"has other versions\n  torch: '1.0' there, .*\nInstall the same versions for all processes"),
        ({"threads": 1}, "computes with 1 thread, rank 0 with 2, .*; set device_args.threads"),
    ]  # fmt: skip
    for change, message in changes:
        with pytest.raises(InputError, match=f"rank 1 on {theirs['host']} {message}"):
            require_equal(mine, theirs | change, 1)
