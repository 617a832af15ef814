"""Installing and uninstalling, with pip and with uv, as a wheel and editable."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from itertools import islice
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


WAYS = [("pip", "wheel"), ("pip", "editable"), ("uv", "wheel"), ("uv", "editable")]
LIST_FINDERS = "import sys; print([type(finder).__name__ for finder in sys.meta_path])"


@dataclass(frozen=True)
class Installed:
    """What ``fedml`` answers in an environment with our package, and our own command there."""

    command: Path
    of_fedml: list[Outcome]
    ours: list[Outcome]
    help: list[Outcome]


def call(tool: str, environment: Environment, action: str, *options: str | Path) -> None:
    """Run pip or uv on ``environment`` and expect it to succeed."""
    if tool == "pip":
        done = environment.run(environment.python, "-m", "pip", action, *options)
    else:
        uv = (sys.executable, "-m", "uv", "pip", action, "--python", environment.python)
        done = environment.run(*uv, *options)
    assert done.exit_code == 0, done.stderr


@pytest.fixture(scope="session")
def packages(wheel: Path, sources: Path) -> dict[str, list[str | Path]]:
    """What an installer is given, by kind of installation."""
    return {"wheel": [wheel], "editable": ["--no-build-isolation", "--editable", sources]}


# FedML takes seconds to import: one wheel and one editable install, one by each tool.
@pytest.fixture(scope="module", params=[WAYS[0], WAYS[3]], ids="-".join)
def installed(
    request: pytest.FixtureRequest,
    packages: dict[str, list[str | Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Installed:
    """Our package in an environment of its own, with the answers of ``fedml`` there."""
    tool, kind = request.param
    environment = new_environment(tmp_path_factory.mktemp("env") / "env")
    call(tool, environment, "install", "--no-deps", *packages[kind])
    answers = iter(environment.run_fedml(*OF_FEDML, *OURS, HELP, ["run"]))
    return Installed(
        command=environment.folder / "bin" / "fedml-spurious",
        of_fedml=list(islice(answers, len(OF_FEDML))),
        ours=list(islice(answers, len(OURS))),
        help=list(answers),
    )


def words(done: Outcome) -> list[str]:
    """An answer without its line breaks, which click's test runner places elsewhere."""
    return [str(done.exit_code), *done.stdout.split(), *done.stderr.split()]


@pytest.fixture(scope="session")
def without(bare: Environment) -> list[Outcome]:
    """What ``fedml`` answers where our package is not installed."""
    return bare.run_fedml(*OF_FEDML, HELP, ["run"])


def test_fedmls_own_commands_answer_as_without_us(installed: Installed, without: list[Outcome]) -> None:
    # With a wrong argument FedML shows the usage of `fedml run`, which has a second line now.
    added = "       fedml run --cf CONFIG [OPTIONS]\n"
    answers = [replace(answer, stderr=answer.stderr.replace(added, "")) for answer in installed.of_fedml]
    assert answers == without[: len(OF_FEDML)]


def test_with_cf_fedml_run_answers_as_our_command(installed: Installed, bare: Environment) -> None:
    for args, answer in zip(OURS, installed.ours, strict=True):
        own = bare.run(installed.command, *args)
        assert own.exit_code == (0 if "--help" in args else 2)
        assert words(answer) == [word.replace("fedml-spurious", "fedml") for word in words(own)]


def test_help_shows_fedmls_commands_and_our_options(installed: Installed, without: list[Outcome]) -> None:
    for both, fedmls in zip(installed.help, without[len(OF_FEDML) :], strict=True):
        assert both.exit_code == fedmls.exit_code
        text, original = both.stdout + both.stderr, fedmls.stdout + fedmls.stderr
        assert set(original.splitlines()) <= set(text.splitlines())
        for own in ("fedml run --cf CONFIG", "--set", "--output", "--resume"):
            assert own in text
            assert own not in original


@pytest.mark.parametrize(("tool", "kind"), WAYS)
def test_every_way_of_installing_loads_the_hook_and_uninstalling_leaves_nothing(
    tool: str, kind: str, packages: dict[str, list[str | Path]], tmp_path: Path
) -> None:
    environment = new_environment(tmp_path / "env")
    before = environment.files()
    call(tool, environment, "install", "--no-deps", *packages[kind])
    assert "FedMLRunFinder" in environment.run("bin/python", "-c", LIST_FINDERS, "fedml").stdout
    sure = ["--yes"] if tool == "pip" else []
    call(tool, environment, "uninstall", *sure, "fedml_spurious")
    assert environment.files() == before
