"""What a page says and draws of runs whose numbers are known by hand, or to another library."""

from __future__ import annotations

import base64
import io
import statistics
from pathlib import Path

import numpy as np
import pytest
from finished_folders import client_row, drawn, write_audit, write_run
from PIL import Image
from running import Finished, read_rows
from scipy.stats import binomtest

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.storage import write_csv
from fedml_spurious.report.audits import make_audits, with_verdicts
from fedml_spurious.report.clients import make_explorer
from fedml_spurious.report.contents import gather, with_extras
from fedml_spurious.report.drawings import _curves, draw_curves
from fedml_spurious.report.extras import make_extras
from fedml_spurious.report.headline import headline
from fedml_spurious.report.open_run import open_run
from fedml_spurious.report.pictures import strips
from fedml_spurious.report.trajectories import make_spark
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.finished_run import FinishedRun, load_run


def test_the_intervals_of_a_client_are_wilsons_and_newcombes() -> None:
    """Wilson's by SciPy; of the difference by Newcombe 1998, method 10, from these."""
    row = client_row("ft", "0000", 0.9, 0.25, n_test=40, n_test_bc=8)
    runs = DatasetRuns.of_one(FinishedRun(Path("run"), {}, (row,), {}, {}))
    measured = make_explorer(runs, {}).rows[0].methods[0]
    ends = {}
    for name, right, of in (("acc_b", 36, 40), ("acc_bc", 2, 8)):
        ends[name] = tuple(binomtest(right, of).proportion_ci(0.95, "wilson"))
        assert getattr(measured, f"{name}_interval") == pytest.approx(ends[name])
    (low_b, high_b), (low_bc, high_bc) = ends["acc_b"], ends["acc_bc"]
    expected = (
        0.65 - ((0.9 - low_b) ** 2 + (high_bc - 0.25) ** 2) ** 0.5,
        0.65 + ((high_b - 0.9) ** 2 + (0.25 - low_bc) ** 2) ** 0.5,
    )
    assert measured.disparity_interval == pytest.approx(expected)


def test_the_worst_are_by_personal_models_and_a_tenth_of_those_that_can_be_judged() -> None:
    """Eleven clients by the worse of two methods; nineteen more have no conflicting sample."""
    rows = []
    for client in range(30):
        gap = None if client >= 11 else client / 20
        for method, more in (("global", 0.4), ("ft", 0.0), ("ours", 0.02)):
            # The global model is the worse, the lower the number.
            own = None if gap is None else (0.5 - gap if method == "global" else gap + more)
            acc_bc = None if own is None else 1.0 - own
            rows.append(
                client_row(method, f"{client:04}", 1.0, acc_bc, p_seed=None if method == "global" else 0)
            )
    runs = DatasetRuns.of_one(FinishedRun(Path("run"), {}, tuple(rows), {}, {}))
    found = make_explorer(runs, {}).rows
    assert [row.client for row in found[:11]] == [f"{client:04}" for client in range(10, -1, -1)]
    assert [row.client for row in found if row.is_worst] == ["0010", "0009"]
    assert found[0].worst == pytest.approx(10 / 20 + 0.02)
    alone = DatasetRuns.of_one(FinishedRun(Path("run"), {}, tuple(rows[::3]), {}, {}))
    assert make_explorer(alone, {}).rows[0].client == "0000"


@pytest.mark.parametrize(
    ("disparities", "said"),
    [
        # Two clients, of whom either may be drawn twice.
        ({"global": (0.0, 0.0), "ft": (0.2, 0.3), "ours": (0.25, 0.45)},
         "of ours lies 0.100 [0.050, 0.150] (95% interval) above that of fine-tuning"),
        ({"global": (0.0, 0.0), "ft": (0.25, 0.45), "ours": (0.2, 0.3)},
         "of ours lies 0.100 [0.050, 0.150] (95% interval) below that of fine-tuning"),
        ({"global": (0.3, 0.5), "ft": (0.2, 0.3)},
         "ft lowers the accuracy disparity of the global model by 0.150 [0.100, 0.200]"),
        ({"global": (0.2, 0.3), "ft": (0.3, 0.5)},
         "ft raises the accuracy disparity of the global model by 0.150 [0.100, 0.200]"),
    ],
)  # fmt: skip
def test_the_words_have_the_sign_of_a_difference(
    disparities: dict[str, tuple[float, float]], said: str
) -> None:
    rows = tuple(
        client_row(method, f"000{client}", 0.75, 0.75 - gap, p_seed=None if method == "global" else 0)
        for method, gaps in disparities.items()
        for client, gap in enumerate(gaps)
    )
    runs = DatasetRuns.of_one(FinishedRun(Path("run"), {}, rows, {}, {}))
    assert said in headline(DatasetTable.of(runs, "mean"))


def test_budgets_are_listed_in_percent_and_the_one_that_was_taken_is_marked(finished: Finished) -> None:
    (part,) = gather([open_run(finished.folder)]).runs
    table = next(one for one in part.trail if not isinstance(one, str) and "Budgets" in one.title)
    expected = []
    for seed in ("fl0", "fl1"):
        stored = open_run(finished.folder).budgets[seed]
        for eps, rate in stored.trail:
            expected.append((seed, f"{eps:.4g}", f"{100 * rate:.1f}%", eps == stored.eps))
    assert [(*row[:3], row[3].startswith("chosen")) for row in table.rows] == expected


