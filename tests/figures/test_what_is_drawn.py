"""What stands in the pictures, read from their lines, bars and cells: the tables behind, by another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_folders import write_run
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from running import Finished
from swept import Wanted, write_sweep

from fedml_spurious.common.storage import write_csv
from fedml_spurious.figures.drawing import draw_figure
from fedml_spurious.figures.registry import FIGURES

Values = list[float]


def panels(name: str, *runs: Path) -> list[Axes]:
    return figure_of(name, *runs).axes


def figure_of(name: str, *runs: Path) -> Figure:
    return draw_figure(FIGURES[name], list(runs)).figure


def lines(axes: Axes) -> dict[str, tuple[Values, Values]]:
    """The lines that the legend names, by label."""
    found = {str(line.get_label()): line for line in axes.get_lines()}
    return {
        label: (list(line.get_xdata()), np.asarray(line.get_ydata(), float).tolist())
        for label, line in found.items()
        if not label.startswith("_")
    }


def mean_of(run: Path, method: str, *names: str) -> pd.DataFrame:
    """Client means over batches; a client that has fewer batches stays where it ends."""
    table = pd.read_csv(run / f"personal/{method}/fl0_p0/trajectory.csv", dtype={"client": str})
    found = {name: wide(table, name).mean(axis=1) for name in names}
    return pd.DataFrame(found)


def wide(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table.pivot(index="batch", columns="client", values=name).ffill()


def require_lines(axes: Axes, columns: dict[str, str], expected: pd.DataFrame) -> None:
    found = lines(axes)
    assert found.keys() == columns.keys()
    for label, column in columns.items():
        x, y = found[label]
        assert x == list(expected.index)
        assert y == pytest.approx(expected[column].tolist()), label


def test_figure_4_draws_both_means_and_shades_the_middle_half(tmp_path: Path) -> None:
    """Of five clients with drawn accuracies and one to five batches, the last of which stays."""
    rng = np.random.default_rng(4)
    run = write_run(tmp_path / "run", lambda *_: (0.5, 0.4), methods=("global", "ft"), clients=5)
    table = pd.DataFrame(
        [
            {"client": f"{client:04}", "epoch": 1, "batch": batch}
            | {name: rng.random() for name in ("acc_b", "acc_bc")}
            for client in range(5)
            for batch in range(client + 1)
        ]
    )
    (run / "personal/ft/fl0_p0").mkdir(parents=True)
    table.to_csv(run / "personal/ft/fl0_p0/trajectory.csv", index=False)
    (axes,) = panels("fig4", run)
    require_lines(axes, {"Acc_B": "acc_b", "Acc_BC": "acc_bc"}, mean_of(run, "ft", "acc_b", "acc_bc"))
    for shade, column in zip(axes.collections, ("acc_b", "acc_bc"), strict=True):
        vertices = pd.DataFrame(shade.get_paths()[0].vertices, columns=["batch", "value"])
        ends = vertices.groupby("batch").value.agg(["min", "max"])
        for end, share in (("min", 0.25), ("max", 0.75)):
            assert ends[end].tolist() == pytest.approx(wide(table, column).quantile(share, axis=1).tolist())


def test_figure_5_draws_disparity_over_acc_adv(recorded: Finished) -> None:
    left, right = panels("fig5", recorded.folder)
    expected = mean_of(recorded.folder, "ft", "disparity", "acc_adv")
    require_lines(left, {"Acc_B - Acc_BC": "disparity", "Acc_Adv": "acc_adv"}, expected)
    table = pd.read_csv(recorded.folder / "personal/ft/fl0_p0/trajectory.csv", dtype={"client": str})
    last = table.groupby("client").last()
    (points,) = right.collections
    assert np.asarray(points.get_offsets()).tolist() == last[["acc_adv", "disparity"]].to_numpy().tolist()
    assert (right.get_xlabel(), right.get_ylabel()) == ("Acc_Adv", "Acc_B - Acc_BC")


def test_figure_6_draws_what_each_panel_is_of(recorded: Finished) -> None:
    drawn = panels("fig6", recorded.folder)
    for axes, method in zip(drawn, ("ft", "adv", "l2", "ours") * 2, strict=True):
        expected = mean_of(recorded.folder, method, "disparity", "acc_adv", "loss_adv", "loss_b", "loss_bc")
        expected["gap"] = expected.loss_bc - expected.loss_b  # the mean of differences, all clients have both
        expected["fell"] = expected.loss_adv.max() - expected.loss_adv
        columns = {"Acc_B - Acc_BC": "disparity", "Acc_Adv": "acc_adv"}
        if axes in drawn[4:]:
            columns = {"Loss_BC - Loss_B": "gap", "MAX_Loss_Adv - Loss_Adv": "fell"}
        require_lines(axes, columns, expected)


def test_figure_7_draws_the_shares_of_gamma(recorded: Finished) -> None:
    table = pd.read_csv(recorded.folder / "gamma.csv")
    first = table[(table.epoch == 1) & (table.gamma > 0)]
    for axes, pair in zip(panels("fig7", recorded.folder), (("ft", "l2"), ("adv", "ours")), strict=True):
        drawn = {str(step.get_label()): step for step in axes.patches if isinstance(step, StepPatch)}
        assert list(drawn) == list(pair)
        for method, step in drawn.items():
            values, edges, _ = step.get_data()
            inside = first[first.method == method].gamma.clip(edges[0], edges[-1])
            counts = pd.cut(inside, edges, right=False).value_counts(sort=False).to_numpy(copy=True)
            counts[-1] += (inside == edges[-1]).sum()
            assert values.tolist() == pytest.approx((counts / len(inside)).tolist())
    rows = draw_figure(FIGURES["fig7"], [recorded.folder]).rows
    own = first[first.method == "ours"].gamma
    found = next(row for row in rows if row["method"] == "ours")
    assert [found[name] for name in ("quantile_05", "quantile_95", "min")] == pytest.approx(
        [own.quantile(0.05), own.quantile(0.95), own.min()]
    )


def test_the_first_order_is_drawn_beside_the_papers(recorded: Finished) -> None:
    table = pd.read_csv(recorded.folder / "gamma.csv")
    table = table[table.selected == 1]
    table["off"] = (table.transferability - table.first_order).abs()
    table["error"] = table.off / table.transferability.abs()
    (axes,) = panels("figd1", recorded.folder)
    methods = list(dict.fromkeys(table.method))
    groups = [table[table.method == method] for method in methods]
    expected = {
        "mean over samples": [own.error.mean() for own in groups],
        "median": [own.error.median() for own in groups],
        "of the sums": [own.off.sum() / own.transferability.abs().sum() for own in groups],
    }
    found = lines(axes)
    for label, values in expected.items():
        assert found[label] == (methods, pytest.approx(values))
    assert set(found["the paper"][1]) == {0.019}


def test_figure_1b_draws_overlaps_above_and_rounds_below(recorded: Finished) -> None:
    table = pd.read_csv(recorded.folder / "divergence.csv")
    table["product"] = table.cosine * table.pairs
    whole = table[table.layer == "all"]
    labels = {
        "pseudo": "pseudo-gradient", "gradient": "gradient", "shape": "its shape part",
        "color": "its colour part",
    }  # fmt: skip
    drawn = panels("fig1b", recorded.folder)
    for axes, column in zip(drawn, ("overlap", "round"), strict=True):
        found = lines(axes)
        assert set(found) == set(labels.values())
        for kind, label in labels.items():
            sums = whole[whole.kind == kind].groupby(column)[["product", "pairs"]].sum()
            assert found[label] == (list(sums.index), pytest.approx((sums["product"] / sums.pairs).tolist()))
            low, high = axes.get_ylim()
            assert low < min(found[label][1]) <= max(found[label][1]) <= high


def test_the_twins_start_at_the_global_model_but_for_who_never_saw_it(tmp_path: Path) -> None:
    """By hand: means of two clients; ``local`` does not start from the global model."""
    run = write_run(tmp_path / "run", lambda *_: (0.5, 0.4), methods=("global", "ft", "local"), clients=2)
    shares = {"flip_map": 0.5, "flip_palette": 0.25, "agree_shape": 0.125, "agree_color": 0.75}
    rows = [
        {"dataset": "colored_mnist", "method": method, "fl_seed": 0, "p_seed": 0, "client": f"000{client}",
         "epoch": epoch, "selected": int(epoch == chosen), "images": 4, "acc_own": 0.5}
        | {name: value / (1 + epoch) / (1 + client) for name, value in shares.items()}
        for method, epochs, chosen in (("global", (0,), 0), ("ft", (1, 3), 3), ("local", (1, 3), 1))
        for client in range(2) for epoch in epochs
    ]  # fmt: skip
    write_csv(run / "twins.csv", tuple(rows[0]), rows)
    titles = {
        "follows the colour": "agree_color", "follows the shape": "agree_shape",
        "changes with the colour": "flip_map",
    }  # fmt: skip
    for axes, (title, name) in zip(panels("twins", run), titles.items(), strict=True):
        assert axes.get_title() == title
        start = shares[name] * 0.75  # of 1 and 1/2
        assert lines(axes) == {
            "global": ([0], [start]),
            "ft": ([0, 1, 3], [start, start / 2, start / 4]),
            "local": ([1, 3], [start / 2, start / 4]),
        }


def test_table_1_draws_ours_with_its_deviations_and_the_papers_hollow(tmp_path: Path) -> None:
    """The paper's Table 1 has 0.852 and 0.847 of the global model on MNIST, 0.989 and 0.704 of ft."""
    run = write_run(
        tmp_path / "run", lambda _, fl, *rest: (0.5 + 0.25 * fl, 0.25 + 0.125 * fl), methods=("global", "ft"),
        fl_seeds=(0, 1),
    )  # fmt: skip
    (axes,) = panels("table1", run)
    own = [line for line in axes.get_lines() if line.get_marker() in ("o", "s") and len(line.get_xdata())]
    places = {(line.get_marker(), line.get_markerfacecolor() == "none"): line.get_xydata()[0] for line in own}
    for marker, paper in (("o", [0.852, 0.847]), ("s", [0.989, 0.704])):
        assert places[marker, False].tolist() == [0.625, 0.3125]
        assert places[marker, True].tolist() == paper
    for bars in axes.containers:
        assert isinstance(bars, ErrorbarContainer)
        across, up = (half_length(one.get_segments()[0]) for one in bars.lines[2])
        assert across == pytest.approx([0.25 / 2**0.5, 0])
        assert up == pytest.approx([0, 0.125 / 2**0.5])
    assert len(axes.containers) == 2


