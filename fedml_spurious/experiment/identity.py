"""What determines a part of a run, kept beside it: no run goes on from what other settings or data made.

``identity.json`` lies in the folder of every global model and of every method with its options and seeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedml_spurious.common.checksums import checksums_of, remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_json, write_json
from fedml_spurious.config.sections import PersonalizationArgs
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.learning.client_data import ClientSource

IDENTITY = "identity.json"

Identity = Mapping[str, Any]
"""``determined_by``: what determines a part; ``sha256``: the digest of that."""

# Which clients there are changes no other's result but by the budget; kept models change none.
_NO_DETERMINANTS = {"clients", "save_models"}


def identity(determined_by: Mapping[str, Any]) -> Identity:
    """What determines a part, with its digest."""
    digest = hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()
    return {"sha256": digest, "determined_by": determined_by}


def global_identity(settings: Settings, data: ClientSource, fl_seed: int) -> Identity:
    """What determines a global model."""
    return identity(
        {
            "data": data.fingerprint,
            "model": settings.model_args.model_dump(),
            "training": settings.train_args.model_dump(exclude={"client_num_in_total"}),
            "measured_every": settings.validation_args.frequency_of_the_test,
            "fl_seed": fl_seed,
            "using_gpu": settings.device_args.using_gpu,
        }
    )


def budget_identity(settings: Settings, data: ClientSource, fl_seed: int) -> Identity:
    """What determines the attack's budget, but for the clients that are attacked."""
    return identity(
        {
            "global_model": global_identity(settings, data, fl_seed)["sha256"],
            "attack": settings.attack_args.model_dump(),
            "batchnorm": settings.personalization_args.batchnorm,
        }
    )


class PersonalIdentities:
    """What determines the results of a method with its options and seeds.

    Args:
        settings: settings of the run.
        data: client split files by federated seed.
        eps: budgets by federated seed, of those that are known.

    Attributes:
        fl_seeds: the federated seeds.
    """

    def __init__(self, settings: Settings, data: SplitsBySeed, eps: Mapping[int, float]) -> None:
        self.settings, self.eps = settings, eps
        self._of_budget = {
            fl_seed: budget_identity(settings, splits, fl_seed) for fl_seed, splits in data.items()
        }
        self.fl_seeds = tuple(data)
        kept = PersonalizationArgs.model_fields.keys() - _NO_DETERMINANTS
        self._personalization = settings.personalization_args.model_dump(mode="json", include=kept)

    def shared(self, fl_seed: int) -> dict[str, Any]:
        """What determines all results of a federated seed, whatever the method."""
        return {
            "fl_seed": fl_seed,
            **self._of_budget[fl_seed]["determined_by"],
            "personalization": self._personalization,
            "eps": self.eps.get(fl_seed),
        }

    def of(self, key: ResultKey) -> Identity:
        """What determines the results beside those of a key."""
        # As text, because options of a user's own method may be what JSON has no number for.
        options = {name: repr(value) for name, value in sorted(key.options or ())}
        return identity(
            {**self.shared(key.fl_seed), "method": key.method, "p_seed": key.p_seed, "options": options}
        )


def require_same(part: Path, wanted: Identity) -> None:
    """Make sure that a part of a run folder, where it is there, is determined by the same.

    Raises:
        InputError: it is of other settings or data, or nobody knows.
    """
    path = part / IDENTITY
    if not path.exists():
        _require_none(part)
        return
    found = read_json(path, "sha256", "determined_by")
    if found["sha256"] != wanted["sha256"]:
        require_alike(path, found["determined_by"], wanted["determined_by"])


def require_alike(path: Path, before: Any, now: Mapping[str, Any]) -> None:
    """Make sure that what an ``identity.json`` names agrees with what determines the part now.

    Raises:
        InputError: it does not; the text names what changed.
    """
    if not isinstance(before, dict):
        raise InputError(f"{path}: is broken; expected what determined the part; {remedy(path)}")
    # An older version may have kept less.
    changed = [name for name in now if name in before and before[name] != now[name]]
    if changed:
        raise InputError(
            f"{path.parent}: was made from other settings or data (changed: {', '.join(changed)}); give "
            "another --output"
        )


def claim(part: Path, wanted: Identity) -> None:
    """Bind a part of a run folder to what determines it.

    Raises:
        InputError: it is bound to something else.
    """
    require_same(part, wanted)
    if not (part / IDENTITY).exists():
        write_json(part / IDENTITY, wanted)


def _require_none(part: Path) -> None:
    """Make sure that a part without an identity holds nothing, unless an older version made it."""
    kept = checksums_of(part / IDENTITY)
    found = [path for path in sorted(part.glob("[!.]*")) if path.is_file()]
    if kept is not None and not all(kept.is_adopted(path) for path in found):
        raise InputError(
            f"{part / IDENTITY}: is missing, so that nobody knows what made the files beside it; "
            f"{remedy(part / IDENTITY)}"
        )
