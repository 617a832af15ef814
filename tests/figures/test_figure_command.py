"""``fedml-spurious figure``: what is written, what is refused, the same bytes twice."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from finished_folders import constant, drawn, write_run

from fedml_spurious.cli import main
from fedml_spurious.figures import command
from fedml_spurious.figures.registry import FIGURES


def figure(*arguments: Path | str) -> Result:
    return CliRunner().invoke(main, ["figure", *map(str, arguments)])


def test_table_1_has_our_points_and_the_papers(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run",
        constant,
        dataset="colored_coil20",
        methods=("global", "ft", "uw", "ours"),
        fl_seeds=(0, 1),
    )
    result = figure("table1", run, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.output.split() == [str(tmp_path / "out" / name) for name in ("table1.svg", "table1.csv")]
    with (tmp_path / "out" / "table1.csv").open() as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert (rows["ft"]["acc_b"], rows["ft"]["acc_bc"], rows["ft"]["seed_pairs"]) == ("0.75", "0.5", "2")
    assert (rows["ft"]["acc_b_paper"], rows["ft"]["acc_bc_paper"]) == ("0.931", "0.891")  # Table 1, Coil20
    assert float(rows["ours"]["acc_bc_std"]) == pytest.approx(0.02 / 2**0.5)
    assert rows["uw"]["acc_b"] == rows["uw"]["acc_b_paper"] == ""


def test_text_is_text_in_svg(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    assert figure("table1", run, "--out", tmp_path).exit_code == 0
    root = ElementTree.parse(tmp_path / "table1.svg").getroot()
    words = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Acc_B", "Acc_BC", "ft", "ours", "no disparity"} <= words


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_the_same_input_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    """Also in a process of its own whose user has other settings of matplotlib."""
    run = write_run(tmp_path / "run", drawn, fl_seeds=(0, 1))
    assert figure("table1", run, "--out", tmp_path / "a", "--format", form).exit_code == 0
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: path\nsavefig.dpi: 50\n")
    subprocess.run(
        [sys.executable, "-m", "fedml_spurious.cli", "figure", "table1", str(run), "--out", "b",
         "--format", form],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    for name in (f"table1.{form}", "table1.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_list_names_every_figure_and_what_it_needs() -> None:
    result = figure("--list")
    assert result.exit_code == 0
    for kind in FIGURES.values():
        assert f"{kind.name} " in result.output
        assert kind.needs in result.output
        assert kind.option in result.output


def test_the_list_is_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = figure("--list").output
    monkeypatch.setattr(command, "terminal_width", lambda: 80)
    shown = figure("--list").output
    assert max(map(len, shown.splitlines())) <= 80 < max(map(len, whole.splitlines()))
    assert shown.split() == whole.split()
    names = [line.split()[0] for line in shown.splitlines() if not line.startswith(" ")]
    assert names == list(FIGURES)


def test_wrong_input_is_one_message(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    for arguments, message in (
        ((), "give the name of a figure"),
        (("tabel1", run), "no figure 'tabel1'. Did you mean table1?"),
        (("table1",), "give at least one run folder"),
        (("table1", tmp_path / "gone"), "no such folder"),
        (("table1", run, "--out", run / "config.yaml"), "cannot be written"),
    ):
        result = figure(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("Error: "), arguments
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not Path("figures").exists()


def test_no_module_of_figures_imports_torch() -> None:
    code = (
        "import sys, fedml_spurious.figures.command\n"
        "print([name for name in ('torch', 'fedml', 'h5py', 'matplotlib.pyplot') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