def half_length(segment: Any) -> Values:
    """Half of an error bar, in x and y."""
    start, end = np.asarray(segment)
    return list((end - start) / 2)


def with_partition(folder: Path, values: Any, **options: Any) -> Path:
    """A run of up-weighting with two federated seeds, whose partition has these options."""
    sections = {"data_args": {"dataset": "colored_mnist", "partition": {"source": "digits", **options}}}
    return write_run(folder, values, methods=("global", "uw"), fl_seeds=(0, 1), sections=sections)


def test_figure_3_draws_a_bar_of_each_accuracy_in_each_setting(tmp_path: Path) -> None:
    runs = [
        with_partition(tmp_path / "one", lambda _, fl, *rest: (0.75, 0.5 + 0.25 * fl), clients=1),
        with_partition(tmp_path / "four", lambda _, fl, *rest: (0.5 + 0.5 * fl, 0.25), clients=4),
    ]
    (axes,) = panels("fig3", *runs)
    assert [text.get_text() for text in axes.get_xticklabels()] == ["centralized", "federated"]
    bars = {str(found.get_label()): found for found in axes.containers if isinstance(found, BarContainer)}
    expected = {"Acc_B": ([0.75, 0.75], [0, 0.5 / 2**0.5]), "Acc_BC": ([0.625, 0.25], [0.25 / 2**0.5, 0])}
    assert bars.keys() == expected.keys()
    for label, (heights, deviations) in expected.items():
        assert [bar.get_height() for bar in bars[label]] == heights
        errors = bars[label].errorbar
        assert errors is not None
        (segments,) = errors.lines[2]
        assert [half_length(one)[1] for one in segments.get_segments()] == pytest.approx(deviations)


