"""A report that cannot be drawn, at the end of a run that is finished."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from quick_runs import quick_config, quick_splits
from running import invoke, read_rows

from fedml_spurious.cli import main
from fedml_spurious.report import page


def test_a_report_that_fails_hides_no_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        click.echo("drawing")
        raise ValueError("a [red] herring\nof two lines")

    monkeypatch.setattr(page, "make_page", fails)
    run, config = tmp_path / "run", quick_config(quick_splits(tmp_path / "splits"))
    config["experiment_args"]["report"] = True
    result = invoke(config, run)
    assert result.exit_code == 0, result.output
    table, _, _ = result.stdout.partition("drawing")
    assert "Acc_BC" in table  # which is there before anything is drawn
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning")]
    assert len(warnings) == 1
    assert f"{run / 'report.html'} was not written (ValueError: a [red] herring of two lines)" in warnings[0]
    log = (run / "run.log").read_text()
    assert "Traceback" in log
    assert "herring" in log
    assert len(read_rows(run / "results.csv")) == 4
    assert not (run / "report.html").exists()
    # The command that writes nothing else does fail.
    assert isinstance(CliRunner().invoke(main, ["report", str(run)]).exception, ValueError)
