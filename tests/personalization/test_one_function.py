"""Both terms of the objective speak of one function: measured on the real 8x8 digits.

Under batch statistics a network has two functions, one in eval mode and one in training mode. Training must
not pull them apart, because it sees one and the measurements see the other.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_partition.colored_mnist import Options, build
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import TrainingData, load_training_data
from fedml_spurious.learning.losses import adversarial_disagreement
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import build_model
from fedml_spurious.learning.modes import batchnorm_in_eval_mode
from fedml_spurious.learning.training import LocalTraining, train_locally
from fedml_spurious.personalization.adversarial_transfer import AdversarialTransfer
from fedml_spurious.personalization.base import AdversarialReference, Batch, ClientView, Personalizer

CPU = torch.device("cpu")
OPTIONS = AdversarialTransfer.settings_type(lam_adv=1.0, lam_l2=0.0)


class TwoFunctions(AdversarialTransfer):
    """The planted bug: cross-entropy under batch statistics, the adversarial term under running ones."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        loss = F.cross_entropy(model(batch.x), batch.y)
        with batchnorm_in_eval_mode(model):
            return loss + self.settings.lam_adv * adversarial_disagreement(model(batch.x_adv), batch.z_g)


Digits = tuple[nn.Module, list[TrainingData]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """A global model that two passes over all clients' images made, and two of the clients."""
    folder = tmp_path_factory.mktemp("digits")
    options = Options(
        source="digits", clients=10, classes_per_client=5, bias_conflicting_fraction=0.0, seed=11
    )
    build(options, raw=None, out=folder)
    data = SplitFolder(folder)
    clients = [load_training_data(data, client, CPU) for client in data.client_ids]
    x, y = (torch.cat([getattr(client.train, name) for client in clients]) for name in ("x", "y"))
    model = build_model("cnn_28x28", num_classes=10, image_shape=(28, 28, 3), fc_width=64, seed=0)
    for _ in train_locally(
        model,
        LocalTraining(epochs=2, batch_size=16, learning_rate=5e-4),
        sequence=lambda epoch: np.random.default_rng(epoch).permutation(len(x)),
        loss=lambda net, rows: F.cross_entropy(net(x[rows]), y[rows]),
        noise=int,
        device=CPU,
    ):
        pass
    assert (evaluate(model, x, y).accuracy or 0.0) > 0.9
    return model, clients[1:3]


def gap(method: Personalizer[Any], model: nn.Module, client: TrainingData, number: int) -> float:
    """Difference of a personal model's accuracies in eval mode and under batch statistics, at the end."""
    reference = AdversarialReference(model, client.train, client.val, Attack("linf", 0.031))
    training = LocalTraining(epochs=5, batch_size=10, learning_rate=1e-3, batchnorm_mode="batch")
    view = ClientView(
        number, 0, 0, client.train, client.aligned, client.val, reference, model, training, lambda: model
    )
    last: list[nn.Module] = []
    method.personalize(view, lambda trained, *_: last.append(trained))
    trained = copy.deepcopy(last[-1])
    in_eval_mode = evaluate(trained, client.train.x, client.train.y).accuracy or 0.0
    right = trained.train()(client.train.x).argmax(dim=1) == client.train.y
    return abs(in_eval_mode - float(right.double().mean()))


def test_under_batch_statistics_both_functions_agree_and_the_mixture_of_them_does_not(digits: Digits) -> None:
    model, clients = digits
    ours, planted = (
        [gap(method(OPTIONS), model, client, number) for number, client in enumerate(clients, start=1)]
        for method in (AdversarialTransfer, TwoFunctions)
    )
    assert max(ours) <= 0.03
    assert max(planted) > 0.1
