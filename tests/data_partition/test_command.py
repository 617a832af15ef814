from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel

from data_partition.colored import mnist_files
from data_partition.colored.coil20_files import download_coil20
from data_partition.registry import PARTITIONS
from data_partition.split_files.meta import read_meta
from fedml_spurious.common.cli_errors import friendly
from fedml_spurious.common.errors import InputError, RunError

MNIST = PARTITIONS["colored_mnist"]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(MNIST.command, [str(argument) for argument in arguments])


def test_every_data_set_offers_the_same_three_things() -> None:
    assert list(PARTITIONS) == ["colored_mnist", "colored_coil20", "celeba_real", "celeba_synthetic"]
    for name, partition in PARTITIONS.items():
        assert issubclass(partition.Options, BaseModel)
        assert callable(partition.build)
        assert partition.command.name == name
        flags = {flag for option in partition.command.params for flag in option.opts}
        assert {"--raw", "--out", "--seed", "--download"} <= flags
        module = importlib.import_module(f"data_partition.{name}")
        assert (module.PARTITION, module.Options) == (partition, partition.Options)
        assert module.build == partition.build
        assert module.command.name == name
    assert "usps" not in PARTITIONS
    with pytest.raises(KeyError, match="usps"):
        PARTITIONS["usps"]


def test_options_travel_from_the_command_line_to_the_description(tmp_path: Path) -> None:
    done = call(
        *("--out", tmp_path, "--source", "digits", "--limit", 150, "--clients", 3, "--ratios", "6:1:3"),
        *("--palette", "red, green,blue,cyan,white", "--conflicting-fraction", 0.1, "--seed", 4),
    )
    assert done.exit_code == 0, done.output
    options = read_meta(tmp_path / "colored_mnist_meta.json").options
    assert options["ratios"] == [6, 1, 3]
    assert options["palette"] == ["red", "green", "blue", "cyan", "white"]
    assert options["bias_conflicting_fraction"] == 0.1
    assert (options["clients"], options["limit"], options["seed"]) == (3, 150, 4)
    assert "3 clients, 10 classes" in done.stdout
    assert "colored_mnist: 3/3" in done.stderr


def test_a_second_call_finds_its_work_done(tmp_path: Path) -> None:
    arguments = ("--out", tmp_path, "--limit", 100, "--clients", 2)
    assert call(*arguments).exit_code == 0
    assert call(*arguments).exit_code == 0
    other = call(*arguments, "--seed", 1)
    assert other.exit_code == 2
    assert "made differently (seed 0, now 1)" in other.stderr
    assert call(*arguments, "--seed", 1, "--overwrite").exit_code == 0


def test_all_wrong_options_are_reported_at_once(tmp_path: Path) -> None:
    done = call("--out", tmp_path / "out", "--clients", "many", "--seed", -1, "--label-noise", 2)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    for problem in (
        "clients: expected a whole number, got 'many'",
        "seed: expected at least 0, got -1;",
        "label_noise: expected at most 1, got 2",
    ):
        assert problem in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("wrong"), 2, "Error: wrong"),
        (RunError("failed"), 1, "Error: failed"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_errors_end_with_their_status(error: BaseException, status: int, message: str) -> None:
    @click.command()
    @friendly
    def command() -> None:
        raise error

    done = CliRunner().invoke(command)
    assert done.exit_code == status
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_defect_keeps_its_traceback() -> None:
    @click.command()
    @friendly
    def command() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(command).exception, ZeroDivisionError)


def test_the_registry_imports_a_script_when_it_is_named() -> None:
    code = (
        "import sys; from data_partition.registry import PARTITIONS; list(PARTITIONS)\n"
        "named = lambda: {name for name in PARTITIONS if f'data_partition.{name}' in sys.modules}\n"
        "assert named() == set(); PARTITIONS['celeba_real']; assert named() == {'celeba_real'}"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["colored_mnist", "colored_coil20"])
def test_help_is_fast_and_imports_no_torch(name: str) -> None:
    """Each of these takes longer to import than --help may."""
    root = Path(__file__).parents[2]
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('data_partition.{name}', run_name='__main__')\n"
        "finally: assert not {'torch', 'sklearn', 'fedml'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "--map-divergence" in done.stdout


def test_a_refused_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    with pytest.raises(RunError, match=r"train-images.*connection refused.*--source digits"):
        mnist_files.download_mnist(tmp_path)
    with pytest.raises(RunError, match=r"coil-20-proc\.zip: cannot be fetched.*by hand"):
        download_coil20(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_web_page_in_place_of_a_download_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_page(_url: str, root: Path, filename: str, *_: object) -> None:
        Path(root).mkdir(parents=True, exist_ok=True)
        (Path(root) / filename).write_text("<html>moved</html>")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", give_page)
    with pytest.raises(RunError, match="cannot be fetched"):
        mnist_files.download_mnist(tmp_path)
    with pytest.raises(RunError, match="a web page, not a zip file"):
        download_coil20(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_download_needs_a_folder(tmp_path: Path) -> None:
    done = call("--out", tmp_path, "--download")
    assert done.exit_code == 2
    assert "--download: say with --raw" in done.stderr


@pytest.mark.parametrize("limit", [2, 40])
def test_a_limit_that_is_too_small_is_told_one_that_is_not(limit: int, tmp_path: Path) -> None:
    arguments = ("--source", "digits", "--clients", 30, "--out", tmp_path)
    refused = call(*arguments, "--limit", limit)
    assert refused.exit_code == 2
    assert f"limit {limit} is too small: " in refused.stderr
    enough = re.search(r"give --limit (\d+) or more", refused.stderr)
    assert enough
    assert call(*arguments, "--limit", enough[1]).exit_code == 0


def test_too_few_samples_are_no_matter_of_the_limit(tmp_path: Path) -> None:
    refused = call("--source", "digits", "--clients", 500, "--limit", 1700, "--out", tmp_path)
    assert refused.exit_code == 2
    assert "--limit" not in refused.stderr
    assert "ask for fewer clients" in refused.stderr
