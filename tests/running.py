"""How tests start runs, and what they read of a run folder."""

from __future__ import annotations

import csv
import json
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
    path.write_text(yaml.safe_dump(_without_report(config)))
    return CliRunner().invoke(main, ["run", "--cf", str(path), "--output", str(folder), *options])


def _without_report(config: dict[str, Any]) -> dict[str, Any]:
    """A report takes longer than a tiny run; its own tests ask for it."""
    inside = config.get("spurious_args") or {}
    if "experiment_args" in inside:
        return config | {"spurious_args": _without_report(inside)}
    return config | {"experiment_args": {"report": False} | (config.get("experiment_args") or {})}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, of which there is at least one."""
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows, path
    return rows


def without_time(folder: Path, name: str = "results.csv") -> list[dict[str, str]]:
    rows = read_rows(folder / name)
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in rows]


def client_events(folder: Path) -> list[tuple[Any, ...]]:
    """Every piece of work that was done, in the order in which it was noted."""
    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [
        (line["method"], line["fl_seed"], line["p_seed"], line["client"], *sorted(line["options"].items()))
        for line in lines
        if line["event"] == "client"
    ]


def weights(folder: Path, fl_seed: int = 0) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"global/fl{fl_seed}/model.pt", weights_only=True)  # type: ignore[no-any-return]
