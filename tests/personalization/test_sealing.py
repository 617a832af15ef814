"""No method reads the bias-conflicting test set: it could not, and it need not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from client_views import make

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import SealedError
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.client import ClientStep
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.client_data import load_training_data
from fedml_spurious.learning.models import build_model
from fedml_spurious.learning.training import LocalTraining
from fedml_spurious.personalization import METHODS
from fedml_spurious.personalization.base import AdversarialReference, ClientView

ALL = sorted(METHODS)
HOOKS = ("prepare", "sequence", "loss", "score")


def network() -> torch.nn.Module:
    return build_model("small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)


@pytest.mark.parametrize("name", ALL)
def test_reading_it_raises_wherever_a_method_computes(
    name: str, conflicting_splits: Path, monkeypatch: pytest.MonkeyPatch, tiny: dict[str, Any]
) -> None:
    """Every hook of the method tries to read it while the personalization step runs."""
    data = SplitFolder(conflicting_splits)
    tried: list[str] = []

    def spying_on(hook: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*args: Any) -> Any:
            with pytest.raises(SealedError, match="client 0001: the bias-conflicting test set"):
                data.load("0001", "test_bc")
            tried.append(hook)
            return original(*args)

        return spy

    for hook in HOOKS:
        monkeypatch.setattr(METHODS[name], hook, spying_on(hook, getattr(METHODS[name], hook)))
    tiny["experiment_args"] = {"methods": [name]}
    settings = check_settings(tiny, source="a test")
    step = ClientStep(settings, data, network(), "0001", eps=0.03, fl_seed=0)
    result = step.run(ResultKey(name, 0, 0, "0001", settings.options(name))).result
    assert set(tried) == set(HOOKS)
    assert result.acc_bc is not None  # and afterwards the measurement has it


@pytest.mark.parametrize("name", ALL)
def test_a_method_works_where_the_test_sets_do_not_exist(
    name: str, conflicting_splits: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(conflicting_splits, tmp_path / "splits"))
    data = SplitFolder(folder)
    for path in (*folder.glob("*_test.h5"), *folder.glob("*_test_bc.h5")):
        path.unlink()
    with data.sealed():
        found = load_training_data(data, "0001", torch.device("cpu"))
        model = network()
        adversarial = AdversarialReference(model, found.train, found.val, Attack("linf", 0.03))
        training = LocalTraining(epochs=1, batch_size=16)
        view = ClientView(
            1, 0, 0, found.train, found.aligned, found.val, adversarial, model, training, network
        )
        assert make(name).personalize(view).selected_epoch == 1
