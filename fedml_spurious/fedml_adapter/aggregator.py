"""FedML's server aggregator, with federated averaging."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from fedml.core import ServerAggregator
from torch import Tensor, nn

from fedml_spurious.fedml_adapter.arguments import read_arguments, require_an_end
from fedml_spurious.fedml_adapter.failures import Failures
from fedml_spurious.fedml_adapter.notes import Notes, separate, with_notes
from fedml_spurious.fedml_adapter.trainer import collect, load_weights
from fedml_spurious.learning.metrics import EMPTY, evaluate
from fedml_spurious.learning.state_dicts import copy_state
from fedml_spurious.learning.weighted_sum import average

logger = logging.getLogger(__name__)


class SpuriousAggregator(ServerAggregator):  # type: ignore[misc]  # FedML has no types
    """Federated averaging (McMahan et al. 2017), weighted by numbers of training samples.

    FedML's MPI simulation averages by itself and only stores the result here; its cross-silo runner and our
    simulator call :meth:`aggregate`.

    Args:
        model: the global model.
        args: FedML's arguments.
    """

    def __init__(self, model: nn.Module, args: Any) -> None:
        super().__init__(model, args)
        self.settings = read_arguments(args)
        require_an_end(args)
        self.failures = Failures(args)

    # FedML's cross-silo runner takes a plain dictionary for one with a model for every client.

    def get_model_params(self) -> OrderedDict[str, Tensor]:
        """The global weights, copied to the CPU."""
        return OrderedDict(copy_state(self.model))

    def set_model_params(self, model_parameters: Mapping[str, Any]) -> None:
        """Load global weights; integer buffers stay integers.

        Raises:
            InputError: they are of another network.
        """
        with self.failures.caught():
            if not self.failures.text:
                load_weights(self.model, model_parameters)

    def aggregate(
        self, raw_client_model_or_grad_list: list[tuple[int, Mapping[str, Any]]]
    ) -> OrderedDict[str, Any]:
        """Average the clients' models; see :func:`fedml_spurious.learning.weighted_sum.average`.

        Returns:
            The global weights; with what went wrong in a process, where something did.
        """
        with self.failures.caught():
            for _, params in raw_client_model_or_grad_list:
                self.failures.hear(separate(params)[1].failure)
            if not self.failures.text:
                return OrderedDict(average(raw_client_model_or_grad_list))
        return with_notes(self.get_model_params(), Notes(failure=self.failures.text))

    def test(
        self, test_data: Iterable[Any] | None, device: torch.device, args: Any
    ) -> tuple[float | None, float | None, None, None]:
        """Accuracy and mean loss of the global model on a loader; FedML's tuple has four places.

        Data lists without test data of all clients together have None there, and so is the answer.
        """
        if test_data is None:
            return None, None, None, None
        with self.failures.caught():
            self.model.to(device)
            result = evaluate(self.model, *collect(test_data, device))
            logger.info("test accuracy %s, loss %s", result.accuracy, result.loss)
            return result.accuracy, result.loss, None, None
        return None, None, None, None

    def test_all(
        self,
        train_data_local_dict: Mapping[int, Iterable[Any]],
        test_data_local_dict: Mapping[int, Iterable[Any]],
        device: torch.device,
        args: Any,
    ) -> bool:
        """Measure the global model on every client's biased test set, every so many rounds.

        Returns:
            True, which tells FedML that nothing is left to measure.
        """
        round_index, every = int(args.round_idx), self.settings.frequency_of_the_test
        if round_index % every == 0 or round_index == self.settings.comm_round - 1:
            with self.failures.caught():
                self.model.to(device)
                total = EMPTY
                for loader in test_data_local_dict.values():
                    batches = list(loader)
                    if batches:
                        total += evaluate(self.model, *collect(batches, device))
                logger.info("round %d: Acc_B %s over all clients", round_index, total.accuracy)
        return True
