"""Throwaway environments: they see the packages of the running one, and tests install into them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("setup.py", "pyproject.toml", "fedml_spurious.pth", "README.md", "LICENSE")
PACKAGES = ("fedml_spurious", "data_partition", "fedml_configs")
# What `fedml` does, for several command lines at the price of one import of FedML.
MANY_FEDML_COMMANDS = """
import json, sys
from click.testing import CliRunner
from fedml.cli.cli import cli
runs = [CliRunner().invoke(cli, args, prog_name="fedml") for args in json.loads(sys.argv[1])]
print(json.dumps([(run.exit_code, run.stdout, run.stderr) for run in runs]))
"""


@dataclass(frozen=True)
class Outcome:
    """What a command line ended with."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def run(self, *command: str | Path) -> Outcome:
        """Run a command offline, with a home and settings of its own."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder.parent),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CACHE_DIR": str(self.folder.parent / "uv-cache"),
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
        }
        text = [str(part) for part in command]
        done = subprocess.run(
            text, env=variables, cwd=self.folder, capture_output=True, text=True, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def run_fedml(self, *command_lines: list[str]) -> list[Outcome]:
        """Run ``fedml ARGS`` for every command line; FedML itself must not print anything."""
        done = self.run(self.python, "-c", MANY_FEDML_COMMANDS, json.dumps(command_lines))
        assert (done.exit_code, done.stderr) == (0, "")
        return [Outcome(*fields) for fields in json.loads(done.stdout)]

    def files(self) -> dict[str, str]:
        """Every file with its hash, except the lock that uv keeps in an environment that it has used."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != ".lock"
        }


def new_environment(folder: Path) -> Environment:
    """Create an environment that imports what the running one imports, and starts none of its hooks."""
    venv.create(folder, symlinks=True)
    environment = Environment(folder)
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (environment.site_packages / "outer.pth").write_text("\n".join(outer))
    return environment
