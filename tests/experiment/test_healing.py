"""A file of a run that is not what the run wrote is noticed, and the advice leads to right results."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import Finished, invoke, without_time

from fedml_spurious.cli import main
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import read_csv
from fedml_spurious.library import Run

NOTICED = "is not what this run wrote"
FL0, OURS = "global/fl0", "personal/ours/lam_adv=1.0,lam_l2=0.1/fl0_p0"


@pytest.fixture(scope="module")
def whole(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that has every kind of file."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "personalization_args": {
            "epochs": 1, "batchnorm": "recalibrate", "trajectory_interval": 4, "save_models": True,
            "clients": ["0001", "0002"], "ours": {"lam_l2": 0.1},
        },
        "attack_args": {"steps": 1, "budget_samples": 16},
        "experiment_args": {"methods": ["global", "ft", "ours"], "grids": {"ours": {"lam_adv": [1.0]}}},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = invoke(config, folder)
    assert result.exit_code == 0, result.output
    return Finished(folder, config, result)


@pytest.fixture
def folder(whole: Finished, tmp_path: Path) -> Path:
    shutil.copytree(whole.folder, tmp_path / "run")
    return tmp_path / "run"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def follow(advice: str, folder: Path) -> None:
    """Do what a message advises: remove a file or a folder."""
    found = re.search(r"remove (the file|the folder (\S+))", advice)
    path = re.search(r"Error: (\S+): ", advice)
    assert found, advice
    assert path, advice
    target = Path(found[2] or path[1])
    assert target.is_relative_to(folder)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


def resumed(whole: Finished, folder: Path) -> Result:
    return invoke(whole.config, folder, "--resume")


def table(_: Finished, folder: Path) -> Result:
    return CliRunner().invoke(main, ["table", str(folder)])


def edited(content: bytes) -> bytes:
    """Another number of the same length in its place, or another byte of a file that is no text."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]
    place = max(found.start() for found in re.finditer(r"\d(?=\D*$|,\n|\d*\n|[\]}])", text))
    return (text[:place] + ("1" if text[place] != "1" else "2") + text[place + 1 :]).encode()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (f"{FL0}/identity.json", resumed),
        (f"{FL0}/model.pt", resumed),
        (f"{FL0}/recalibrated.pt", resumed),
        (f"{FL0}/budget.json", resumed),
        (f"{OURS}/identity.json", resumed),
        (f"{OURS}/clients.csv", resumed),
        (f"{OURS}/clients_last.csv", resumed),
        (f"{OURS}/trajectory.csv", resumed),
        (f"{FL0}/budget.json", table),
        (f"{FL0}/identity.json", table),
        ("results.csv", table),
        ("config.yaml", table),
        ("tuning/ours/decision.json", table),
    ],
)
@pytest.mark.parametrize(
    "damage", [edited, lambda content: content[: len(content) // 2]], ids=["edited", "cut"]
)
def test_what_the_run_did_not_write_is_noticed_and_nothing_is_touched(
    name: str, read: Callable[..., Result], damage: Callable[[bytes], bytes], whole: Finished, folder: Path
) -> None:
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    before = content_of(folder)
    result = read(whole, folder)
    assert (result.exit_code, NOTICED in result.output) == (2, True), result.output
    assert str(path) in result.output
    assert content_of(folder) == before
    follow(result.output, folder)


def require_healed(whole: Finished, folder: Path) -> None:
    """The same results, and the same files but for what a clock says and the logs."""
    result = resumed(whole, folder)
    assert result.exit_code == 0, result.output
    for name in ("results.csv", "results_last.csv"):
        assert without_time(folder, name) == without_time(whole.folder, name)
    found, expected = content_of(folder), content_of(whole.folder)
    assert found.keys() == expected.keys()
    logs = {"run.log", "progress.jsonl", "environment.json", "checksums.jsonl"}
    differing = {name for name in found.keys() - logs if found[name] != expected[name]}
    assert {Path(name).name for name in differing} <= {
        "clients.csv", "clients_last.csv", "results.csv", "results_last.csv",
    }  # fmt: skip
    assert table(whole, folder).exit_code == 0


@pytest.mark.parametrize(
    "names",
    [
        ["config.yaml", "results.csv", "table.csv", f"{FL0}/budget.json", "tuning/ours/decision.json"],
        [f"{FL0}/model.pt", f"{OURS}/clients.csv", "personal/ft/fl0_p0/models/0001.pt"],
        [f"{FL0}/rounds.csv", f"{FL0}/recalibrated.pt", f"{OURS}/clients_last.csv"],
        [f"{FL0}/rounds.csv", f"{FL0}/checkpoint.pt", OURS],
        [FL0, "personal/ft/fl0_p0"],
    ],
)
def test_what_was_removed_as_advised_is_made_again(names: list[str], whole: Finished, folder: Path) -> None:
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    require_healed(whole, folder)


def test_what_is_derived_is_written_again_whatever_it_was(whole: Finished, folder: Path) -> None:
    for name in ("results.csv", "table.md", "tuning/ours/decision.json", "personal/ours/fl0_p0/clients.csv"):
        (folder / name).write_bytes(b"edited\n")
    (folder / f"{FL0}/rounds.csv").unlink()
    require_healed(whole, folder)


def test_the_files_that_only_pictures_and_programs_read_are_checked_by_their_readers(
    whole: Finished, folder: Path
) -> None:
    for name in (f"{FL0}/rounds.csv", "personal/ours/fl0_p0/trajectory.csv"):
        (folder / name).write_bytes(edited((folder / name).read_bytes()))
        with pytest.raises(InputError, match=NOTICED):
            read_csv(folder / name)
    (folder / f"{FL0}/budget.json").write_text('{"eps": 1e9, "in_range": true, "trail": [[1e9, 1.0]]}')
    with pytest.raises(InputError, match=NOTICED):
        Run(folder).client("0001")
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "\n")
    with pytest.raises(InputError, match=NOTICED):
        Run(folder)


@pytest.fixture
def unknown(folder: Path) -> Iterator[Path]:
    """A run of an older version, which kept no checksums and no identity of personal parts."""
    (folder / "checksums.jsonl").unlink()
    for path in (folder / "personal").rglob("identity.json"):
        path.unlink()
    return folder


def test_an_older_run_goes_on_and_rows_of_another_budget_are_noticed_in_it(
    whole: Finished, unknown: Path
) -> None:
    assert resumed(whole, unknown).exit_code == 0
    assert without_time(unknown) == without_time(whole.folder)
    path = unknown / f"{OURS}/clients.csv"
    (unknown / "checksums.jsonl").unlink()
    eps = json.loads((unknown / f"{FL0}/budget.json").read_text())["eps"]
    path.write_text(path.read_text().replace(repr(eps), "0.5"))
    refused = resumed(whole, unknown)
    assert refused.exit_code == 2
    assert "has another method, seed or budget (eps) than this run" in refused.output
    follow(refused.output, unknown)
    assert resumed(whole, unknown).exit_code == 0
    assert without_time(unknown) == without_time(whole.folder)


def test_without_its_configuration_a_run_goes_on_with_the_same_settings_alone(
    whole: Finished, folder: Path
) -> None:
    (folder / "config.yaml").unlink()
    before = content_of(folder)
    for changed in ("train_args.epochs=2", "attack_args.steps=2", "personalization_args.epochs=2"):
        result = invoke(whole.config, folder, "--resume", "--set", changed)
        assert result.exit_code == 2, result.output
        assert "other settings or data (changed: " in result.output or "other attack_args" in result.output
        assert content_of(folder) == before
    assert "holds a run already" in invoke(whole.config, folder).output
