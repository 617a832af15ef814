"""How tests ask the doctor, and what it says is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from fedml_spurious.cli import main


def ask(config: dict[str, Any], folder: Path, *options: str) -> Result:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return CliRunner().invoke(main, ["doctor", "--cf", str(path), "--output", str(folder / "run"), *options])


def missing(result: Result) -> list[str]:
    """The lines that say what is missing."""
    assert result.exit_code == 2, result.output
    assert result.output.endswith("It cannot be run yet.\n")
    block = result.output.partition("Missing:\n")[2]
    return re.findall(r"^  (.+)$", re.split(r"^\S", block, flags=re.MULTILINE)[0], flags=re.MULTILINE)
