"""What a personalization method is, and the one fine-tuning loop that serves all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.metrics import EVALUATION_BATCH, Evaluation, evaluate
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import State, clone_state, copy_model
from fedml_spurious.learning.training import LocalTraining, Step, train_locally
from fedml_spurious.personalization.options import MethodSettings as MethodSettings
from fedml_spurious.personalization.options import SelectionTies, TuningRule
from fedml_spurious.personalization.returned import (
    checked_loss,
    checked_model,
    checked_rows,
    checked_score,
)

Observer = Callable[[nn.Module, int, int], None]
RowOrder = Callable[[np.random.Generator], IndexArray]
SettingsT = TypeVar("SettingsT", bound=MethodSettings)


class AdversarialReference:
    """Adversarial examples of one client against the frozen global model (section 6.1).

    Each part is made when it is first read, once, so that nobody waits for what no method reads. Nothing is
    drawn for it: when it is made changes no result.

    Args:
        model: the global model; left as it was. It must not change while parts are still to be made.
        train: training samples.
        val: validation samples.
        attack: the attack with its budget.
    """

    def __init__(self, model: nn.Module, train: Labelled, val: Labelled, attack: Attack) -> None:
        self._model, self._train, self._val, self._attack = model, train, val, attack

    @cached_property
    def train_x(self) -> Tensor:
        """Of the training samples, shape (N, 3, H, W)."""
        return self._attack(self._model, self._train.x, self._train.y)

    @cached_property
    def train_z(self) -> Tensor:
        """Probabilities ``z_g`` that the global model gives to ``train_x``, shape (N, K)."""
        with frozen(self._model), torch.no_grad():
            parts = torch.split(self.train_x, EVALUATION_BATCH)
            return torch.cat([self._model(part).softmax(dim=1) for part in parts])

    @cached_property
    def val(self) -> Labelled:
        """Of the validation samples, with the true labels."""
        return Labelled(self._attack(self._model, self._val.x, self._val.y), self._val.y)

    @cached_property
    def global_val_accuracy(self) -> float | None:
        """Acc_Adv of the global model on ``val``; None where ``val`` is empty."""
        return evaluate(self._model, self.val.x, self.val.y).accuracy


@dataclass(frozen=True)
class ClientView:
    """Everything that a method may see of one client. No test set is among it.

    Attributes:
        client: index of the client, from 0.
        fl_seed: seed of the global model.
        p_seed: seed of the personalization step.
        train: training samples.
        aligned: whether a training sample is bias-aligned, shape (N,), bool. Only methods that are defined
            with group labels may read it.
        val: validation samples.
        adversarial: adversarial examples of both.
        global_model: the model ``f_g``; methods leave it as it is.
        training: epochs, batch size, optimiser and mode of BatchNorm layers in the fine-tuning.
        initial: builds the network with the weights from which the federated training of ``fl_seed`` began,
            on the device of the samples.
        selection_ties: which epoch is selected among those whose scores are equal.
    """

    client: int
    fl_seed: int
    p_seed: int
    train: Labelled
    aligned: Tensor
    val: Labelled
    adversarial: AdversarialReference
    global_model: nn.Module
    training: LocalTraining
    initial: Callable[[], nn.Module]
    selection_ties: SelectionTies = "latest"


@dataclass(frozen=True)
class Batch:
    """A training batch with what the losses need.

    Attributes:
        x: images (B, 3, H, W).
        y: classes (B,).
        w_g: weights of the global model, in the order of the personal model's parameters.
        aligned: whether a sample is bias-aligned, shape (B,), bool; see :class:`ClientView`.
        f_g: the global model; losses leave it as it is.
        rows: places of the samples in the client's training split, shape (B,).
        adversarial: adversarial examples of that split.
    """

    x: Tensor
    y: Tensor
    w_g: tuple[Tensor, ...]
    aligned: Tensor
    f_g: nn.Module
    rows: Tensor
    adversarial: AdversarialReference

    @property
    def x_adv(self) -> Tensor:
        """Adversarial examples of ``x`` against the global model, made when a loss first reads them."""
        return self.adversarial.train_x[self.rows]

    @property
    def z_g(self) -> Tensor:
        """Probabilities of the global model on ``x_adv``, shape (B, K)."""
        return self.adversarial.train_z[self.rows]


class Candidate:
    """How a model after an epoch does on the validation split; measured when a score reads it.

    Args:
        model: the model, which trains on after the score.
        val: validation samples.
        adversarial: adversarial examples of the client.
    """

    def __init__(self, model: nn.Module, val: Labelled, adversarial: AdversarialReference) -> None:
        self._model, self._val, self._adversarial = model, val, adversarial

    @cached_property
    def val(self) -> Evaluation:
        """On the validation samples."""
        return evaluate(self._model, self._val.x, self._val.y)

    @cached_property
    def val_adv(self) -> Evaluation:
        """On their adversarial examples."""
        return evaluate(self._model, self._adversarial.val.x, self._adversarial.val.y)

    @property
    def global_val_adv_accuracy(self) -> float | None:
        """Acc_Adv of the global model on the same examples."""
        return self._adversarial.global_val_accuracy


@dataclass(frozen=True)
class Personalized:
    """A personal model.

    Attributes:
        state: state dictionary of the selected model.
        selected_epoch: epoch after which it was taken, from 1.
        val_acc: its validation accuracy; None where there are no validation samples.
        last: the model after the last epoch, which is reported beside the selected one; None where the
            selected one is it. A method that knows no other model leaves it out.
        details: finite numbers that tell how the method got there, by name; they are kept per client in
            ``details.json`` and decide nothing.
    """

    state: State
    selected_epoch: int
    val_acc: float | None
    last: Personalized | None = None
    details: Mapping[str, float | None] = field(default_factory=dict)


class Personalizer(Generic[SettingsT]):
    """A personalization method; this base class is plain fine-tuning.

    A subclass changes the start, the loss, the sequence of samples, the weights that train, the stages or
    the score of the model selection.

    Attributes:
        name: name in configurations, folders and tables.
        settings_type: pydantic model of the method's options.
        tuning_rule: how a coefficient is chosen from a grid (appendix C.2): the largest that does not lower
            the validation accuracy, for terms that are wanted as strong as they may be, or the most accurate.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[MethodSettings]] = MethodSettings
    tuning_rule: ClassVar[TuningRule] = "most_accurate"

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    def not_applicable(self, view: ClientView) -> str:
        """Why the method is not defined for this client; empty where it is."""
        return ""

    def check_network(self, model: nn.Module, images: Tensor) -> None:
        """Refuse a network to which the method cannot be applied; called before anything is trained.

        Args:
            model: the network with initial weights; to be left as it is.
            images: two made-up images, shape (2, C, H, W), values in [0, 1].

        Raises:
            InputError: the method cannot work with this network.
        """

    def start(self, view: ClientView) -> nn.Module:
        """The model that is trained, a new one in every call: here a copy of the global model."""
        return copy_model(view.global_model)

    def prepare(self, model: nn.Module) -> None:
        """Freeze weights of the model that is trained; none here."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Objective of a batch: the cross-entropy ``CE(f_p(x), y)``."""
        return F.cross_entropy(model(batch.x), batch.y)

    def sequence(self, view: ClientView, rng: np.random.Generator) -> IndexArray:
        """Rows of the training split in the order of one epoch: every sample once, shuffled."""
        return rng.permutation(len(view.train))

    def score(self, candidate: Candidate) -> float:
        """What the selected epoch maximises: validation accuracy (section 7.3)."""
        return candidate.val.accuracy or 0.0

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        """Personalize the global model for one client.

        Args:
            view: the client.
            observe: called with the model, the epoch and the number of batches done, before the first
                batch and after every batch; returns nothing to the method.

        Returns:
            The selected model, and the last one with it.
        """
        return fine_tune(self, view, observe)


