"""What runs record for figures: the same whenever it is asked for, and no result changes."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from running import Finished, invoke, read_rows, without_time

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.analysis.gradient_terms import gradient_terms
from fedml_spurious.cli import main
from fedml_spurious.common import storage
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.experiment.recordings import RecordClient, check_recordings
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.state_dicts import copy_state
from fedml_spurious.personalization.base import ClientView, MethodSettings, Observer, Personalized
from fedml_spurious.personalization.fine_tuning import FineTuning

RECORDED = ("divergence.csv", "gamma.csv", "twins.csv")


def test_every_recording_is_there_and_its_cost_was_said(recorded: Finished) -> None:
    folder, _, result = recorded
    assert result.exit_code == 0, result.output
    assert (
        "Recordings: divergence, 6 local updates and 12 gradients more; trajectories, a measurement on all "
        "test samples after every batch; gamma and twins, 8 fine-tunings more"
    ) in result.stderr
    twins = read_rows(folder / "twins.csv")
    assert [(row["method"], row["client"], row["epoch"]) for row in twins[:4]] == [
        ("global", "0000", "0"), ("global", "0002", "0"), ("ft", "0000", "1"), ("ft", "0000", "2"),
    ]  # fmt: skip
    gamma = read_rows(folder / "gamma.csv")
    assert {(row["method"], row["client"], row["epoch"]) for row in gamma} == {
        (method, client, epoch)
        for method in ("ft", "adv", "l2", "ours")
        for client in ("0000", "0002")
        for epoch in ("1", selected_epoch(folder, method, client))
    }
    assert {int(row["sample"]) for row in gamma} == set(range(8))
    kinds = {(row["round"], row["kind"]) for row in read_rows(folder / "divergence.csv")}
    assert kinds == {(place, kind) for place in "01" for kind in ("pseudo", "gradient", "shape", "color")}
    batches = [row["batch"] for row in read_rows(folder / "personal/ft/fl0_p0/trajectory.csv")]
    assert batches[:3] == ["0", "1", "2"]


def selected_epoch(folder: Path, method: str, client: str) -> str:
    found = {
        (row["method"], row["client"]): row["selected_epoch"] for row in read_rows(folder / "results.csv")
    }
    return found[method, client]


def test_the_twins_of_the_selected_epoch_are_those_of_the_measured_model(recorded: Finished) -> None:
    folder = recorded.folder
    measured = {(row["method"], row["client"]): row for row in read_rows(folder / "results.csv")}
    rows = [row for row in read_rows(folder / "twins.csv") if row["selected"] == "1"]
    assert {(row["method"], row["client"]) for row in rows} == set(measured)
    for row in rows:
        result = measured[row["method"], row["client"]]
        assert row["epoch"] == (result["selected_epoch"] or "0")
        assert row["images"] == result["n_test"]
        assert row["acc_own"] == result["acc_b"]


def test_no_result_changes_and_a_finished_run_records_later(
    recorded: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack's budget is that of the results, and not looked for again."""
    reference, config, _ = recorded
    plain = {name: section for name, section in config.items() if name != "analysis_args"}
    folder = tmp_path / "run"
    some = plain | {"analysis_args": {"record": ["divergence"], "samples": 8}}
    assert invoke(some, folder).exit_code == 0
    assert without_time(folder) == without_time(reference)
    assert not (folder / "twins.csv").exists()
    assert not list(folder.glob("personal/**/trajectory.csv"))
    monkeypatch.setattr("fedml_spurious.experiment.budget._choose_budget", None)
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 0, result.output
    require_same_recordings(folder, reference)
    assert without_time(folder) == without_time(reference)
    none = invoke(some, folder, "--resume")
    assert none.exit_code == 0
    assert not (folder / "twins.csv").exists()  # the configuration in the folder does not ask for it


