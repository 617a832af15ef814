"""What several tests share: a tiny federation and the settings of a tiny run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, settings
from running import Finished, invoke

from data_partition.split_files.folder import SplitFolder

# For `make mutants`: the same verdict every time, as soon as one example fails.
settings.register_profile(
    "mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None, deadline=None
)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    # A shell starts background jobs with SIGINT ignored, nohup with SIGHUP, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tiny networks lose by more threads, and child processes share the cores with this one.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _processes_find_the_small_network() -> None:
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, places))


@pytest.fixture(scope="module")
def quick_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Python processes that a module starts begin as ``quick_start.py`` says, whatever starts them."""
    folder = tmp_path_factory.mktemp("quick")
    hook = "import sys, quick_start; sys.meta_path.insert(0, quick_start.Postponed)"
    (folder / "sitecustomize.py").write_text(hook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    folder = os.environ.get("FEDML_SPURIOUS_DATA")
    if not folder:
        pytest.skip("FEDML_SPURIOUS_DATA names no folder with the real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Split files of 4 clients x 3 classes, 120 of the digits that ship inside scikit-learn."""
    from data_partition.colored_mnist import Options, build

    folder = tmp_path_factory.mktemp("splits")
    options = Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=1)
    build(options, raw=None, out=folder)
    return folder


@pytest.fixture(scope="session")
def conflicting_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clients with enough bias-conflicting training samples for every method to apply."""
    from data_partition.colored_mnist import Options, build

    folder = tmp_path_factory.mktemp("conflicting")
    options = Options(
        source="digits", clients=3, classes_per_client=3, limit=180, bias_conflicting_fraction=0.2, seed=1
    )
    build(options, raw=None, out=folder)
    return folder


@pytest.fixture
def federation(splits: Path) -> SplitFolder:
    return SplitFolder(splits)


@pytest.fixture
def tiny(splits: Path) -> dict[str, Any]:
    """A configuration that runs in a few seconds."""
    return {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2,
            "comm_round": 3,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 0.001,
        },
        "validation_args": {"frequency_of_the_test": 2},
        "personalization_args": {"epochs": 2},
        "attack_args": {"steps": 2},
        "experiment_args": {"methods": ["global", "ft", "ours"], "report": False},
    }


@pytest.fixture(scope="session")
def recorded(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One finished run that recorded everything that figures need."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 3, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "personalization_args": {"epochs": 2, "clients": ["0000", "0002"]},
        "attack_args": {"steps": 2},
        "analysis_args": {"record": ["trajectories", "divergence", "gamma", "twins"], "samples": 8},
        "experiment_args": {"methods": ["global", "ft", "adv", "l2", "ours"]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("recorded") / "run"
    return Finished(folder, config, invoke(config, folder))


@pytest.fixture(scope="session")
def finished(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One finished run, with a trajectory and models kept."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 3, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "validation_args": {"frequency_of_the_test": 2},
        "personalization_args": {"epochs": 2, "trajectory_interval": 2, "save_models": True},
        "attack_args": {"steps": 2},
        "experiment_args": {"methods": ["global", "ft", "ours"], "fl_seeds": [0, 1]},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("finished") / "run"
    return Finished(folder, config, invoke(config, folder))
