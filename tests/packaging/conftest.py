"""What the tests of packaging share: a bare environment, the sources and the wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from environments import PACKAGES, REPOSITORY, SOURCES, Environment, new_environment


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment without our package's hook."""
    return new_environment(tmp_path_factory.mktemp("bare") / "env")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what gets installed: building in place would leave files in the repository."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, folder)
    for name in PACKAGES:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="session")
def wheel(bare: Environment, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that users install."""
    folder = tmp_path_factory.mktemp("dist")
    command = (bare.python, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, sources)
    done = bare.run(*command)
    assert done.exit_code == 0, done.stderr
    return next(folder.glob("*.whl"))
