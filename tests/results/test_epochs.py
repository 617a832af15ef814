"""``table --epoch``: the models of the selected epoch, or those of the last one."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

import pytest
from finished_folders import constant, drawn, rows_of, table, write_run
from running import Finished, read_rows


def at_the_end(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float]:
    """``ft`` has a gap of 0.5, ``ours`` of 0.125."""
    return {"global": (0.5, 0.5), "ft": (1.0, 0.5), "ours": (0.75, 0.625)}[method]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", constant, last=at_the_end)


def test_every_form_shows_the_epoch_that_is_asked_for(run: Path) -> None:
    found = {row["method"]: row for row in rows_of(run, "--epoch", "last")}
    assert [found["ft"][name] for name in ("acc_b", "disparity", "epoch")] == ["1.0", "0.5", "last"]
    assert (float(found["ours"]["kept"]), float(found["ours"]["taken_back"])) == (0.5, 0.75)
    assert [(row["acc_b"], row["epoch"]) for row in rows_of(run)] == [
        ("0.5", "selected"), ("0.75", "selected"), ("0.625", "selected"),
    ]  # fmt: skip
    for form in ("terminal", "markdown", "latex"):
        last = table(run, "--epoch", "last", "--format", form).output
        name = "MNIST (colored\\_mnist)" if form == "latex" else "MNIST (colored_mnist)"
        assert f"{name}, last epoch: client mean of 4 clients" in last
        assert f"{name}, last epoch: beside the paper's Table 1" in last
        assert f"{name}, last epoch: client mean of the disparity" in last
        assert "gains over the global model on the same clients, last epoch, in percent" in " ".join(
            last.split()
        )
        assert "selected epoch" not in last
        default = table(run, "--format", form).output
        assert f"{name}, selected epoch: client mean of 4 clients" in default
        assert "last epoch" not in default
        assert default == table(run, "--epoch", "selected", "--format", form).output
    assert re.search(r"^ft +1\.000 +0\.500 +0\.500 ", table(run, "--epoch", "last").output, re.M)


def test_several_data_sets_say_the_epoch_too(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, drawn, last=drawn, dataset=name) for name in ("one", "two")]
    assert "Accuracies, selected epoch, client mean" in table(*runs).output
    assert "Accuracies, last epoch, client mean" in table(*runs, "--epoch", "last").output


def test_what_is_said_of_the_last_epoch(run: Path) -> None:
    said = " ".join(table(run, "--epoch", "last").output.split())
    assert "Last epoch of every personal model, whichever was selected." in said
    assert "Selected epoch" not in said


def test_a_run_that_kept_no_last_epoch_is_refused(tmp_path: Path, run: Path) -> None:
    older = write_run(tmp_path / "older", constant)
    for form in ("terminal", "markdown", "latex", "csv"):
        result = table(run, older, "--epoch", "last", "--format", form)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"Error: {older}: has no results_last.csv; an older version made this run, and kept the selected "
            "epoch alone. Leave --epoch out, or make the run again with another --output\n"
        )


def test_a_broken_last_epoch_is_named(run: Path) -> None:
    text = (run / "results_last.csv").read_text()
    (run / "results_last.csv").write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert table(run).exit_code == 0
    result = table(run, "--epoch", "last")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{run / 'results_last.csv'}: has no row of client 0003 for ours" in result.stderr


def test_runs_must_agree_on_the_epoch_that_is_shown(tmp_path: Path, run: Path) -> None:
    """At the selected epoch both have the same numbers."""
    other = write_run(tmp_path / "other", constant, last=constant)
    assert table(run, other).exit_code == 0
    result = table(run, other, "--epoch", "last")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ft with fl_seed 0 and p_seed 0: both have it, with different numbers" in result.stderr


def test_a_run_of_this_version_has_both(finished: Finished) -> None:
    for epoch, file in (("selected", "results.csv"), ("last", "results_last.csv")):
        rows = [row for row in read_rows(finished.folder / file) if row["method"] == "ours"]
        ours = rows_of(finished.folder, "--epoch", epoch)[-1]
        # As many clients for either seed: the mean of means is the mean.
        assert float(ours["acc_b"]) == pytest.approx(fmean(float(row["acc_b"]) for row in rows))
        assert float(ours["acc_adv"]) == pytest.approx(fmean(float(row["acc_adv"]) for row in rows))


@pytest.mark.parametrize(
    ("options", "ties", "batchnorm"),
    [
        (
            {},
            "earliest",
            "under the batch's statistics, in the adversarial term under running ones (an older version)",
        ),
        (
            {"selection_ties": "latest", "batchnorm_mode": "frozen"},
            "latest",
            "under the global model's statistics",
        ),
        (
            {"selection_ties": "earliest", "batchnorm_mode": "batch"},
            "earliest",
            "under the batch's statistics",
        ),
    ],
)
def test_ties_and_batchnorm_are_said(
    tmp_path: Path, options: dict[str, str], ties: str, batchnorm: str
) -> None:
    run = write_run(
        tmp_path / "run", constant, last=constant, sections={"personalization_args": options | {"epochs": 2}}
    )
    said = " ".join(table(run).output.split())
    assert (
        "Selected epoch: ft by validation accuracy; ours by validation accuracy minus the decrease of "
        f"adversarial transferability; of equals the {ties}. BatchNorm while fine-tuning: {batchnorm}. "
    ) in said
    last = " ".join(table(run, "--epoch", "last").output.split())
    assert f"whichever was selected. BatchNorm while fine-tuning: {batchnorm}. " in last


def test_methods_with_a_batchnorm_mode_of_their_own_are_named(tmp_path: Path) -> None:
    methods = ("global", "ft", "head", "local")
    sections = {"personalization_args": {"batchnorm_mode": "frozen"}}
    run = write_run(tmp_path / "run", lambda *address: (0.5, 0.5), methods=methods, sections=sections)
    said = " ".join(table(run).output.split())
    assert (
        "BatchNorm while fine-tuning: ft, head under the global model's statistics; local under the batch's "
        "statistics."
    ) in said


def test_without_personal_models_nothing_was_selected(tmp_path: Path) -> None:
    said = table(write_run(tmp_path / "run", constant, methods=("global",))).output
    assert "BatchNorm" not in said
    assert "Selected epoch" not in said
