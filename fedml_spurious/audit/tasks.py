"""The work of an audit with clients' images, as tasks: what leaves a silo is findings, and models for peers.

The server, or the only process, sends the personal models along where it has them. A silo has those of its
clients itself.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from fedml_spurious.analysis.reliance import Reliance
from fedml_spurious.audit.client import (
    AuditOptions,
    Example,
    Reference,
    divergence,
    load_images,
    log_predictions,
    own_images,
)
from fedml_spurious.audit.peers import PeerCounts, count_at_peer
from fedml_spurious.audit.stored_models import load_model, model_path
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.travelling import travels
from fedml_spurious.common.words import counted
from fedml_spurious.experiment.client import client_model
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.learning.state_dicts import State, copy_state, load_state


@travels
@dataclass(frozen=True)
class FindModels:
    """Ask a silo which personal models of a client it keeps.

    Attributes:
        client: id of the client.
        keys: the models.
    """

    client: str
    keys: tuple[ResultKey, ...]

    def describe(self) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.Task`."""
        return f"search for personal models, client {self.client}"

    def run(self, runner: TaskRunner) -> tuple[bool, ...]:
        """Whether each model is there; none at all is an error, as the run was then made otherwise."""
        found = tuple(_kept_path(runner, self.client, key).is_file() for key in self.keys)
        if not any(found):
            raise InputError(
                f"{_silo(runner).path}: holds no personal model of client {self.client}; give each silo the "
                "folder that it wrote, start as many silos as the run had, and audit a run that kept its "
                "models (personalization_args.save_models=true)"
            )
        return found

    def problem(self, answer: object) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.KnowsAnswer`."""
        return _problem(answer, bool, len(self.keys))


def _problem(answers: object, kind: type, count: int) -> str:
    """What is wrong with answers that are to be one for each personal model."""
    if not isinstance(answers, tuple) or not all(isinstance(one, kind) for one in answers):
        return f"no tuple of {kind.__name__}"
    return "" if len(answers) == count else f"{len(answers)} for {counted(count, 'model')}"


def _silo(runner: TaskRunner) -> RunFolder:
    if runner.silo_store is None:
        raise ValueError("this process is no silo, and keeps no models")
    return runner.silo_store.folder


def _kept_path(runner: TaskRunner, client: str, key: ResultKey) -> Path:
    """Where this silo keeps a model of a client; a message can name no file outside of its folder."""
    folder = _silo(runner)
    path = model_path(folder, key)
    if key.client != client or not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder.path)):
        raise RunError(f"the server asked for {path} as a model of client {client}, which it is not")
    return path


@travels
@dataclass(frozen=True)
class ModelFinding:
    """What a client's images tell of one personal model.

    Attributes:
        reliance: what the probe found; without one, its values of the images as they are.
        kl: mean divergence from the global predictions on adversarial examples, in nats.
    """

    reliance: Reliance
    kl: float


@travels
@dataclass(frozen=True)
class ClientFindings:
    """What a client's images tell of its personal models.

    Attributes:
        models: of each, in the order of the task.
        examples: images beside what the probe made of them; never those of a silo.
        reference: the global model as the client has it, where peers are to see it and it is another than
            the one in use.
        states: the personal models, where peers are to see them and only their silo has them.
    """

    models: tuple[ModelFinding, ...]
    examples: tuple[Example, ...] = ()
    reference: State | None = None
    states: tuple[State, ...] = ()


@travels
@dataclass(frozen=True)
class AuditClient:
    """Audit the personal models of a client on its own images.

    Attributes:
        client: id of the client.
        keys: the models.
        eps: budget of the attack.
        examples: how many images are wanted beside what the probe made of them.
        states: the models; none where the client's silo keeps them.
    """

    client: str
    keys: tuple[ResultKey, ...]
    eps: float
    examples: int = 0
    states: tuple[State, ...] = field(default=(), compare=False, repr=False)

    def describe(self) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.Task`."""
        return f"audit, client {self.client}"

    def run(self, runner: TaskRunner) -> ClientFindings:
        """Compare every model with the global one in use; no bias-conflicting test set is read."""
        options, in_silo = runner.given(AuditOptions), runner.silo_store is not None
        states = tuple(self._kept(runner)) if in_silo else self.states
        with runner.data.sealed():
            train = runner.training_samples(self.client)
            model = client_model(runner.settings, runner.model, train)
            own = load_images(runner.files, self.client, options, runner.device, runner.cache)
            attack = runner.settings.attack_args.attack(self.eps)
            x_adv = attack(model, own.biased.x, own.biased.y)
            reference, log_g = Reference(model, own), log_predictions(model, x_adv)
            found = tuple(
                ModelFinding(reference.compare(personal), divergence(log_g, log_predictions(personal, x_adv)))
                for personal in _loaded(model, states)
            )
        return ClientFindings(
            found,
            # Images of silos stay where they are.
            examples=() if in_silo else tuple(own.examples(self.examples)),
            reference=copy_state(model) if options.peers and model is not runner.model else None,
            states=states if options.peers and in_silo else (),
        )

    def problem(self, answer: object) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.KnowsAnswer`."""
        if not isinstance(answer, ClientFindings):
            return "no ClientFindings"
        shown = _problem(answer.states, dict, len(self.keys)) if answer.states else ""
        return _problem(answer.models, ModelFinding, len(self.keys)) or shown

    def _kept(self, runner: TaskRunner) -> Iterator[State]:
        for key in self.keys:
            yield load_model(_kept_path(runner, self.client, key), runner.model)


@travels
@dataclass(frozen=True)
class CountAtPeer:
    """Let a client count on its own images what another one's models get right; only counts come back.

    Attributes:
        client: id of the client that counts.
        asker: id of the client whose models they are.
        classes: those of the asker, on whose images it counts.
        states: the personal models.
        reference: the asker's global model, where it is not the one in use.
    """

    client: str
    asker: str
    classes: tuple[int, ...]
    states: tuple[State, ...] = field(compare=False, repr=False)
    reference: State | None = field(default=None, compare=False, repr=False)

    def describe(self) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.Task`."""
        return f"counts for the audit of client {self.asker}, client {self.client}"

    def run(self, runner: TaskRunner) -> tuple[PeerCounts, ...]:
        """Count for each model, where this process was asked for peers too."""
        if not runner.given(AuditOptions).peers:
            raise RunError(f"the server asked client {self.client} to count, and this process has no --peers")
        model = runner.model
        if self.reference is not None:
            (model,) = _loaded(model, [self.reference])
        with runner.data.sealed():
            images, _ = own_images(runner.files, self.client, runner.device, runner.cache)
            return count_at_peer(model, _loaded(runner.model, self.states), images, self.classes)

    def problem(self, answer: object) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.KnowsAnswer`."""
        return _problem(answer, PeerCounts, len(self.states))


def _loaded(like: nn.Module, states: Iterable[State]) -> Iterator[nn.Module]:
    """One network with the weights of each in turn; the last one's stay when all were used."""
    model = copy.deepcopy(like)
    for state in states:
        load_state(model, state)
        yield model
