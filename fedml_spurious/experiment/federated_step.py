"""The federated step: one global model per seed, with checkpoints that survive a kill."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fedml_spurious.common.checksums import remedy
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.storage import append_csv, tidy_csv
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.client import accuracy_cells
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.divergence_step import check_divergence, record_divergence
from fedml_spurious.experiment.identity import claim, global_identity, require_same
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import MeasureGlobal, Workers, in_order
from fedml_spurious.learning.checkpoints import load_tensors, require_state, save_tensors
from fedml_spurious.learning.client_data import ClientSource
from fedml_spurious.learning.fedavg import Round
from fedml_spurious.learning.metrics import EMPTY
from fedml_spurious.learning.state_dicts import copy_state, load_state

logger = logging.getLogger(__name__)

ROUND_COLUMNS = (
    "round", "clients", "train_loss", "acc_b", "acc_bc", "disparity", "loss_b", "loss_bc",
)  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """What a run folder has of a global model.

    Attributes:
        rounds: number of finished rounds.
        state: the weights after them; None where there is no round yet.
        rows: their rows of ``rounds.csv``; those of a finished model are not read.
        finished: whether nothing is left to do.
    """

    rounds: int = 0
    state: Any = None
    rows: tuple[dict[str, Any], ...] = ()
    finished: bool = False


def stored_global_model(folder: RunFolder, settings: Settings, data: ClientSource, fl_seed: int) -> Stored:
    """Read and check what a run folder has of a global model.

    Raises:
        InputError: it is of other data, settings or another architecture, or is broken.
    """
    part = folder.global_part(fl_seed)
    require_same(part, global_identity(settings, data, fl_seed))
    network = initial_network(settings, data, fl_seed)
    model, checkpoint = part / "model.pt", part / "checkpoint.pt"
    # Rows that somebody removed are in the checkpoint.
    if model.exists() and (part / "rounds.csv").exists():
        state = load_tensors(model)
        require_state(network, state, model)
        return Stored(settings.train_args.comm_round, state, finished=True)
    if not checkpoint.exists():
        return Stored()
    found = _load_checkpoint(checkpoint, settings.train_args.comm_round)
    require_state(network, found.state, checkpoint)
    return found


def finished_rounds(folder: RunFolder, settings: Settings, fl_seed: int) -> int:
    """Rounds that need not be run again."""
    part = folder.global_part(fl_seed)
    if (part / "model.pt").exists() and (part / "rounds.csv").exists():
        return settings.train_args.comm_round
    if (part / "checkpoint.pt").exists():
        return _load_checkpoint(part / "checkpoint.pt", settings.train_args.comm_round).rounds
    return 0


def train_global_models(run: RunContext) -> dict[int, nn.Module]:
    """The global model of every federated seed; see :func:`train_global_model`."""
    seeds = run.settings.fl_seeds
    done = sum(finished_rounds(run.folder, run.settings, seed) for seed in seeds)
    total = run.settings.train_args.comm_round * len(seeds)
    with stage(run.console, "Global model, rounds", total=total, done=done) as bar:
        return {seed: train_global_model(run, seed, bar) for seed in seeds}


def train_global_model(run: RunContext, fl_seed: int, bar: Stage) -> nn.Module:
    """Train the global model of a seed, or take it where it is finished.

    Now and then, and after the last round, a checkpoint is kept; a later call goes on from it, to the same
    bytes.

    Args:
        run: the run.
        fl_seed: seed of the federated step.
        bar: advanced once per round.

    Returns:
        The global model on the run's device.

    Raises:
        InputError: what is stored there is of other data, settings or another architecture.
    """
    part = run.folder.global_part(fl_seed)
    data = run.data[fl_seed]
    claim(part, global_identity(run.settings, data, fl_seed))
    stored = stored_global_model(run.folder, run.settings, data, fl_seed)
    model = initial_network(run.settings, data, fl_seed)
    if stored.state is not None:
        load_state(model, stored.state)
    check_divergence(run.settings, run.folder, fl_seed, stored.rounds)
    if stored.finished:
        return model.to(run.device)
    if stored.rounds:
        logger.info("global model fl%d: going on after %d rounds", fl_seed, stored.rounds)
    rows = list(stored.rows)
    # A kill may have come after rounds that the last checkpoint does not know, or before its own.
    tidy_csv(part / "rounds.csv", ROUND_COLUMNS, rows)
    recorder = _Recorder(run, fl_seed, rows, bar)
    run.workers.train(fl_seed, model.to(run.device), start_round=stored.rounds, after_round=recorder.record)
    save_tensors(part / "model.pt", copy_state(model))
    return model


@dataclass
class _Recorder:
    """Measures every finished round and keeps its row, and a checkpoint where its turn has come."""

    run: RunContext
    fl_seed: int
    rows: list[dict[str, Any]]
    bar: Stage
    kept: float = field(default_factory=time.monotonic)  # when the last checkpoint was there

    def record(self, finished: Round) -> None:
        """Measure the round's model and keep a checkpoint where their turn has come, and write the row."""
        last = self.run.settings.train_args.comm_round - 1
        every = self.run.settings.validation_args.frequency_of_the_test
        measured = finished.index % every == 0 or finished.index == last
        ids = self.run.data[self.fl_seed].client_ids
        metrics = {}
        if measured:
            self.run.workers.use(finished.model, self.fl_seed, f"fl{self.fl_seed} round {finished.index}")
            metrics = measure_global_model(self.run.workers, ids)
        losses = [loss for loss in finished.losses if loss is not None]
        row = {
            "round": finished.index,
            "clients": " ".join(ids[client] for client in finished.clients),
            "train_loss": sum(losses) / len(losses),
            **metrics,
        }
        record_divergence(self.run, self.fl_seed, finished)
        self.rows.append(row)
        part = self.run.folder.global_part(self.fl_seed)
        if finished.index == last or self._is_time():
            checkpoint = {
                "rounds": finished.index + 1,
                "model": copy_state(finished.model),
                "rows": self.rows,
            }
            save_tensors(part / "checkpoint.pt", checkpoint)
            self.kept = time.monotonic()
        append_csv(part / "rounds.csv", ROUND_COLUMNS, [row])
        self.run.folder.note("round", fl_seed=self.fl_seed, **row)
        accuracy = f"Acc_B {row['acc_b']:.3f}" if measured else ""
        self.bar.advance(f"fl{self.fl_seed} loss {row['train_loss']:.3f} {accuracy}")

    def _is_time(self) -> bool:
        return time.monotonic() - self.kept >= self.run.settings.validation_args.checkpoint_seconds


