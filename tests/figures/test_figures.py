"""Every figure of a small run that recorded all; its numbers from the run's tables by another way."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from finished_folders import client_row, write_run
from running import Finished

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.cli import main
from fedml_spurious.figures.drawing import can_draw, draw_figure, picture_bytes
from fedml_spurious.figures.registry import FIGURES, find_figure
from fedml_spurious.figures.runs import map_title
from fedml_spurious.results.finished_run import FinishedRun

OF_ONE_RUN = [name for name, kind in FIGURES.items() if kind.option.startswith("analysis_args")]


def figure(*arguments: Path | str) -> Result:
    return CliRunner().invoke(main, ["figure", *map(str, arguments)])


def rows_of(name: str, out: Path, *runs: Path) -> list[dict[str, str]]:
    result = figure(name, *runs, "--out", out)
    assert result.exit_code == 0, result.output
    with (out / f"{find_figure(name).name}.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_recorded_run_draws_every_figure_to_the_same_small_bytes(name: str, recorded: Finished) -> None:
    first, second = (picture_bytes(draw_figure(FIGURES[name], [recorded.folder]), "svg") for _ in range(2))
    assert first == second
    assert len(first) < 75_000  # of eight panels; one takes 10,000
    assert b"<text" in first


def test_the_legend_of_a_narrow_panel_stays_inside(recorded: Finished) -> None:
    figure = draw_figure(FIGURES["fig6h"], [recorded.folder]).figure
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert len(legend.get_texts()) == 2


def test_the_legend_of_table_1_has_plain_markers_and_the_papers_last(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "run", lambda *_: (0.5, 0.4), methods=("global", "ft", "ours"), fl_seeds=(0, 1)
    )
    (legend,) = draw_figure(FIGURES["table1"], [run]).figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["global", "ft", "ours", "hollow: the paper"]
    assert [handle.get_marker() for handle in legend.legend_handles] == ["o", "s", "*", "o"]


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_run_that_recorded_nothing_is_told_the_option(name: str, tmp_path: Path) -> None:
    methods = ("global", "ft", "adv", "l2", "ours")
    run = write_run(tmp_path / "run", lambda *_: (0.5, 0.4), methods=methods)
    result = figure(name, run, "--out", tmp_path)
    assert result.exit_code == 2
    assert str(run) in result.stderr
    assert f"--set '{FIGURES[name].option}'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not can_draw(FIGURES[name], [run])
    assert not (tmp_path / f"{name}.csv").exists()


def test_figures_have_the_papers_numbers_too() -> None:
    for given, name in (("4", "fig4"), ("figure6b", "fig6b"), ("Figure 7", "fig7"), ("TWINS", "twins")):
        assert find_figure(given) is FIGURES[name]


def trajectory(run: Path, method: str) -> pd.DataFrame:
    return pd.read_csv(run / f"personal/{method}/fl0_p0/trajectory.csv", dtype={"client": str})


def test_figure_4_is_the_mean_over_clients_that_stay_where_they_end(
    recorded: Finished, tmp_path: Path
) -> None:
    found = rows_of("4", tmp_path, recorded.folder)
    table = trajectory(recorded.folder, "ft").pivot(index="batch", columns="client", values="acc_bc").ffill()
    assert [int(row["batch"]) for row in found] == list(table.index)
    assert [float(row["acc_bc"]) for row in found] == pytest.approx(table.mean(axis=1).tolist())


def test_figure_5_has_both_correlations(recorded: Finished, tmp_path: Path) -> None:
    found = rows_of("5", tmp_path, recorded.folder)
    by_batch = [row for row in found if row["of"] == "batch"]
    pairs = [[float(row[name]) for row in by_batch] for name in ("disparity", "acc_adv")]
    (over_batches,) = (row for row in found if row["of"] == "correlation over batches")
    assert float(over_batches["correlation"]) == pytest.approx(np.corrcoef(*pairs)[0, 1])
    clients = [row for row in found if row["of"] == "client"]
    last = trajectory(recorded.folder, "ft").groupby("client").last()
    assert [row["client"] for row in clients] == list(last.index)
    for name in ("acc_adv", "disparity"):
        assert [float(row[name]) for row in clients] == pytest.approx(last[name].tolist())
    (over_clients,) = (row for row in found if row["of"] == "correlation over clients")
    assert over_clients["correlation"] == ""  # two clients say nothing


def test_figure_6_has_the_losses_of_the_paper(recorded: Finished, tmp_path: Path) -> None:
    """Loss_BC - Loss_B, and by how much Loss_Adv fell from its largest mean."""
    found = rows_of("6", tmp_path, recorded.folder)
    assert {(row["panel"], row["method"]) for row in found} == set(
        zip("abcdefgh", ("ft", "adv", "l2", "ours") * 2, strict=True)
    )
    table = trajectory(recorded.folder, "l2")
    gap = table.assign(gap=table.loss_bc - table.loss_b)
    wide = {
        name: gap.pivot(index="batch", columns="client", values=name).ffill().mean(axis=1)
        for name in ("gap", "loss_adv")
    }
    own = [row for row in found if row["panel"] == "g"]
    assert [float(row["loss_disparity"]) for row in own] == pytest.approx(wide["gap"].tolist())
    fell = (wide["loss_adv"].max() - wide["loss_adv"]).tolist()
    assert [float(row["loss_adv_decrease"]) for row in own] == pytest.approx(fell)
    assert rows_of("6g", tmp_path, recorded.folder) == own


def test_figure_7_and_the_first_order_count_every_sample(recorded: Finished, tmp_path: Path) -> None:
    table = pd.read_csv(recorded.folder / "gamma.csv")
    found = rows_of("7", tmp_path, recorded.folder)
    assert {row["method"] for row in found} == {"ft", "l2", "adv", "ours"}
    for method in ("ft", "ours"):
        own = [row for row in found if row["method"] == method]
        values = table[(table.method == method) & (table.epoch == 1)].gamma
        assert int(own[0]["samples"]) == len(values)
        assert float(own[0]["median"]) == pytest.approx(values.median())
        assert sum(float(row["share"]) for row in own) == pytest.approx(1)
    errors = {row["method"]: row for row in rows_of("figd1", tmp_path, recorded.folder)}
    chosen = table[(table.method == "ft") & (table.selected == 1)]
    relative = ((chosen.transferability - chosen.first_order) / chosen.transferability).abs()
    assert float(errors["ft"]["mean_error"]) == pytest.approx(relative.mean())
    assert float(errors["ft"]["median_error"]) == pytest.approx(relative.median())
    assert errors["ft"]["paper"] == "0.019"


def test_figure_1b_weighs_pairs(recorded: Finished, tmp_path: Path) -> None:
    table = pd.read_csv(recorded.folder / "divergence.csv")
    found = rows_of("1b", tmp_path, recorded.folder)
    own = table[(table.layer == "all") & (table.kind == "color") & (table["round"] == 1)]
    expected = (own.cosine * own.pairs).sum() / own.pairs.sum()
    (row,) = (row for row in found if (row["kind"], row["round"]) == ("color", "1"))
    assert float(row["cosine"]) == pytest.approx(expected)
    assert int(row["pairs"]) == 3  # three clients train in a round
    layers = {row["layer"] for row in found if row["overlap"]}
    assert {"all", "features.0"} < layers


def test_maps_are_named_of_coloured_images_alone() -> None:
    def title(dataset: str, **options: float) -> str:
        config = {"data_args": {"dataset": dataset, "partition": {"clients": 4, **options}}}
        rows = [client_row("global", "0000", 0.5, 0.4, dataset=dataset)]
        return map_title(FinishedRun(Path("runs/hair"), config, rows, {}, {}))

    assert title("celeba_synthetic") == "hair"
    assert title("colored_mnist") == "a map for each client"
    assert title("colored_coil20", map_divergence=0) == "one shared map"
    assert title("colored_mnist", map_divergence=0.25) == "maps that differ in 25% of the classes"


def test_the_twins_are_means_over_clients(recorded: Finished, tmp_path: Path) -> None:
    table = pd.read_csv(recorded.folder / "twins.csv")
    found = {(row["method"], row["epoch"]): row for row in rows_of("twins", tmp_path, recorded.folder)}
    own = table[(table.method == "ours") & (table.epoch == 2)]
    for name in ("flip_map", "agree_color", "agree_shape", "acc_red"):
        assert float(found["ours", "2"][name]) == pytest.approx(own[name].mean())
    assert {("global", "0"), ("global", "selected")} <= found.keys()
    chosen = table[(table.method == "ft") & (table.selected == 1)]
    assert float(found["ft", "selected"]["flip_map"]) == pytest.approx(chosen.flip_map.mean())
    share = f"ft {fmean(chosen.agree_color):.0%} and {fmean(chosen.agree_shape):.0%}"
    assert share in " ".join(recorded.result.stdout.split())


def with_options(folder: Path, values: Any, **options: Any) -> Path:
    """A run whose partition has these options."""
    partition = {"source": "digits", **options}
    run = write_run(folder, values, methods=("global", "ft", "uw", "ours"), fl_seeds=(0, 1))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data_args"] = {"dataset": "colored_mnist", "partition": partition}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_figure_3_sets_one_place_beside_the_federation(tmp_path: Path) -> None:
    central = with_options(tmp_path / "central", lambda *_: (0.9, 0.5), clients=1)
    federated = with_options(tmp_path / "federated", lambda _, fl, *rest: (0.8, 0.7 + 0.1 * fl), clients=4)
    rows = rows_of("3", tmp_path, federated, central)
    assert [(row["setting"], row["acc_b"], row["fl_seeds"]) for row in rows] == [
        ("centralized", "0.9", "2"), ("federated", "0.8", "2"),
    ]  # fmt: skip
    assert float(rows[1]["acc_bc_std"]) == pytest.approx(0.1 / 2**0.5)
    result = figure("3", federated, "--out", tmp_path)
    assert result.exit_code == 2
    assert "no centralized run of scikit-learn's digits" in result.stderr


def test_figure_8_is_over_the_sampling_factor(tmp_path: Path) -> None:
    runs = [
        with_options(tmp_path / f"run{factor}", lambda *_, factor=factor: (0.9, 0.6 + factor),
                     bias_conflicting_fraction=factor)
        for factor in (0.1, 0.02)
    ]  # fmt: skip
    rows = rows_of("8", tmp_path, *runs)
    assert [(row["sampling_factor"], float(row["acc_bc"])) for row in rows] == [
        ("0.02", pytest.approx(0.62)), ("0.1", pytest.approx(0.7)),
    ]  # fmt: skip
    for given, message in ((runs[:1], "two or more shares"), ([tmp_path / "gone"], "no such folder")):
        result = figure("8", *given, "--out", tmp_path)
        assert result.exit_code == 2
        assert message in result.stderr


def test_figure_8_counts_the_share_where_no_option_sets_it(
    splits: Path, conflicting_splits: Path, tmp_path: Path
) -> None:
    """Of split files that were there already: on the images themselves, of the clients that have a result."""

    def only_two(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
        return (0.9, 0.6) if client < 2 else None

    runs, shares = [], []
    for name, data in (("more", conflicting_splits), ("few", splits)):
        sections = {"data_args": {"data_cache_dir": str(data)}}
        runs.append(
            write_run(tmp_path / name, only_two, methods=("global", "uw"), clients=3, sections=sections)
        )
        files = SplitFolder(data)
        shares.append(fmean(1 - files.load(client, "train").aligned.mean() for client in ("0000", "0001")))
    assert shares[0] > shares[1]
    rows = rows_of("8", tmp_path, *runs)
    assert [float(row["sampling_factor"]) for row in rows] == [pytest.approx(share) for share in shares[::-1]]
    gone = write_run(tmp_path / "gone", only_two, methods=("global", "uw"), clients=3)
    # A client that the split files there do not have: they were made anew.
    others = write_run(
        tmp_path / "others", lambda *_: (0.9, 0.6), methods=("global", "uw"), clients=5, sections=sections
    )
    for run in (gone, others):
        result = figure("8", *runs, run, "--out", tmp_path)
        assert result.exit_code == 2
        assert "its split files, which tell the share, are gone or are others" in result.stderr


def test_a_figure_of_another_run_than_its_methods_says_which(recorded: Finished, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(recorded.folder, run)
    shutil.rmtree(run / "personal/l2")
    shutil.rmtree(run / "personal/adv")
    result = figure("6", run, "--out", tmp_path)
    assert result.exit_code == 2
    assert f"{run} (adv, l2): no trajectories recorded" in result.stderr
    without = write_run(tmp_path / "other", lambda *_: (0.5, 0.4))
    result = figure("6", without, "--out", tmp_path)
    assert f"{without}: has no adv, l2; add it to experiment_args.methods" in result.stderr


def test_every_cell_of_a_figure_is_a_column(recorded: Finished) -> None:
    for name in OF_ONE_RUN:
        drawing = draw_figure(FIGURES[name], [recorded.folder])
        rows: tuple[Mapping[str, Any], ...] = drawing.rows
        assert all(set(row) <= set(drawing.columns) for row in rows), name
