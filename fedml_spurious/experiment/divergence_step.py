"""Records how far the clients' gradients diverge while the global model trains (figure 1b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from torch import nn

from fedml_spurious.analysis.divergence import Directions, cosines, pseudo_gradient, weight_gradient
from fedml_spurious.analysis.twins import is_palette, recolored
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.storage import read_csv, tidy_csv, write_csv
from fedml_spurious.common.travelling import travels
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import TaskRunner, in_order
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.fedavg import Round, sample_clients

DIVERGENCE = "divergence"
COLUMNS = ("fl_seed", "round", "layer", "kind", "overlap", "pairs", "cosine")


@travels
@dataclass(frozen=True)
class ClientDirections:
    """Where a client pulls the global model in use. Vectors of the size of the model leave the client.

    Attributes:
        client: id of the client.
        fl_seed: seed of the federated step.
        round_index: round whose local update is made.
    """

    client: str
    fl_seed: int
    round_index: int

    def describe(self) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.Task`."""
        return f"recording of the divergence, client {self.client}, round {self.round_index}"

    def run(self, runner: TaskRunner) -> Directions:
        """The pseudo-gradient over all training samples, the gradients over the first of them."""
        settings, data = runner.settings, runner.files
        with data.sealed():
            samples = data.load(self.client, "train")
        x, y = to_tensors(samples.image, samples.label, runner.device)
        place = data.client_ids.index(self.client)
        training = settings.train_args.local_training()
        pseudo = pseudo_gradient(
            runner.model, x, y, training, seed=self.fl_seed, round_index=self.round_index, client=place
        )
        limit = settings.analysis_args.samples or len(y)
        gradient = weight_gradient(runner.model, x[:limit], y[:limit])
        palette, shape = data.meta.spurious_names, None
        if is_palette(palette):
            rng = generator(self.fl_seed, Purpose.RECOLORING, self.round_index, place)
            drawn = recolored(samples, rng.integers(len(palette), size=len(samples)), palette)
            other, _ = to_tensors(drawn[:limit], samples.label[:limit], runner.device)
            shape = weight_gradient(runner.model, other, y[:limit])
        return Directions(pseudo, gradient, shape)


def is_recorded(settings: Settings, round_index: int) -> bool:
    """Whether the divergence at the weights after a round is recorded."""
    analysis, last = settings.analysis_args, settings.train_args.comm_round - 1
    wanted = round_index % analysis.divergence_interval == 0 or round_index == last
    return DIVERGENCE in analysis.record and wanted


def recording_of(settings: Settings) -> tuple[int, int | None] | None:
    """What tells one recording of the divergence from another of the same model; None: none is made."""
    analysis = settings.analysis_args
    return (analysis.divergence_interval, analysis.samples) if DIVERGENCE in analysis.record else None


def record_divergence(run: RunContext, fl_seed: int, finished: Round) -> None:
    """Compare the clients that the next round draws, at the weights after this one."""
    path = _part(run.folder, fl_seed, finished.index)
    if not is_recorded(run.settings, finished.index) or path.exists():
        return
    data, train = run.data[fl_seed], run.settings.train_args
    drawn = sample_clients(
        fl_seed, finished.index + 1, total=len(data.client_ids), per_round=train.client_num_per_round
    )
    ids = [data.client_ids[place] for place in drawn]
    run.workers.use(finished.model, fl_seed, f"fl{fl_seed} round {finished.index}")
    tasks = [ClientDirections(client, fl_seed, finished.index + 1) for client in ids]
    directions: list[Directions] = in_order(run.workers, tasks)
    classes = [frozenset(data.meta.clients[client].classes) for client in ids]
    about = {"fl_seed": fl_seed, "round": finished.index}
    write_csv(path, COLUMNS, [about | row for row in compare(directions, classes)])


def compare(directions: Sequence[Directions], classes: Sequence[frozenset[int]]) -> list[dict[str, Any]]:
    """Mean cosines of pairs of clients, by layer, kind of vector and number of classes that a pair shares.

    Args:
        directions: of every client.
        classes: that every client holds.

    Returns:
        Rows with the columns ``layer``, ``kind``, ``overlap``, ``pairs`` and ``cosine``; pairs without a
        cosine, as one of their vectors is zero, are left out.
    """
    pairs: dict[int, list[tuple[int, int]]] = {}
    for one, other in combinations(range(len(directions)), 2):
        pairs.setdefault(len(classes[one] & classes[other]), []).append((one, other))
    rows = []
    parts = [found.parts() for found in directions]
    for kind in parts[0]:
        for layer, found in cosines([part[kind] for part in parts]).items():
            for overlap in sorted(pairs):
                values = [float(found[pair]) for pair in pairs[overlap]]
                known = [value for value in values if not np.isnan(value)]
                if known:
                    row = {"layer": layer, "kind": kind, "overlap": overlap, "pairs": len(known)}
                    rows.append(row | {"cosine": fmean(known)})
    return rows


def _part(folder: RunFolder, fl_seed: int, round_index: int) -> Path:
    return folder.global_part(fl_seed) / DIVERGENCE / f"round{round_index:05d}.csv"


def check_divergence(settings: Settings, folder: RunFolder, fl_seed: int, finished_rounds: int) -> None:
    """Make sure that what is asked for was recorded in the rounds that are finished.

    Raises:
        InputError: a round is finished and was not recorded.
    """
    for index in range(finished_rounds):
        if is_recorded(settings, index) and not _part(folder, fl_seed, index).exists():
            raise InputError(
                f"{folder.global_part(fl_seed)}: round {index} is finished, and its divergence was not "
                "recorded, which can be done only while the global model trains; leave divergence out of "
                "analysis_args.record, or give another --output"
            )


def join_divergence(run: RunContext, models: Mapping[int, nn.Module]) -> None:
    """Put all rounds of all federated seeds together as ``divergence.csv``, where they are recorded."""
    if DIVERGENCE not in run.settings.analysis_args.record:
        return
    rounds = range(run.settings.train_args.comm_round)
    rows = [
        row
        for fl_seed in models
        for index in rounds
        if is_recorded(run.settings, index)
        for row in read_csv(_part(run.folder, fl_seed, index))
    ]
    tidy_csv(run.folder.path / f"{DIVERGENCE}.csv", COLUMNS, rows)
