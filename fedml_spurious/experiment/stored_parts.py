"""What a run folder holds, checked before anything is written to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json, read_unchanged
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.budget import stored_budget
from fedml_spurious.experiment.divergence_step import check_divergence
from fedml_spurious.experiment.federated_step import stored_global_model
from fedml_spurious.experiment.identity import IDENTITY, PersonalIdentities, require_alike
from fedml_spurious.experiment.inputs import SplitsBySeed, initial_network
from fedml_spurious.experiment.result_store import STORED
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.learning.checkpoints import load_tensors, require_state


def check_stored_parts(
    folder: RunFolder, settings: Settings, data: SplitsBySeed, clients: Mapping[int, Sequence[str]]
) -> None:
    """Make sure that everything that a run would go on from is of this run, and whole.

    Args:
        folder: the run folder; nothing is written.
        settings: settings of the run.
        data: client split files by federated seed.
        clients: ids of the clients to personalize, by federated seed.

    Raises:
        InputError: something is of other settings or data, or was damaged or edited.
    """
    budgets = {}
    for fl_seed, splits in data.items():
        stored = stored_global_model(folder, settings, splits, fl_seed)
        check_divergence(settings, folder, fl_seed, stored.rounds)
        recalibrated = folder.global_part(fl_seed) / "recalibrated.pt"
        if recalibrated.exists():
            require_state(
                initial_network(settings, splits, fl_seed), load_tensors(recalibrated), recalibrated
            )
        eps = stored_budget(folder, settings, splits, fl_seed, clients[fl_seed])
        if eps is not None:
            budgets[fl_seed] = eps
    identities = PersonalIdentities(settings, data, budgets)
    for found in sorted((folder.path / "personal").rglob(IDENTITY)):
        _check_part(found, identities)


def _check_part(path: Path, identities: PersonalIdentities) -> None:
    """Check the results of one method with its options and seeds."""
    before = read_json(path, "sha256", "determined_by")["determined_by"]
    fl_seed = before.get("fl_seed") if isinstance(before, dict) else None
    if not isinstance(fl_seed, int):
        raise InputError(f"{path}: is broken; expected what determined the part; {remedy(path)}")
    if fl_seed not in identities.fl_seeds:
        return  # of a seed that this run leaves alone
    now = {name: value for name, value in identities.shared(fl_seed).items() if value is not None}
    require_alike(path, before, now)
    for name in STORED:
        if (path.parent / name).exists():
            # A kill in the middle of a row leaves half a line, which is dropped when the table grows again.
            read_unchanged(path.parent / name, grows=name.endswith(".csv"))
