"""How tests start runs, and what they read of a run folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from click.testing import CliRunner, Result

from fedml_spurious.cli import main


class Finished(NamedTuple):
    """A finished run: its folder, its configuration, and what the command line printed."""

    folder: Path
    config: dict[str, Any]
    result: Result


def invoke(config: dict[str, Any], folder: Path, *options: str) -> Result:
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return CliRunner().invoke(main, ["run", "--cf", str(path), "--output", str(folder), *options])


def without_time(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as stream:
        return [
            {name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(stream)
        ]


def weights(folder: Path, fl_seed: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"global/fl{fl_seed}/model.pt", weights_only=True)  # type: ignore[no-any-return]
