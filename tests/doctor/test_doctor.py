"""The command: what is missing in one line each with its remedy, and nothing written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from asking import ask, missing
from running import Finished, invoke

from fedml_spurious.doctor import checks


def test_what_can_be_run_is_said_with_its_cost_and_its_command(tiny: dict[str, Any], tmp_path: Path) -> None:
    result = ask(tiny, tmp_path, "--set", "train_args.epochs=2")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "Would be run: colored_mnist, network small_network:cnn"
    assert "Plan: 1 global model of 3 rounds; 4 clients x 2 methods" in lines[1]
    assert "1 process (sp) on cpu, 1 thread" in lines[2]
    assert "Missing: nothing" in lines
    for name in ("start", "rounds", "personalization", "in all", "memory at most", "run folder"):
        assert [line for line in lines if line.strip().startswith(name)], name
    assert f"--set train_args.epochs=2 --output {tmp_path / 'run'}" in lines[-1]
    assert re.match(r"It can be run: (\S+/)?fedml-spurious run --cf ", lines[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["data_args.data_cache_dir=nowhere"], "nowhere: no such folder; expected one with client split"),
        (["device_args.using_gpu=true", "device_args.gpu_id=1000"], "set device_args.using_gpu=false"),
        (["train_args.client_num_per_round=5"], "has 4 clients; set it to 4 or less"),
        (["model_args.model=cnn_64x64"], "use model: cnn_28x28"),
        (["personalization_args.clients=[\"0009\"]"], "no client '0009'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line_with_its_remedy(
    options: list[str], expected: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    sets = [part for option in options for part in ("--set", option)]
    (line,) = missing(ask(tiny, tmp_path, *sets))
    assert expected in line


def test_raw_files_that_are_missing_are_said_where_they_are_looked_for(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    tiny["data_args"] = {"dataset": "colored_mnist", "partition": {"source": "mnist", "clients": 4}}
    (line,) = missing(ask(tiny, tmp_path))
    assert "say with data_args.raw where the raw files are" in line
    (line,) = missing(ask(tiny, tmp_path, "--set", f"data_args.raw={tmp_path}"))
    assert "fetch it with `fedml-spurious partition colored_mnist --raw DIR --download" in line


def test_a_folder_that_is_used_already_is_said(
    tiny: dict[str, Any], finished: Finished, tmp_path: Path
) -> None:
    (line,) = missing(ask(tiny, tmp_path, "--output", str(finished.folder)))
    assert line.endswith("holds a run already. Continue it with --resume, or give another --output")


def test_more_threads_than_cores_are_a_doubt_and_no_hindrance(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "cores", lambda: 1)
    result = ask(tiny, tmp_path, "--set", "comm_args.backend=MPI", "--set", "device_args.threads=1")
    assert result.exit_code == 0, result.output
    doubts = result.output.partition("Mind:\n")[2]
    assert "threads: 2 threads would compute on" in doubts


def test_a_broken_configuration_is_the_message_of_a_run(tmp_path: Path) -> None:
    result = ask({"data_args": {"dataset": "d", "data_cache_dir": "d"}, "train_args": {"epoch": 1}}, tmp_path)
    assert result.exit_code == 2
    assert "train_args.epoch: unknown key. Did you mean epochs?" in result.stderr


def test_a_run_says_what_it_will_cost_in_its_first_line_and_only_where_it_begins(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    tiny["data_args"] = {
        "dataset": "colored_mnist",
        "partition": {"source": "digits", "clients": 4, "classes_per_client": 3, "limit": 240},
    }
    tiny["train_args"]["comm_round"] = 1
    begun = invoke(tiny, tmp_path / "run")
    assert begun.exit_code == 0, begun.stderr
    first, second = begun.stderr.splitlines()[:2]
    assert re.fullmatch(r"Estimate: \S+ \w+ \(.+ to .+\), .+ of memory, .+ of disk", first)
    assert second.startswith("Plan: ")
    again = invoke(tiny, tmp_path / "run", "--resume")
    assert again.stderr.startswith("Plan: ")


def test_a_run_calls_methods_of_the_users_own_no_more_often(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counted_method.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    tiny["experiment_args"] = {"methods": ["global", "counted_method:Counted"]}
    tiny["train_args"]["comm_round"] = 1
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("Estimate: ")
    assert (tmp_path / "calls").read_text() == "x" * 4  # once for each client


COUNTED = """
from pathlib import Path
from fedml_spurious.personalization.base import MethodSettings, Personalizer

class Counted(Personalizer[MethodSettings]):
    name = "counted"

    def personalize(self, view, observe=None):
        with (Path(__file__).parent / "calls").open("a") as stream:
            stream.write("x")
        return super().personalize(view, observe)
"""


def test_an_estimate_that_fails_ends_no_run(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fedml_spurious.doctor.first_line.estimate", fail)
    tiny["train_args"]["comm_round"] = 1
    tiny["experiment_args"] = {"methods": ["global", "ft"]}
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("Plan: ")
    assert "could not be estimated" in (tmp_path / "run/run.log").read_text()
