"""What a client's step computes, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.client import ClientStep
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import CountFooled, TaskRunner
from fedml_spurious.learning.attacks import Attack, SuccessCount
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import build_model
from fedml_spurious.learning.state_dicts import copy_state, load_state
from fedml_spurious.personalization.base import ClientView, MethodSettings, Observer, Personalized
from fedml_spurious.personalization.fine_tuning import FineTuning
from fedml_spurious.results.rows import ClientResult, append_result


def step_of(config: dict[str, Any], data: SplitFolder) -> ClientStep:
    model = build_model("small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
    return ClientStep(check_settings(config, source="a test"), data, model, "0001", eps=0.03, fl_seed=0)


@pytest.mark.parametrize(
    ("methods", "splits_attacked"),
    [(["global", "ft"], ["test"]), (["adv"], ["train", "test"]), (["ours", "adv"], ["train", "val", "test"])],
)
def test_images_are_attacked_only_where_something_reads_it(
    methods: list[str],
    splits_attacked: list[str],
    federation: SplitFolder,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The three splits have different sizes, by which they are known."""
    attacked: list[int] = []
    original = Attack.__call__

    def count(self: Attack, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        attacked.append(len(x))
        return original(self, model, x, y)

    monkeypatch.setattr(Attack, "__call__", count)
    tiny["experiment_args"] = {"methods": methods}
    step = step_of(tiny, federation)
    for method in methods:
        p_seed = None if method == "global" else 0
        step.run(ResultKey(method, 0, p_seed, "0001", step.settings.options(method)))
    assert attacked == [federation.count("0001", split) for split in splits_attacked]


class Told(FineTuning):
    """Fine-tuning that tells what it is made to tell."""

    def __init__(self, found: Personalized) -> None:
        super().__init__(MethodSettings())
        self.found = found

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        return self.found


@pytest.mark.parametrize(("last_epoch", "measured"), [(None, 1), (5, 2)])
def test_the_selected_and_the_last_model_are_measured_and_one_that_is_both_once(
    last_epoch: int | None,
    measured: int,
    federation: SplitFolder,
    tiny: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last model always answers class 0; the selected one is the global model."""
    tiny["personalization_args"]["save_models"] = True
    step = step_of(tiny, federation)
    constant = {name: torch.zeros_like(value) for name, value in step.model.state_dict().items()}
    constant["classifier.bias"][int(step.training.train.y[0])] = 1.0
    last = None if last_epoch is None else Personalized(constant, last_epoch, 0.25)
    told = Told(Personalized(copy_state(step.model), 2, 0.5, last))
    monkeypatch.setattr(Settings, "method_type", lambda *_: lambda _: told)
    calls: list[nn.Module] = []
    original = step.measure
    monkeypatch.setattr(step, "measure", lambda model: (calls.append(model), original(model))[1])
    outcome = step.run(ResultKey("ft", 0, 0, "0001", MethodSettings()))
    assert len(calls) == measured
    expected = evaluate(step.model, step._tests.biased.x, step._tests.biased.y).accuracy
    assert (outcome.result.selected_epoch, outcome.result.val_acc) == (2, 0.5)
    assert outcome.result.acc_b == expected
    assert outcome.state is not None
    assert all(torch.equal(value, outcome.state[name]) for name, value in step.model.state_dict().items())
    if last_epoch is None:
        assert outcome.last is outcome.result
        return
    share = float((step._tests.biased.y == step.training.train.y[0]).double().mean())
    assert (outcome.last.selected_epoch, outcome.last.val_acc) == (5, 0.25)
    assert outcome.last.acc_b == share
    assert outcome.last.acc_b != outcome.result.acc_b


def test_a_row_counts_as_done_when_both_epochs_are_stored(
    federation: SplitFolder, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two files: the next process does the work again and ends with the same files."""
    key, step = ResultKey("ft", 0, 0, "0001", MethodSettings()), step_of(tiny, federation)
    outcome = step.run(key)
    outcome = replace(outcome, last=replace(outcome.result, selected_epoch=9))
    folder, written = RunFolder(tmp_path), []

    def interrupted(path: Path, row: ClientResult) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path.name)
        append_result(path, row)

    with monkeypatch.context() as patch:
        patch.setattr("fedml_spurious.experiment.result_store.append_result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ResultStore(folder).add(key, outcome)
    assert written == ["clients_last.csv"]
    again = ResultStore(folder)
    assert not again.has(key)
    again.add(key, outcome)
    stored = ResultStore(folder)
    assert stored.has(key)
    assert (stored.get(key), stored.get_last(key)) == (outcome.result, outcome.last)
    (stored.path(key) / "clients_last.csv").unlink()
    assert not ResultStore(folder).has(key)


def test_both_readings_reach_the_methods_and_only_them(federation: SplitFolder, tiny: dict[str, Any]) -> None:
    """Federated training is under batch statistics whatever the fine-tuning is."""
    step = step_of(tiny, federation)
    assert (step.view(0).training.batchnorm_mode, step.view(0).selection_ties) == ("frozen", "latest")
    tiny["personalization_args"] |= {"batchnorm_mode": "batch", "selection_ties": "earliest"}
    other = step_of(tiny, federation)
    assert (other.view(0).training.batchnorm_mode, other.view(0).selection_ties) == ("batch", "earliest")
    for settings in (step.settings, other.settings):
        assert settings.train_args.local_training().batchnorm_mode == "batch"


def test_the_budget_is_found_on_the_first_training_samples(
    federation: SplitFolder, tiny: dict[str, Any]
) -> None:
    """A network that always answers the class of the first sample: right so often, and never fooled."""
    step, labels = step_of(tiny, federation), federation.load("0001", "train").label
    right = labels == labels[0]
    constant = {name: torch.zeros_like(value) for name, value in step.model.state_dict().items()}
    constant["classifier.bias"][int(labels[0])] = 1.0
    load_state(step.model, constant)
    found = {}
    for limit in (2, 7, len(labels)):
        tiny["attack_args"]["budget_samples"] = limit
        runner = TaskRunner(check_settings(tiny, source="a test"), {0: federation}, torch.device("cpu"))
        runner.use(step.model, 0)
        found[limit] = runner.run(CountFooled("0001", 0.03))
    assert found == {limit: SuccessCount(0, int(right[:limit].sum())) for limit in found}
    assert any(right[:limit].sum() != right[-limit:].sum() for limit in found), "the last would do as well"


def test_a_step_is_of_the_model_and_the_budget_in_use(federation: SplitFolder, tiny: dict[str, Any]) -> None:
    """A step that was kept from before would attack and personalize another model."""
    step = step_of(tiny, federation)
    runner = TaskRunner(step.settings, {0: federation}, torch.device("cpu"))
    other = build_model("small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=1)
    for eps in (0.03, 0.06):
        for model in (step.model, other):
            runner.use(model, 0)
            found = runner.client_step("0001", 0, eps)
            assert (found.model, found.attack.eps) == (model, eps)
            assert runner.client_step("0001", 0, eps) is found