def fine_tune(
    method: Personalizer[SettingsT],
    view: ClientView,
    observe: Observer | None = None,
    *,
    stage: int = 0,
    sequence: RowOrder | None = None,
) -> Personalized:
    """Train from the method's start; keep the epoch with the best score, and the last one.

    Args:
        method: gives the start, the loss, the sequence of samples and the score.
        view: the client.
        observe: see :meth:`Personalizer.personalize`.
        stage: number of the stage, for methods that fine-tune more than once.
        sequence: rows of an epoch, given its generator, where they are not ``method.sequence``.

    Returns:
        The selected model, and the last one with it; of equal scores see :class:`ClientView`.

    Raises:
        ValueError: the method is not defined for this client.
        MethodError: a function of the method returned something else than it is to return.
        DivergedError: a loss, a weight or an output is not finite.
    """
    model = checked_model(method, method.start(view))
    best: Personalized | None = None
    best_score = -np.inf
    ties = view.selection_ties
    if observe is not None:
        observe(model, 0, 0)
    for step in _training_steps(method, model, view, stage, sequence):
        if observe is not None:
            observe(model, step.epoch, step.batch)
        if not step.epoch_ends:
            continue
        candidate = Candidate(model, view.val, view.adversarial)
        score = checked_score(method, method.score(candidate))
        is_best = score > best_score or (score == best_score and ties == "latest")
        if is_best or step.epoch == view.training.epochs:  # the weights are large, and copying them costs
            last = Personalized(clone_state(model), step.epoch, candidate.val.accuracy)
        if is_best:
            best, best_score = last, score
    if best is None:
        raise ValueError(f"client {view.client}: epochs is {view.training.epochs}, nothing was fine-tuned")
    return best if best is last else replace(best, last=last)


