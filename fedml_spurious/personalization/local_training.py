"""Training on the client's data alone: what a client has without the federation."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from fedml_spurious.personalization.base import (
    ClientView,
    Observer,
    Personalized,
    Personalizer,
    fine_tune,
)
from fedml_spurious.personalization.options import LocalSettings


class LocalOnly(Personalizer[LocalSettings]):
    """Cross-entropy from the initial weights, without the global model; not a method of the paper.

    The weights are those from which the federated training of the same seed began. Nothing of the finished
    global model enters the personal one or its selection; only ``acc_adv`` still speaks of it, because the
    adversarial examples are made from the global model.

    It trains under batch statistics whatever ``batchnorm_mode`` is: an untrained network has no running
    statistics worth keeping, only the mean 0 and variance 1 of its making, and there is no global model here
    whose function could be kept.
    """

    name = "local"
    settings_type = LocalSettings

    def start(self, view: ClientView) -> nn.Module:
        """The network as the federated training began with it."""
        return view.initial()

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        """Train with the method's own number of epochs, under batch statistics."""
        epochs = self.settings.epochs or view.training.epochs
        training = replace(view.training, epochs=epochs, batchnorm_mode="batch")
        return fine_tune(self, replace(view, training=training), observe)
