"""What is said where a folder is none of a run, and what small digits are called, whatever made the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from finished_folders import constant, table, write_run

from fedml_spurious.cli import main
from fedml_spurious.common.checksums import keep_checksums
from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.paper import DIGITS


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A sweep of two cells."""
    for cell in ("epochs=1", "epochs=2"):
        write_run(tmp_path / "sweep" / "runs" / cell / "fl0", constant)
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    return tmp_path / "sweep"


@pytest.mark.parametrize("command", [["table"], ["report"], ["figure", "table1"], ["figure", "fig4"]])
def test_whoever_gives_a_sweep_is_told_what_to_give(command: list[str], swept: Path) -> None:
    refused = CliRunner().invoke(main, [*command, str(swept)])
    assert refused.exit_code == 2
    cell = swept / "runs" / "epochs=1"
    expected = f"is the folder of a sweep; give those that belong together, such as {cell}/*"
    assert f"Error: {swept}: {expected}\n" == refused.output
    # What is advised for each of the folders on the way works.
    for place, given in ((swept / "runs", f"{cell}/*"), (cell, f"{cell}/*")):
        said = CliRunner().invoke(main, [*command, str(place)]).output
        assert "is no run folder, it has no config.yaml, but has runs below it; give " in said
        assert given in said
    assert table(*sorted(cell.glob("*"))).exit_code == 0


def test_a_sweep_of_one_cell_names_all_of_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "all" / "fl0", constant)
    (tmp_path / "sweep.json").write_text("{}")
    assert f"is the folder of a sweep; give {tmp_path}/runs/*/*\n" in table(tmp_path).output
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "sweep.json").write_text("{}")
    assert "of which no run has begun" in table(tmp_path / "empty").output


def digits_run(folder: Path, where: str) -> Path:
    """A run on split files of the small digits, of which this tells."""
    data = folder / "splits"
    sections = {"data_args": {"data_cache_dir": str(data)}}
    if where == "configuration":
        sections = {"data_args": {"partition": {"source": "digits"}}}
    run = write_run(folder / "run", constant, sections=sections)
    if where == "environment":
        (run / "environment.json").write_text(json.dumps({"data_source": "digits"}))
    if where == "split files":
        data.mkdir()
        (data / "colored_mnist_meta.json").write_text(json.dumps({"options": {"source": "digits"}}))
    return run


@pytest.mark.parametrize("where", ["environment", "split files", "configuration"])
def test_small_digits_are_not_called_mnist(where: str, tmp_path: Path) -> None:
    run = digits_run(tmp_path, where)
    assert load_run(run).title == DIGITS
    shown = table(run).output
    assert f"{DIGITS} (colored_mnist), selected epoch" in shown
    assert "beside the paper's Table 1, which is of MNIST" in shown


@pytest.mark.parametrize("content", ["", "[]", '{"options": 5}', '{"options": {"source": null}}'])
def test_split_files_that_tell_nothing_take_nothing_away(content: str, tmp_path: Path) -> None:
    run = digits_run(tmp_path, "split files")
    (tmp_path / "splits" / "colored_mnist_meta.json").write_text(content)
    assert load_run(run).title == "MNIST"


@pytest.mark.parametrize("content", ['{"data_source": "digits", "command": []}', "{", "[]", "[" * 10**5])
def test_an_environment_that_was_edited_refuses_no_table_and_no_report(content: str, tmp_path: Path) -> None:
    """No number depends on it; the checksum is that of the environment before."""
    run = digits_run(tmp_path, "environment")
    keep_checksums(run)
    (run / "environment.json").write_text(content)
    result = table(run)
    assert result.exit_code == 0, result.output
    assert load_run(run).title == (DIGITS if "digits" in content else "MNIST")
    result = CliRunner().invoke(main, ["report", str(run)])
    assert result.exit_code == 0, result.output
    assert "environment.json cannot be read, or was edited" in (run / "report.html").read_text()


def test_split_files_and_parts_of_a_run_are_not_taken_for_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "colored_mnist_meta.json").write_text("{}")
    refused = table(splits)
    assert refused.exit_code == 2
    expected = "holds the clients' split files of colored_mnist, and no run; give folders of finished runs"
    assert f"Error: {splits}: {expected}\n" == refused.output
    (tmp_path / "config.yaml").write_text("theme: dark\n")  # of somebody else
    assert table(splits).output == refused.output
    run = write_run(tmp_path / "run", constant)
    splits.rename(run / "data")
    around = f"give the run around it, {run}\n"
    assert table(run / "data").output.endswith(f"split files of colored_mnist, and no run; {around}")
    assert table(run / "global" / "fl0").output.endswith(f"is inside a run folder; {around}")
    monkeypatch.chdir(tmp_path)
    assert table("run/global").output.endswith("is inside a run folder; give the run around it, run\n")