def test_figure_8_draws_both_accuracies_with_their_own_deviations(tmp_path: Path) -> None:
    runs = [
        with_partition(
            tmp_path / f"run{factor}",
            lambda _, fl, *rest, factor=factor: (0.75 + 0.125 * fl, 0.5 + factor - 0.25 * fl),
            bias_conflicting_fraction=factor,
        )
        for factor in (0.25, 0.125)
    ]
    (axes,) = panels("fig8", *runs)
    expected = {"Acc_B": ([0.8125, 0.8125], 0.125), "Acc_BC": ([0.5, 0.625], 0.25)}
    bars = {str(found.get_label()): found for found in axes.containers}
    assert bars.keys() == expected.keys()
    for label, (heights, apart) in expected.items():
        line, _, (segments,) = bars[label].lines
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.125, 0.25], heights)
        halves = [half_length(one)[1] for one in segments.get_segments()]
        assert halves == pytest.approx([apart / 2**0.5] * 2)


def test_the_frontier_draws_what_is_kept_against_what_is_taken_back(tmp_path: Path) -> None:
    """Of ``l2`` the third setting is worse than the second in both, and no part of the edge."""
    points = {
        ("global", ""): (0.5, 0.0), ("ft", ""): (0.75, 0.5), ("l2", "lam_l2=0.1"): (0.75, 0.375),
        ("l2", "lam_l2=1.0"): (0.625, 0.125), ("l2", "lam_l2=9.0"): (0.5625, 0.25),
    }  # fmt: skip
    variants = {"global": [""], "ft": [""], "l2": ["lam_l2=0.1", "lam_l2=1.0", "lam_l2=9.0"]}

    def accuracies(wanted: Wanted) -> tuple[float, float]:
        acc_b, gap = points[wanted.method, wanted.options]
        return acc_b, acc_b - (gap if wanted.epoch == "selected" else gap / 2 + (wanted.method == "ft") / 4)

    above, below = panels("frontier", write_sweep(tmp_path / "sweep.csv", accuracies, variants=variants))
    assert (above.get_xlabel(), above.get_ylabel()) == ("kept of the gain in Acc_B", "taken back of the rise")
    for axes, epoch, back in ((above, "selected", [0.25, 0.75, 0.5]), (below, "last", [0.625, 0.875, 0.75])):
        assert axes.get_title() == f"d, {epoch} epoch"
        found = lines(axes)
        assert found["global"] == ([0.0], [1.0])
        assert found["ft"] == ([1.0], [0.0])
        assert found["l2"] == ([1.0, 0.5, 0.25], back)
        (edge,) = (line for line in axes.get_lines() if str(line.get_label()).startswith("_"))
        assert (list(edge.get_xdata()), list(edge.get_ydata())) == ([1.0, 0.5], back[:2])