def test_a_trajectory_ends_where_it_ended_and_better_is_higher() -> None:
    """103 rows, of which every fifth is shown; in a drawing of 120 by 50 with 0 at the top."""
    rows = [{"acc_b": str(batch / 102), "acc_bc": str(1 - batch / 102)} for batch in range(103)]
    spark = make_spark("ft", rows)
    assert spark is not None
    for line, first, last in ((spark.acc_b, 50, 0), (spark.acc_bc, 0, 50)):
        points = [tuple(map(float, point.split(","))) for point in line.split()]
        assert points[-1] == (120, last)
        assert abs(points[0][1] - first) <= 2  # the first ones may be thinned out
        assert len(points) == 21
    assert spark.text == "Acc_B 0.00 to 1.00, Acc_BC 1.00 to 0.00"


def test_strips_show_a_clients_aligned_training_images_and_its_conflicting_ones(
    conflicting_splits: Path,
) -> None:
    """Every image beside the sample that its caption names."""
    folder = SplitFolder(conflicting_splits)
    client = folder.client_ids[0]
    found = strips(folder, client)
    assert [strip.kind for strip in found] == ["aligned", "conflicting"]
    train = folder.load(client, "train")
    for strip, samples in zip(
        found, (train.select(train.aligned == 1), folder.load(client, "test_bc")), strict=True
    ):
        with Image.open(io.BytesIO(base64.b64decode(strip.source.partition(",")[2]))) as image:
            pixels = np.asarray(image.convert("RGB"), float)
        names = strip.caption.split(", ")
        # The first of every class, the second of every class, and so on.
        before = [int((samples.label[:row] == label).sum()) for row, label in enumerate(samples.label)]
        chosen = sorted(range(len(before)), key=lambda row: (before[row], samples.label[row]))[:6]
        assert len(names) == len(chosen)
        for place, (name, row) in enumerate(zip(names, chosen, strict=True)):
            assert name.split()[0] == folder.meta.class_names[samples.label[row]]
            assert name.split()[1] == folder.meta.spurious_names[samples.spurious[row]]
            shown = pixels[:, 34 * place : 34 * place + 32].mean(axis=(0, 1))
            assert shown == pytest.approx(samples.image[row].mean(axis=(0, 1)), abs=10)  # resized, and lossy


def test_an_audit_is_of_the_client_of_its_federated_seed(tmp_path: Path) -> None:
    """Where seeds have clients of their own, fl1 says nothing of the client of that id in fl0."""
    run = write_run(tmp_path / "run", drawn, fl_seeds=(0, 1), data={0: "a", 1: "b"}, methods=("global", "ft"))
    write_audit(run)
    rows = read_rows(run / "audit.csv")
    for row in rows:
        row["verdict"] = "more" if row["fl_seed"] == "1" else "cannot say"
    write_csv(run / "audit.csv", tuple(rows[0]), rows)
    runs = DatasetRuns.of_one(load_run(run))
    audits = make_audits(runs, {run: "run"})
    found = with_verdicts(make_explorer(runs, {}), audits, own_clients=True)
    said = {(row.fl_seed, one.verdict) for row in found.rows for one in row.verdicts}
    assert said == {(0, "cannot say"), (1, "more")}
    assert all(len(row.audit) == 1 for row in found.rows)


def test_the_curves_are_the_rows_of_rounds_csv(finished: Finished) -> None:
    rounds = open_run(finished.folder).rounds
    for rows in rounds.values():
        drawing = _curves(rows, [])
        accuracy, loss = drawing.figure.axes
        measured = [row for row in rows if row["acc_b"]]
        assert len(measured) < len(rows), "this test shows nothing of rounds that were not measured"
        expected = {
            "Acc_B": [(int(row["round"]), float(row["acc_b"])) for row in measured],
            "Acc_BC": [(int(row["round"]), float(row["acc_bc"])) for row in measured],
        }
        found = {str(line.get_label()): list(map(tuple, line.get_xydata())) for line in accuracy.get_lines()}
        assert found == expected
        (line,) = loss.get_lines()
        assert list(line.get_ydata()) == [float(row["train_loss"]) for row in rows]
    assert len(list(draw_curves("run", rounds))) == 2


def test_trajectories_are_of_the_first_pair_of_seeds_of_a_client(finished: Finished) -> None:
    runs = DatasetRuns.of_one(load_run(finished.folder))
    explorer = make_explorer(runs, {})
    for row, extra in zip(explorer.rows, make_extras(runs, explorer, {}, 10**6), strict=True):
        for spark in extra.trajectories:
            path = finished.folder / f"personal/{spark.method}/fl0_p0/trajectory.csv"
            own = [one for one in read_rows(path) if one["client"] == row.client]
            ends = [float(own[place]["acc_b"]) for place in (0, -1)]
            assert spark.text.startswith(f"Acc_B {ends[0]:.2f} to {ends[1]:.2f}")
    assert statistics.fmean(len(extra.trajectories) for extra in make_extras(runs, explorer, {}, 10**6)) == 2


def test_what_was_left_out_for_its_size_is_said_and_nothing_else(finished: Finished) -> None:
    page = gather([open_run(finished.folder)])
    (whole,) = with_extras(page, 10**6).datasets
    assert whole.left_out == ""
    sizes = [extra.size for extra in whole.extras]
    (some,) = with_extras(page, sizes[0] + sizes[1]).datasets
    assert some.left_out == ("To keep the page small, images and trajectories are those of the first 2.")
    (none,) = with_extras(page, sizes[0] - 1).datasets
    assert none.left_out == ""
