"""Weights & Biases without a connection: what a run logs ends up in its offline file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fedml_spurious.cli import main


def test_rounds_and_table_are_logged_offline(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    logged: list[dict[str, Any]] = []
    finish = wandb.sdk.wandb_run.Run.log

    def log(run: Any, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        logged.append(data)
        finish(run, data, *args, **kwargs)

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log", log)
    config = tiny | {"tracking_args": {"enable_wandb": True}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    folder = tmp_path / "run"
    result = CliRunner().invoke(main, ["run", "--cf", str(tmp_path / "run.yaml"), "--output", str(folder)])
    assert result.exit_code == 0, result.output
    assert [row["round/round"] for row in logged if "round/round" in row] == [0, 1, 2]
    assert "table/ours/disparity" in logged[-1]
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert not list(tmp_path.glob("wandb"))
