"""Where a run, or one of its silos, keeps its personal models."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.learning.checkpoints import load_tensors, require_state
from fedml_spurious.learning.state_dicts import State


def model_path(folder: RunFolder, key: ResultKey) -> Path:
    """Where the personal model is that the results are about."""
    return folder.personal_part(key.method, key.fl_seed, key.p_seed) / "models" / f"{key.client}.pt"


def find_model(folder: RunFolder, key: ResultKey) -> Path | None:
    """Where a personal model is: in the run folder, or with the silo that trained it, if that is here."""
    silos = [RunFolder(path) for path in sorted(folder.path.glob("silos/rank*"))]
    paths = (model_path(place, key) for place in (folder, *silos))
    return next((path for path in paths if path.is_file()), None)


def load_model(path: Path, model: nn.Module) -> State:
    """Weights of a personal model, on the CPU.

    Args:
        path: the file.
        model: a network of its architecture.

    Raises:
        InputError: the file cannot be read, is not what its run wrote, or is of another architecture.
    """
    state: State = load_tensors(path)
    require_state(model, state, path)
    return state
