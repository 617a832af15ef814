"""Finished work of a run on disk: every answer is kept as soon as it is there, and never made twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import (
    append_csv,
    link_or_copy,
    read_csv,
    read_json,
    tidy_csv,
    write_csv,
    write_json,
)
from fedml_spurious.experiment.identity import PersonalIdentities, claim, require_same
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.learning.checkpoints import save_tensors
from fedml_spurious.results.rows import ClientResult, append_result, read_results, tidy_results, write_results

TRAJECTORY_COLUMNS = (
    "client", "epoch", "batch", "acc_b", "acc_bc", "disparity", "loss_b", "loss_bc", "acc_adv", "loss_adv",
)  # fmt: skip

_DETAILS, _TRAJECTORY = "details.json", "trajectory.csv"
_GROWING_DETAILS, _DETAILS_COLUMNS = "details.csv", ("client", "details")
_SELECTED, _LAST = "clients.csv", "clients_last.csv"
STORED = (_SELECTED, _LAST, _TRAJECTORY, _DETAILS, _GROWING_DETAILS)
"""Files of one method with its options and seeds, from which a run goes on."""

_Part = dict[str, ClientResult]


class ResultStore:
    """Finished rows: one ``clients.csv`` per method, its options and pair of seeds.

    They are of the selected epoch; ``clients_last.csv`` beside it has those of the last epoch, and
    ``details.json`` what a method tells of its way, by client. Rows are appended as they come, and stand in
    the order of the clients when the run ends, so that nothing shows who was finished first. Details too are
    rows until then, in ``details.csv``: a JSON file cannot grow.

    Args:
        folder: the run folder.
        models: whether work is done only when its personal model is there too.
        trajectories: the same of its trajectory.
        identities: what determines the results; None in a silo, whose results are the server's.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        models: bool = False,
        trajectories: bool = False,
        identities: PersonalIdentities | None = None,
    ) -> None:
        self.folder, self.models, self.trajectories = folder, models, trajectories
        self.identities = identities
        self._added: set[ResultKey] = set()  # a method of one's own may tell no trajectory
        self._parts: dict[Path, _Part] = {}
        self._trajectories: dict[Path, set[str]] = {}  # clients in each trajectory.csv
        self._told: dict[Path, dict[str, Any]] = {}  # details by folder
        self._checked: set[Path] = set()
        self._claimed: set[Path] = set()

    def path(self, key: ResultKey) -> Path:
        """Where the work's method, seeds and options are kept."""
        if values := key.values():
            return self.folder.options_part(key.method, values, key.fl_seed, key.p_seed)
        return self.folder.personal_part(key.method, key.fl_seed, key.p_seed)

    def _part(self, path: Path) -> _Part:
        if path not in self._parts:
            rows = read_results(path, grows=True) if path.exists() else []
            self._parts[path] = {row.client: row for row in rows}
        return self._parts[path]

    def has(self, key: ResultKey) -> bool:
        """Whether this work is done.

        Raises:
            InputError: what is there is of other settings, or is not what the run wrote.
        """
        self._require_same(key)
        row = self._part(self.path(key) / _SELECTED).get(key.client)
        if row is None or key.client not in self._part(self.path(key) / _LAST):
            return False
        if key.p_seed is None or row.acc_b is None:
            return True
        if self.trajectories and key not in self._added and not self._has_trajectory(key):
            return False
        return not self.models or self._model(key).exists()

    def _has_trajectory(self, key: ResultKey) -> bool:
        path = self.path(key) / _TRAJECTORY
        if path not in self._trajectories:
            self._trajectories[path] = {row["client"] for row in _trajectory_rows(path)}
        return key.client in self._trajectories[path]

    def _require_same(self, key: ResultKey) -> None:
        path = self.path(key)
        if self.identities is None or path in self._checked:
            return
        require_same(path, self.identities.of(key))
        eps = self.identities.eps.get(key.fl_seed)
        for name in (_SELECTED, _LAST):
            for row in self._part(path / name).values():
                if (row.method, row.fl_seed, row.p_seed, row.eps) != (
                    key.method,
                    key.fl_seed,
                    key.p_seed,
                    row.eps if eps is None else eps,
                ):
                    raise InputError(
                        f"{path / name}: client {row.client} has another method, seed or budget (eps) than "
                        f"this run; {remedy(path / name)}"
                    )
        self._checked.add(path)

    def _model(self, key: ResultKey) -> Path:
        return self.path(key) / "models" / f"{key.client}.pt"

    def get(self, key: ResultKey) -> ClientResult:
        """The result of finished work at the selected epoch."""
        return self._part(self.path(key) / _SELECTED)[key.client]

    def get_last(self, key: ResultKey) -> ClientResult:
        """The result of finished work at the last epoch."""
        return self._part(self.path(key) / _LAST)[key.client]

    def add(self, key: ResultKey, outcome: Outcome) -> None:
        """Store an outcome at once; its row of ``clients.csv`` comes last and makes it count as done."""
        path = self.path(key)
        if self.identities is not None and path not in self._claimed:
            claim(path, self.identities.of(key))
            self._claimed.add(path)
        if outcome.trajectory:
            self._add_trajectory(path / _TRAJECTORY, key.client, outcome.trajectory)
        if outcome.details:
            self._details(path)[key.client] = dict(outcome.details)
            told = {"client": key.client, "details": json.dumps(outcome.details, allow_nan=False)}
            append_csv(path / _GROWING_DETAILS, _DETAILS_COLUMNS, [told])
        if outcome.state is not None:
            save_tensors(self._model(key), outcome.state)
        for name, row in ((_LAST, outcome.last), (_SELECTED, outcome.result)):
            self._part(path / name)[key.client] = row
            append_result(path / name, row)
        self._added.add(key)

    def _add_trajectory(self, path: Path, client: str, rows: Sequence[dict[str, Any]]) -> None:
        if path not in self._trajectories:
            self._trajectories[path] = {row["client"] for row in _trajectory_rows(path)}
        if client in self._trajectories[path]:
            # A kill between trajectory and result leaves rows of a client that is done again.
            before = [row for row in _trajectory_rows(path) if row["client"] != client]
            write_csv(path, TRAJECTORY_COLUMNS, before)
        append_csv(path, TRAJECTORY_COLUMNS, rows)
        self._trajectories[path].add(client)

    def _details(self, part: Path) -> dict[str, Any]:
        if part not in self._told:
            whole, growing = part / _DETAILS, part / _GROWING_DETAILS
            found = read_json(whole) if whole.exists() else {}
            if growing.exists():
                found |= {row["client"]: _told(growing, row) for row in read_csv(growing, grows=True)}
            self._told[part] = found
        return self._told[part]

    def _tidy(self) -> None:
        """Put the rows of all files that grew into the order of the clients."""
        for path, rows in self._parts.items():
            if rows:
                tidy_results(path, [rows[client] for client in sorted(rows)])
        for path in {path.with_name(_TRAJECTORY) for path in self._parts}:
            if path.exists():
                tidy_csv(path, TRAJECTORY_COLUMNS, _in_order(_trajectory_rows(path)))
        for part in {path.parent for path in self._parts}:
            if (part / _GROWING_DETAILS).exists():
                told = self._details(part)
                write_json(part / _DETAILS, {client: told[client] for client in sorted(told)})
                (part / _GROWING_DETAILS).unlink()

    def collect(self, plan: Sequence[ResultKey]) -> None:
        """Put the results of methods with options where those of other methods are.

        Args:
            plan: the final work of the run, with the options that hold in it.
        """
        chosen: dict[Path, list[ResultKey]] = {}
        for key in plan:
            if key.values():
                target = self.folder.personal_part(key.method, key.fl_seed, key.p_seed)
                chosen.setdefault(target, []).append(key)
        for target, keys in chosen.items():
            write_results(target / _LAST, [self.get_last(key) for key in keys])
            write_results(target / _SELECTED, [self.get(key) for key in keys])
            kept = {(self.path(key), key.client) for key in keys}
            rows = [
                row
                for part in sorted({part for part, _ in kept})
                for row in _trajectory_rows(part / _TRAJECTORY)
                if (part, row["client"]) in kept
            ]
            # Files of other options, whose results were there before, must not stay.
            if rows:
                write_csv(target / _TRAJECTORY, TRAJECTORY_COLUMNS, _in_order(rows))
            else:
                (target / _TRAJECTORY).unlink(missing_ok=True)
            details = {key.client: self._details(self.path(key)).get(key.client) for key in keys}
            if any(details.values()):
                write_json(target / _DETAILS, {client: found for client, found in details.items() if found})
            else:
                (target / _DETAILS).unlink(missing_ok=True)
        self.collect_models(plan)

    def collect_models(self, plan: Sequence[ResultKey]) -> None:
        """Put models of methods with options where those of others are, when all rows are there."""
        self._tidy()
        for key in plan:
            if key.values():
                target = self.folder.personal_part(key.method, key.fl_seed, key.p_seed)
                _link(self._model(key), target / "models")


def _trajectory_rows(path: Path) -> list[dict[str, str]]:
    return read_csv(path, grows=True) if path.exists() else []


def _told(path: Path, row: Mapping[str, str]) -> Any:
    try:
        return json.loads(row["details"])
    except (KeyError, ValueError, RecursionError):
        raise InputError(
            f"{path}: broken, expected what a method tells of client {row.get('client')}; {remedy(path)}"
        ) from None


def _in_order(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    # Sorting keeps the order of a client's rows.
    return sorted(rows, key=lambda row: row["client"])


def _link(model: Path, folder: Path) -> None:
    """Give a model a second name."""
    if not model.exists():
        (folder / model.name).unlink(missing_ok=True)  # of other options, whose results were there before
        return
    link_or_copy(model, folder / model.name)
