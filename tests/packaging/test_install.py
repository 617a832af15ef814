"""Installing and uninstalling, with pip and with uv, as a wheel and editable."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from environments import Environment, Outcome, new_environment

HELP = ["run", "--help"]
OF_FEDML = [
    ["run", "list", "--help"],
    ["run", "-k", "KEY", "stop", "--help"],
    ["run", "--output", "logs"],
    ["run", "no-such-command"],
    ["version"],
]
OURS = [
    ["run", "--cf", "no-such-file.yaml"],
    ["run", "--resume", "--cf=no-such-file.yaml"],
    ["run", "--cf", "quickstart", "--no-such-option"],
    ["run", "--cf", "quickstart", "--help"],
]


@dataclass(frozen=True)
class Installed:
    """An environment with our package, and what ``fedml`` answered in it."""

    tool: str
    environment: Environment
    files_before: dict[str, str]
    of_fedml: list[Outcome]
    ours: list[Outcome]
    help: list[Outcome]


def install_tool(tool: str, environment: Environment, action: str, *options: str | Path) -> None:
    """Run pip or uv on ``environment`` and expect it to succeed."""
    if tool == "pip":
        done = environment.run(environment.python, "-m", "pip", action, *options)
    else:
        uv = (sys.executable, "-m", "uv", "pip", action, "--python", environment.python)
        done = environment.run(*uv, *options)
    assert done.exit_code == 0, done.stderr


@pytest.fixture(
    scope="module",
    params=[("pip", "wheel"), ("pip", "editable"), ("uv", "wheel"), ("uv", "editable")],
    ids="-".join,
)
def installed(
    request: pytest.FixtureRequest, wheel: Path, sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    """Our package in an environment of its own, in each of the four ways."""
    tool, kind = request.param
    environment = new_environment(tmp_path_factory.mktemp(f"{tool}-{kind}") / "env")
    files_before = environment.files()
    what = [wheel] if kind == "wheel" else ["--no-build-isolation", "--editable", sources]
    install_tool(tool, environment, "install", "--no-deps", *what)
    answers = environment.run_fedml(*OF_FEDML, *OURS, HELP, ["run"])
    ends = len(OF_FEDML), len(OF_FEDML) + len(OURS)
    return Installed(
        tool, environment, files_before, answers[: ends[0]], answers[ends[0] : ends[1]], answers[ends[1] :]
    )


@pytest.fixture(scope="session")
def without(bare: Environment) -> list[Outcome]:
    """What ``fedml`` answers where our package is not installed."""
    return bare.run_fedml(*OF_FEDML, HELP, ["run"])


def test_fedmls_own_commands_answer_as_without_us(installed: Installed, without: list[Outcome]) -> None:
    # With a wrong argument FedML shows the usage of `fedml run`, which has a second line now.
    added = "       fedml run --cf CONFIG [OPTIONS]\n"
    answers = [replace(answer, stderr=answer.stderr.replace(added, "")) for answer in installed.of_fedml]
    assert answers == without[: len(OF_FEDML)]


def test_with_cf_fedml_run_answers_as_our_command(installed: Installed) -> None:
    command = installed.environment.folder / "bin" / "fedml-spurious"
    own = [installed.environment.run(command, *args) for args in OURS]
    assert [done.exit_code for done in own] == [2, 2, 2, 0]
    for ours, expected in zip(installed.ours, own, strict=True):
        assert ours.exit_code == expected.exit_code
        assert ours.stdout == expected.stdout.replace("fedml-spurious run", "fedml run")
        assert ours.stderr == expected.stderr.replace("fedml-spurious run", "fedml run")


def test_help_shows_fedmls_commands_and_our_options(installed: Installed, without: list[Outcome]) -> None:
    for both, fedmls in zip(installed.help, without[len(OF_FEDML) :], strict=True):
        assert both.exit_code == fedmls.exit_code
        text, original = both.stdout + both.stderr, fedmls.stdout + fedmls.stderr
        assert set(original.splitlines()) <= set(text.splitlines())
        for own in ("fedml run --cf CONFIG", "--set", "--output", "--resume"):
            assert own in text
            assert own not in original


def test_uninstalling_leaves_every_file_as_it_was(installed: Installed) -> None:
    sure = ["--yes"] if installed.tool == "pip" else []
    install_tool(installed.tool, installed.environment, "uninstall", *sure, "fedml_spurious")
    assert installed.environment.files() == installed.files_before