def measure_global_model(workers: Workers, clients: Sequence[str]) -> dict[str, float | None]:
    """Accuracy and loss over all samples of all clients' test sets, pooled."""
    biased, conflicting = EMPTY, EMPTY
    for answer in in_order(workers, [MeasureGlobal(client) for client in clients]):
        biased += answer[0]
        conflicting += answer[1]
    return accuracy_cells(biased, conflicting)


def _load_checkpoint(path: Path, comm_round: int) -> Stored:
    content = load_tensors(path)
    rounds, rows = (content.get(name) if isinstance(content, dict) else None for name in ("rounds", "rows"))
    # Names that are one object are one in the file too, however many times a run was continued.
    if (
        isinstance(rounds, int)
        and 1 <= rounds <= comm_round
        and isinstance(rows, list)
        and [row.get("round") if isinstance(row, dict) else None for row in rows] == list(range(rounds))
        and all(row.keys() <= set(ROUND_COLUMNS) for row in rows)
    ):
        named = tuple({sys.intern(name): value for name, value in row.items()} for row in rows)
        return Stored(rounds, content.get("model"), named)
    raise InputError(
        f"{path}: is no checkpoint of this run; expected a number of rounds from 1 to {comm_round}, a row of "
        f"each, and the weights after them; {remedy(path)}"
    )
