"""What runs record for figures: the same whenever it is asked for, and no result changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from running import Finished, invoke, read_rows, without_time

from fedml_spurious.cli import main
from fedml_spurious.common import storage
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.recordings import check_recordings

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
    for module in ("recordings", "personalization_step"):
        monkeypatch.setattr(f"fedml_spurious.experiment.{module}.choose_budget", None)
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
