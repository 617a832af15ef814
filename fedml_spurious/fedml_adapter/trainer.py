"""FedML's client trainer, with the paper's local update."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from fedml.core import ClientTrainer
from torch import Tensor, nn

from fedml_spurious.common.blame import users_code
from fedml_spurious.common.errors import DivergedError, InputError
from fedml_spurious.fedml_adapter.arguments import read_arguments, require_an_end
from fedml_spurious.fedml_adapter.dataset import SplitLoader
from fedml_spurious.fedml_adapter.failures import Failures
from fedml_spurious.fedml_adapter.notes import Notes, separate, with_notes
from fedml_spurious.fedml_adapter.sample_order import in_dataset_order
from fedml_spurious.learning.local_update import update_locally
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.state_dicts import copy_state, load_state, state_mismatch

logger = logging.getLogger(__name__)


def collect(loader: Iterable[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Gather a loader's batches ``(x, y)`` as two tensors on ``device``.

    The trainer shuffles by itself, with addressed seeds; a loader's own shuffling is left out.

    Args:
        loader: yields at least one batch of images (B, 3, H, W) and labels (B,).
        device: where the tensors go.

    Returns:
        Images (N, 3, H, W) and labels (N,).

    Raises:
        InputError: there is no sample, or the samples have no order that stays.
    """
    if isinstance(loader, SplitLoader):
        return loader.split.read_all(device)  # as bytes, and only where they are not there yet
    batches = list(in_dataset_order(loader, "a client's loader"))
    if not batches:
        raise InputError("a client's loader has no sample; leave the client out, or give it other data")
    images, labels = zip(*batches, strict=True)
    return torch.cat(images).to(device), torch.cat(labels).to(device)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load global weights.

    Raises:
        InputError: they are of another network; the text names the tensors.
    """
    mismatch = state_mismatch(model, weights)
    if mismatch:
        raise InputError(
            f"the global weights do not fit the model: {mismatch}. Build the same model in all processes "
            "(args.model, args.fc_width, number of classes)"
        )
    load_state(model, weights)


class SpuriousTrainer(ClientTrainer):  # type: ignore[misc]  # FedML has no types
    """Trains the global model on one client's data (appendix C.2): Adam, fresh per client and round.

    Works wherever FedML takes a ``ClientTrainer``. The order of the samples depends on ``random_seed``,
    the round and the client alone. The client is the loader's ``client_index`` where it has one, else the
    id that FedML sets.

    Args:
        model: the network.
        args: FedML's arguments.
    """

    def __init__(self, model: nn.Module, args: Any) -> None:
        super().__init__(model, args)
        self.settings = read_arguments(args)
        require_an_end(args)
        self.failures = Failures(args)
        self.last_loss: float | None = None
        self._given: Mapping[str, Any] = {}

    def get_model_params(self) -> OrderedDict[str, Any]:
        """The weights, copied to the CPU: later training does not change them."""
        if self.failures.text:
            return with_notes(self._given, Notes(failure=self.failures.text))
        return OrderedDict(copy_state(self.model))

    def set_model_params(self, model_parameters: Mapping[str, Any]) -> None:
        """Load weights; integer buffers arrive as floats from FedML's aggregation and become integers.

        Raises:
            InputError: they are of another network.
        """
        with self.failures.caught():
            weights, notes = separate(model_parameters)
            if self.failures.travel:
                self._given = weights
            self.failures.hear(notes.failure)
            if not self.failures.text:
                load_weights(self.model, weights)

    def train(self, train_data: Iterable[Any], device: torch.device, args: Any) -> None:
        """Train on one client's data in place.

        Args:
            train_data: the client's loader.
            device: where to train.
            args: FedML's arguments; only ``round_idx`` is read, the rest was read at construction.

        Raises:
            InputError: the loader has no samples.
            DivergedError: a loss or a weight is not finite; the message says what to lower.
            RunError: the network is of the user's own, and fails; the message says where.
        """
        with self.failures.caught():
            if not self.failures.text:
                self._train(train_data, device, args)

    def _train(self, train_data: Iterable[Any], device: torch.device, args: Any) -> None:
        settings = self.settings
        client = client_of(train_data, self.id)
        round_index = int(args.round_idx)
        x, y = collect(train_data, device)
        self.model.to(device)
        steps = update_locally(
            self.model, x, y, settings.local_training(),
            seed=settings.random_seed, round_index=round_index, client=client,
        )  # fmt: skip
        doing = f"training of the global model, seed {settings.random_seed}, round {round_index}"
        try:
            with users_code(f"{doing}, client {_name_of(train_data, client)}"):
                losses = torch.stack([step.loss for step in steps])
        except DivergedError as error:
            raise DivergedError(
                f"seed {settings.random_seed}, round {round_index}, client {_name_of(train_data, client)}: "
                f"{error}: the federated training diverged. Lower train_args.learning_rate (is "
                f"{settings.learning_rate:g}), and give another --output"
            ) from None
        self.last_loss = float(losses.mean())
        logger.info("round %d client %d: training loss %.4f", round_index, client, self.last_loss)

    def test(self, test_data: Iterable[Any], device: torch.device, args: Any) -> dict[str, float]:
        """Counts of the model on a loader, under FedML's names; ``test_loss`` is a sum."""
        self.model.to(device)
        result = evaluate(self.model, *collect(test_data, device))
        return {"test_correct": result.correct, "test_total": result.count, "test_loss": result.loss_sum}


def _name_of(loader: Any, client: int) -> str:
    """The client's id where its loader knows one, else its index."""
    return str(loader.split.clients[0]) if isinstance(loader, SplitLoader) else str(client)


def client_of(loader: Any, fallback: int) -> int:
    """Index of the client that a loader is of; ``fallback`` where it does not say."""
    return int(loader.client_index) if hasattr(loader, "client_index") else fallback
