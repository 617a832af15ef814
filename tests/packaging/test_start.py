"""What our start-up file and our command line cost those who do not need us."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from environments import PACKAGES, REPOSITORY, Environment, new_environment

from fedml_spurious._fedml_run import starts_an_experiment

SLOW = {"torch", "torchvision", "fedml", "sklearn", "scipy", "matplotlib", "pandas", "rich"}
LIST_OURS = "import sys; print([name for name in sys.modules if 'spurious' in name])"


@pytest.fixture
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with nothing but the start-up file."""
    environment = new_environment(tmp_path_factory.mktemp("hooked") / "env")
    shutil.copy(REPOSITORY / "fedml_spurious.pth", environment.site_packages)
    return environment


def link_packages(environment: Environment) -> None:
    """Make our packages importable, without installing them."""
    for name in PACKAGES:
        (environment.site_packages / name).symlink_to(REPOSITORY / name)


def test_a_python_that_does_not_name_fedml_imports_nothing_of_ours(hooked: Environment) -> None:
    link_packages(hooked)
    # By a relative path: the folder of the tests may have any name.
    assert hooked.run("bin/python", "-c", LIST_OURS).stdout == "[]\n"


def test_a_python_that_names_fedml_imports_the_hook_only(hooked: Environment) -> None:
    link_packages(hooked)
    expected = ["fedml_spurious", "fedml_spurious._fedml_hook"]
    assert hooked.run("bin/python", "-c", LIST_OURS, "fedml").stdout == f"{expected}\n"


def test_the_start_up_file_is_silent_when_the_package_is_gone(hooked: Environment) -> None:
    # Isolated from the running environment, which may have the package.
    (hooked.site_packages / "outer.pth").unlink()
    done = hooked.run("bin/python", "-c", LIST_OURS, "fedml")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"]])
def test_help_imports_nothing_slow(args: list[str], hooked: Environment) -> None:
    link_packages(hooked)
    code = (
        "import sys; from fedml_spurious.cli import main; "
        f"main({args}, standalone_mode=False); "
        f"sys.exit(str(set(sys.modules) & {SLOW}))"
    )
    done = hooked.run("bin/python", "-c", code)
    assert done.stdout.startswith("Usage:")
    assert done.stderr == "set()\n"


@pytest.mark.parametrize(
    ("args", "ours"),
    [
        ([], False),
        (["--help"], False),
        (["list"], False),
        (["--cf", "list"], True),
        (["--cf=mnist.yaml"], True),
        (["--yaml_config_file", "mnist.yaml"], True),
        (["--resume", "--cf", "mnist.yaml"], True),
        (["--output", "logs", "--cf", "mnist.yaml"], True),
        (["-k", "KEY", "list", "--cf", "mnist.yaml"], False),
        (["list", "--cf", "mnist.yaml"], False),
        (["--cfg", "mnist.yaml"], False),
    ],
)
def test_a_configuration_before_fedmls_commands_makes_it_ours(args: list[str], ours: bool) -> None:
    assert starts_an_experiment(args, {"list", "logs", "status", "stop"}) is ours


TINY = "data_args: {dataset: d, data_cache_dir: d}\n"
GRIDS = "experiment_args: {methods: [global, ours], grids: {ours: {lam_adv: [0.0, 1.0]}}}\n"


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (None, [], "no such file"),
        ("a: [", [], "broken YAML"),
        (TINY + "train_args: {epoch: 1}", [], "train_args.epoch: unknown key. Did you mean epochs?"),
        (TINY, ["--set", "personalization_args.ours.lam=1"], "ours.lam: unknown key"),
        (TINY, ["--set", "attack_args.norm=l1"], "attack_args.norm: expected 'linf' or 'l2'"),
        (TINY, ["--set", "experiment_args.methods=[nothing]"], "unknown method 'nothing'"),
        (TINY + GRIDS, [], "gain compares with fine-tuning"),
        (TINY, ["--set", "comm_args.backend=GRPC"], "GRPC needs to know its processes"),
        (TINY, ["--rank", "1", "--role", "client"], "comm_args.backend is sp"),
    ],
)
def test_mistakes_in_a_configuration_show_before_anything_slow_is_imported(
    text: str | None, options: list[str], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    code = (
        "import sys; from fedml_spurious.cli import main\n"
        f"try: main({['run', '--cf', str(path), *options]})\n"
        f"finally: print(sorted({{*sys.modules}} & {SLOW}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert expected in done.stderr
    assert done.returncode == 2
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "'1000'"), ({"GOMP_SPINCOUNT": "7"}, "'7'"), ({"OMP_WAIT_POLICY": "PASSIVE"}, "'0'")],
)
def test_waiting_threads_leave_the_cores_to_others_unless_told_otherwise(
    own: dict[str, str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(TINY)
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-m", "fedml_spurious.cli", "run", "--cf", "config.yaml"],
        cwd=tmp_path,
        env=inherited | {"OMP_DISPLAY_ENV": "VERBOSE"} | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "d: no such folder" in done.stderr
    assert f"GOMP_SPINCOUNT = {expected}" in done.stderr  # what libgomp took
