"""The audit of a finished run: every personal model that it kept, by whoever works."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console
from torch import nn

from fedml_spurious.audit.client import EXAMPLES, AuditOptions, Example, Finding, judge_model
from fedml_spurious.audit.files import finding_cells, truth_cells
from fedml_spurious.audit.peers import PeerCounts, choose_peers
from fedml_spurious.audit.pooling import pool
from fedml_spurious.audit.stored_models import load_model
from fedml_spurious.audit.subject import Models, Subject, key_of, look_for_models, measured_rows, require_any
from fedml_spurious.audit.summary import Audited, Told, summarize
from fedml_spurious.audit.tasks import AuditClient, ClientFindings, CountAtPeer, FindModels
from fedml_spurious.common.errors import RunError
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.words import counted
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import Workers
from fedml_spurious.learning.state_dicts import State
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import ClientResult

_FEWEST_OF_CLIENT = 3
"""Examples of a client, so that those of several are seen."""
_MOST_BYTES = 128e6
"""Of personal models that are held at a time, for a worker or for peers; those of a client stay together."""
_Found = list[tuple[ClientResult, Finding, float]]
"""Rows with what was found of their models, and the divergence of these under attack."""


@dataclass(frozen=True)
class _Client:
    """A client with one federated seed, and the rows of its personal models."""

    fl_seed: int
    name: str
    rows: tuple[ClientResult, ...]

    @property
    def keys(self) -> tuple[ResultKey, ...]:
        return tuple(key_of(row) for row in self.rows)


def audit_run(subject: Subject, workers: Workers, options: AuditOptions, console: Console) -> Audited:
    """Audit all personal models of a run; no bias-conflicting test set is read.

    Args:
        subject: the run.
        workers: who can read the clients' images, and was given the options too.
        options: what is asked.
        console: where progress goes.

    Raises:
        InputError: the run kept no models, or a file is broken.
    """
    measured = measured_rows(subject)
    models = (
        _ask_silos(subject, workers, measured) if subject.with_silos else look_for_models(subject, measured)
    )
    require_any(subject, models)
    audit = _Audit(subject, workers, options, models)
    title = "Audit, clients and peers" if options.peers else "Audit, clients"
    with stage(console, title, total=audit.steps) as bar:
        audit.run(bar)
    return _gather(subject.finished, audit.found, audit.examples, options, absent=len(measured) - len(models))


def _ask_silos(subject: Subject, workers: Workers, measured: Sequence[ClientResult]) -> Models:
    """Which models the silos have; before anything is computed."""
    asked: dict[str, list[ResultKey]] = {}
    for row in measured:
        asked.setdefault(row.client, []).append(key_of(row))
    stored, kept = subject.stored, set[ResultKey]()
    first = stored.settings.fl_seeds[0]
    workers.use(stored.global_model(first), first, f"fl{first}")
    for task, answer in workers.do([FindModels(client, tuple(keys)) for client, keys in asked.items()]):
        kept |= {key for key, there in zip(task.keys, answer, strict=True) if there}
    return {row: None for row in measured if key_of(row) in kept}


class _Audit:
    """Hands out the work, and puts the answers together.

    Attributes:
        steps: number of tasks.
        found: what was found of every model, once :meth:`run` is done.
        examples: images beside what the probe made of them.
    """

    def __init__(self, subject: Subject, workers: Workers, options: AuditOptions, models: Models) -> None:
        self._stored, self._workers, self._options, self._models = subject.stored, workers, options, models
        rows = sorted(models, key=lambda row: (row.fl_seed, row.client))  # stable: methods keep their order
        self._clients = [
            _Client(*place, tuple(own))
            for place, own in groupby(rows, key=lambda row: (row.fl_seed, row.client))
        ]
        self._peers = {client: self._choose_peers(client) for client in self._clients}
        self.steps = len(self._clients) + sum(map(len, self._peers.values()))
        # Images of silos stay where they are.
        self._wanted = (
            0 if subject.of_silos else max(_FEWEST_OF_CLIENT, math.ceil(EXAMPLES / len(self._clients)))
        )
        self.found: _Found = []
        self.examples: list[Example] = []

    def _choose_peers(self, client: _Client) -> tuple[str, ...]:
        meta = self._stored.splits_of(client.fl_seed).meta
        return choose_peers(meta, client.name) if self._options.peers else ()

    def run(self, bar: Stage) -> None:
        """Audit all clients, a federated seed after the other."""
        for fl_seed, clients in groupby(self._clients, key=lambda client: client.fl_seed):
            model = self._stored.global_model(fl_seed)
            self._workers.use(model, fl_seed, f"fl{fl_seed}")
            for piece in _pieces(list(clients), model):
                self._audit(piece, model, bar)

    def _audit(self, clients: Sequence[_Client], model: nn.Module, bar: Stage) -> None:
        """Audit some clients of a federated seed; their models are held meanwhile, and let go then."""
        wanted = self._wanted if len(self.examples) < EXAMPLES else 0
        tasks = [
            AuditClient(
                client.name, client.keys, client.rows[0].eps or 0.0, wanted, self._states(client, model)
            )
            for client in clients
        ]
        answers: dict[str, ClientFindings] = {}
        for task, answer in self._workers.do(tasks):
            answers[task.client] = answer
            bar.advance(f"fl{clients[0].fl_seed} client {task.client}")
        sent = {task.client: task.states or answers[task.client].states for task in tasks}
        for client in clients:
            if self._peers[client] and len(sent[client.name]) != len(client.rows):
                raise RunError(
                    f"the silo of client {client.name} shows its peers {len(sent[client.name])} of "
                    f"{counted(len(client.rows), 'model')}; see to it that it is started from the same "
                    "program, then continue with --resume"
                )
        counts = self._ask_peers(clients, answers, sent, bar)
        for client in clients:
            answer, told = answers[client.name], [counts[client.name, peer] for peer in self._peers[client]]
            self.examples = [*self.examples, *answer.examples][:EXAMPLES]
            for place, (row, found) in enumerate(zip(client.rows, answer.models, strict=True)):
                said = [one[place] for one in told] if self._options.peers else None
                self.found.append((row, judge_model(found.reliance, said, self._options), found.kl))

    def _states(self, client: _Client, model: nn.Module) -> tuple[State, ...]:
        """The client's models where they are here; none where its silo has them."""
        paths = [self._models[row] for row in client.rows]
        return tuple(load_model(path, model) for path in paths if path is not None)

    def _ask_peers(
        self,
        clients: Sequence[_Client],
        answers: Mapping[str, ClientFindings],
        states: Mapping[str, tuple[State, ...]],
        bar: Stage,
    ) -> dict[tuple[str, str], tuple[PeerCounts, ...]]:
        """What the peers of clients count, by client and peer."""
        tasks = [
            CountAtPeer(peer, client.name, self._classes(client), states[client.name], answer.reference)
            for client in clients
            for answer in [answers[client.name]]
            for peer in self._peers[client]
        ]
        counts: dict[tuple[str, str], tuple[PeerCounts, ...]] = {}
        for task, answer in self._workers.do(sorted(tasks, key=lambda task: task.client)):
            counts[task.asker, task.client] = answer
            bar.advance(f"fl{clients[0].fl_seed} client {task.asker}, peer {task.client}")
        return counts

    def _classes(self, client: _Client) -> tuple[int, ...]:
        return tuple(self._stored.splits_of(client.fl_seed).meta.clients[client.name].classes)


