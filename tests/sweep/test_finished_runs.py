"""When a run of a sweep is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedml_spurious.experiment.run_folder import config_text
from fedml_spurious.sweep.plan import SweepRun


@pytest.mark.parametrize("report", [True, False])
def test_a_run_without_its_results_or_the_report_that_was_asked_for_is_not_finished(
    report: bool, tmp_path: Path
) -> None:
    config = {
        "data_args": {"dataset": "colored_mnist", "partition": {"source": "digits", "clients": 3}},
        "experiment_args": {"report": report},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    run = SweepRun(tmp_path / "sweep.yaml", (), {}, 0, tmp_path, None)
    (tmp_path / "config.yaml").write_text(config_text(run.settings()))
    needed = ["results.csv", "table.tex", *(["report.html"] if report else [])]
    for name in needed:
        (tmp_path / name).touch()
    assert run.is_finished()
    for name in needed:
        (tmp_path / name).unlink()
        assert not run.is_finished(), name
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({}, "fl3 all"),
        ({"train_args.epochs": 1}, "fl3 epochs=1"),
        ({"data_args.partition.map_divergence": 0.33, "data_args.partition.limit": 180}, "fl3 0.33, 180"),
    ],
)
def test_a_progress_line_ends_with_what_tells_runs_apart(cell: dict[str, float], expected: str) -> None:
    assert SweepRun(Path("sweep.yaml"), (), cell, 3, Path("runs"), None).short == expected