def fine_tune_stage(
    method: Personalizer[SettingsT], view: ClientView, *, stage: int, epochs: int
) -> nn.Module:
    """Train from the method's start for a number of epochs and take the model as it is, without selection.

    Args:
        method: gives the start, the loss and the sequence of samples.
        view: the client.
        stage: number of the stage, which addresses its draws; 0 is the stage of the personal model.
        epochs: passes over the sequence; 0 takes the start as it is.

    Returns:
        The model after the last epoch.

    Raises:
        ValueError: the method is not defined for this client.
    """
    model = checked_model(method, method.start(view))
    shortened = replace(view, training=replace(view.training, epochs=epochs))
    for _ in _training_steps(method, model, shortened, stage, None):
        pass
    return model


def _training_steps(
    method: Personalizer[SettingsT], model: nn.Module, view: ClientView, stage: int, sequence: RowOrder | None
) -> Iterator[Step]:
    """Train ``model`` in place by a method's loss and sequence, and yield after every batch."""
    reason = method.not_applicable(view)
    if reason:
        raise ValueError(f"client {view.client}: {method.name} is not applicable: {reason}")
    rows_of = sequence or partial(method.sequence, view)
    w_g = tuple(parameter.detach() for parameter in view.global_model.parameters())

    def rows(epoch: int) -> IndexArray:
        address = (view.fl_seed, view.client, stage, epoch)
        found = rows_of(generator(view.p_seed, Purpose.PERSONAL_BATCHES, *address))
        return checked_rows(method, found, len(view.train))

    def noise(batch: int) -> int:
        address = (view.fl_seed, view.client, stage, batch)
        return integer_seed(view.p_seed, Purpose.PERSONAL_NOISE, *address)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        batch = Batch(
            view.train.x[rows],
            view.train.y[rows],
            w_g,
            view.aligned[rows],
            view.global_model,
            rows,
            view.adversarial,
        )
        return checked_loss(method, method.loss(model, batch))

    method.prepare(model)
    device = view.train.y.device
    yield from train_locally(model, view.training, sequence=rows, loss=loss, noise=noise, device=device)