def _pieces(clients: Sequence[_Client], model: nn.Module) -> Iterator[list[_Client]]:
    """Clients whose personal models are held at the same time."""
    size = sum(value.nbytes for value in model.state_dict().values())
    piece: list[_Client] = []
    for client in clients:
        piece.append(client)
        if size * sum(len(one.rows) for one in piece) >= _MOST_BYTES:
            yield piece
            piece = []
    if piece:
        yield piece


def _gather(
    finished: FinishedRun, found: _Found, examples: Sequence[Example], options: AuditOptions, *, absent: int
) -> Audited:
    references = {(row.fl_seed, row.client): row for row in finished.results if row.method == GLOBAL}
    order = {row: place for place, row in enumerate(finished.results)}
    rows, told = [], dict[str, list[tuple[ClientResult, Told]]]()
    for row, finding, kl in sorted(found, key=lambda one: order[one[0]]):
        reference = references.get((row.fl_seed, row.client))
        truth = _rise(row, reference) if options.truth else None
        one = Told(finding, reference.acc_adv if reference else None, row.acc_adv, kl, truth)
        told.setdefault(row.method, []).append((row, one))
        cells = {name: getattr(row, name) for name in ("dataset", "method", "fl_seed", "p_seed", "client")}
        cells |= finding_cells(finding, options)
        cells |= {"acc_adv_global": one.acc_adv_global, "acc_adv_personal": one.acc_adv_personal, "kl": kl}
        if options.truth:
            cells |= truth_cells(finding, truth, options)
        rows.append(cells)
    own_clients = DatasetRuns.of_one(finished).own_clients
    pooled = {
        method: pool(
            {(row.fl_seed, row.p_seed, row.client): one.finding for row, one in ours},
            options,
            own_clients=own_clients,
        )
        for method, ours in told.items()
    }
    by_method: Mapping[str, list[Told]] = {method: [one for _, one in ours] for method, ours in told.items()}
    return Audited(rows, summarize(by_method, pooled, options, absent=absent), list(examples))


def _rise(row: ClientResult, reference: ClientResult | None) -> float | None:
    """By how much the disparity rose over the global model's, on the bias-conflicting test set."""
    if reference is None or reference.disparity is None or row.disparity is None:
        return None
    return row.disparity - reference.disparity