def require_same_recordings(folder: Path, reference: Path) -> None:
    for name in (*RECORDED, "personal/ours/fl0_p0/trajectory.csv"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.mark.parametrize("last", ["divergence", "twins"])
def test_a_kill_while_recording_loses_nothing(
    last: str, recorded: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the write of the third recording of a kind."""
    reference, config, _ = recorded
    folder, path, written = tmp_path / "run", tmp_path / "run.yaml", 0
    path.write_text(yaml.safe_dump(config))

    def replace(source: Any, target: Any) -> None:
        nonlocal written
        written += Path(target).parent.name == last
        if written == 2:
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "replace", replace)
        with pytest.raises(Killed):
            main.main(["run", "--cf", str(path), "--output", str(folder)], standalone_mode=False)
    assert not (folder / "results.csv").exists()
    assert invoke(config, folder, "--resume").exit_code == 0
    require_same_recordings(folder, reference)


def test_what_cannot_be_recorded_is_refused(finished: Finished, tiny: dict[str, Any], tmp_path: Path) -> None:
    source, config, _ = finished
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    late = invoke(config | {"analysis_args": {"record": ["divergence"]}}, folder, "--resume")
    assert late.exit_code == 2
    assert "its divergence was not recorded" in late.stderr
    for value, message in (
        (["twin"], "analysis_args.record"),
        (["twins", "twins"], "record names twins twice"),
    ):
        wrong = invoke(tiny | {"analysis_args": {"record": value}}, tmp_path / "other")
        assert wrong.exit_code == 2
        assert message in wrong.stderr
    assert not (tmp_path / "other").exists()


def test_twins_of_what_is_no_colour_are_refused(tiny: dict[str, Any]) -> None:
    settings = check_settings(tiny | {"analysis_args": {"record": ["twins"]}}, source="test")
    hair: Any = SimpleNamespace(meta=SimpleNamespace(spurious_names=("not blond", "blond")))
    with pytest.raises(InputError, match="the spurious feature of colored_mnist is not blond, blond; leave"):
        check_recordings(settings, {0: hair})
    check_recordings(check_settings(tiny, source="test"), {0: hair})


class Doubled(FineTuning):
    """Every batch doubles all weights: two epochs of two batches, of which one is selected."""

    def __init__(self, selected: int) -> None:
        super().__init__(MethodSettings())
        self.selected = selected

    def personalize(self, view: ClientView, observe: Observer | None = None) -> Personalized:
        model, states = copy.deepcopy(view.global_model), {}
        for batch in range(5):
            epoch = -(-batch // 2)
            if batch:
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter *= 2
            if observe is not None:
                observe(model, epoch, batch)
            states[epoch] = copy_state(model)
        return Personalized(states[self.selected], self.selected, 0.5)


@pytest.mark.parametrize("selected", [1, 2])
def test_what_is_recorded_is_of_the_model_at_the_end_of_each_epoch(
    selected: int, tiny: dict[str, Any], splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an epoch weights are 4 times the global ones, after two 16 times."""
    settings = check_settings(tiny | {"analysis_args": {"samples": 5}}, source="test")
    data = SplitFolder(splits)
    runner = TaskRunner(settings, {0: data}, torch.device("cpu"))
    start = initial_network(settings, data, 0)
    runner.use(start, 0)
    models = {}
    for epoch, factor in ((1, 4), (2, 16)):
        models[epoch] = copy.deepcopy(start)
        with torch.no_grad():
            for parameter in models[epoch].parameters():
                parameter *= factor
    monkeypatch.setattr(Settings, "method_type", lambda *_: lambda _: Doubled(selected))
    key = ResultKey("ft", 0, 0, "0001", MethodSettings())
    found = runner.run(RecordClient(key, 0.25, ("gamma", "twins")))
    samples = data.load("0001", "test")
    x, y = to_tensors(samples.image, samples.label, "cpu")
    for row in found["twins"]:
        assert row["acc_own"] == evaluate(models[row["epoch"]], x, y).accuracy
        assert row["selected"] == (row["epoch"] == selected)
    assert [row["epoch"] for row in found["twins"]] == [1, 2]
    expected = [
        {"epoch": epoch, "sample": place, **row, "selected": int(epoch == selected)}
        for epoch in range(1, selected + 1)
        for place, row in enumerate(
            gradient_terms(start, models[epoch], x[:5], y[:5], eps=0.25, colored=True)
        )
    ]
    assert found["gamma"] == expected


def test_a_recording_is_made_with_the_budget_of_the_results(
    tiny: dict[str, Any], splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule shrinks 4.0, with which every attack succeeds, more than once."""
    tiny |= {"analysis_args": {"record": ["gamma"], "samples": 2}, "personalization_args": {"epochs": 1}}
    tiny["attack_args"] |= {"eps": 4.0, "shrink": 0.25}
    tiny["experiment_args"] = {"methods": ["ft"]}
    budgets = set()
    run = RecordClient.run

    def noted(task: RecordClient, runner: TaskRunner) -> Any:
        budgets.add(task.eps)
        return run(task, runner)

    monkeypatch.setattr(RecordClient, "run", noted)
    assert invoke(tiny, tmp_path / "run").exit_code == 0
    (eps,) = {float(row["eps"]) for row in read_rows(tmp_path / "run/results.csv")}
    assert budgets == {eps}
    assert eps < 4.0