def test_the_phase_diagram_draws_cells_and_where_lines_are_crossed(tmp_path: Path) -> None:
    """Linear between the middles of cells: the global model passes 0.05, the personal one twice its gap."""
    keys = tuple(f"data_args.partition.{name}" for name in ("bias_conflicting_fraction", "map_divergence"))
    gaps = {"global": {0.0: 0.25, 1.0: 0.0}, "ft": {0.0: 0.375, 1.0: 0.3}}

    def accuracies(wanted: Wanted) -> tuple[float, float]:
        share, divergence = wanted.cell
        return 0.75, 0.75 - gaps[wanted.method][divergence] - share / 8

    table = write_sweep(
        tmp_path / "sweep.csv", accuracies, keys=keys, variants={"global": [""], "ft": [""]},
        cells=[(share, divergence) for share in (0.0, 0.5) for divergence in (0.0, 1.0)],
    )  # fmt: skip
    both = panels("phase_diagram", table)[:2]
    assert [axes.get_title() for axes in both] == ["global model", "fine-tuning"]
    for axes, method in zip(both, gaps, strict=True):
        cells, *contours = axes.collections
        expected = [
            [gaps[method][divergence] + share / 8 for divergence in (0.0, 1.0)] for share in (0.0, 0.5)
        ]
        assert np.asarray(cells.get_array()) == pytest.approx(np.array(expected))
        assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "0.5"]
        # Below, without conflicting samples, 0.25 to 0; above 0.3125 to 0.0625, which never gets to 0.05.
        first = next(iter(crossings(contours[0])))
        assert first == pytest.approx((0.5 + (0.25 - 0.05) / 0.25, 0.5))
        if method == "ft":  # -0.125 to 0.25 below, -0.1875 to 0.2375 above
            ends = sorted(crossings(contours[-1]), key=lambda place: place[1])
            assert ends[0] == pytest.approx((0.5 + 0.125 / 0.375, 0.5))
            assert ends[-1] == pytest.approx((0.5 + 0.1875 / 0.425, 1.5))
        assert len(contours) == (4 if method == "ft" else 2)  # each is black below white


def crossings(contour: Any) -> list[tuple[float, float]]:
    """Points of a line, the lowest first."""
    points = [tuple(map(float, point)) for path in contour.get_paths() for point in path.vertices]
    return sorted(points, key=lambda place: place[1])  # type: ignore[arg-type, return-value]
