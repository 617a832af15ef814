from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from data_partition.inspect import association, command, summarize_arrays
from data_partition.split_files.check import find_problems
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SplitInfo
from data_partition.split_files.samples import Samples
from data_partition.split_files.writer import SplitWriter

INFO = SplitInfo(
    name="toy",
    seed=0,
    options={},
    num_classes=2,
    image_shape=(2, 2, 3),
    class_names=("a", "b"),
    spurious_names=("red", "green"),
)
COLORS = np.array([(255, 0, 0), (0, 255, 0)], dtype=np.uint8)


def make_samples(label: list[int], spurious: list[int], source: list[int]) -> dict[str, np.ndarray]:
    """Aligned where label and spurious value agree; the brightness is the source."""
    color = COLORS[spurious] // 255 * np.array(source, np.uint8)[:, None]
    return {
        "image": np.broadcast_to(color[:, None, None, :], (len(source), 2, 2, 3)).copy(),
        "label": np.array(label),
        "spurious": np.array(spurious),
        "aligned": (np.array(label) == spurious).astype(np.uint8),
        "source": np.array(source),
    }


def write_federation(folder: Path, change: Callable[[dict], None] = lambda _: None) -> SplitFolder:
    """Two clients with one map; ``change`` edits the arrays ``splits[client, split]`` first."""
    splits = {
        ("0000", "train"): make_samples([0, 1, 1], [0, 1, 0], [1, 2, 3]),
        ("0000", "val"): make_samples([0], [0], [4]),
        ("0000", "test"): make_samples([0, 1], [0, 1], [5, 6]),
        ("0000", "test_bc"): make_samples([0, 1], [1, 0], [5, 6]),
        ("0001", "train"): make_samples([0, 1], [0, 1], [7, 8]),
    }
    change(splits)
    with SplitWriter(folder, INFO) as writer:
        for client in ("0000", "0001"):
            writer.add_client(client, classes=[0, 1], color_map={0: 0, 1: 1})
        for (client, split), arrays in splits.items():
            writer.write(client, split, Samples(**arrays))
    return SplitFolder(folder)


def test_sound_splits_have_no_problems(tmp_path: Path) -> None:
    assert list(find_problems(write_federation(tmp_path))) == []


def set_value(client: str, split: str, column: str, row: int, value: int) -> Callable[[dict], None]:
    def change(splits: dict) -> None:
        splits[client, split][column][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_value("0000", "train", "aligned", 2, 1), "train: 1 alignment flag not as the map gives"),
        (set_value("0000", "test_bc", "spurious", 1, 1), "test_bc: 1 alignment flag not as the map gives"),
        (set_value("0001", "train", "source", 0, 1), "0001, train: source 1 is also in client 0000, train"),
        (set_value("0000", "val", "source", 0, 2), "0000, val: source 2 is also in client 0000, train"),
        (set_value("0000", "train", "source", 1, 1), "0000, train: source 1 is also in client 0000, train"),
        (set_value("0000", "test_bc", "source", 0, 7), "train: source 7 is also in client 0000, test_bc"),
        (set_value("0000", "test_bc", "source", 1, 3), "test_bc: source 3 is also in client 0000, train"),
        (set_value("0000", "test_bc", "image", 0, 9), "1 copy of another object, first in row 0"),
        (set_value("0000", "test_bc", "label", 0, 1), "1 copy of another object, first in row 0"),
    ],
)  # fmt: skip
def test_every_broken_promise_is_found(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    assert message in "\n".join(find_problems(write_federation(tmp_path, change)))


def test_aligned_samples_in_the_conflicting_test_set_are_found(tmp_path: Path) -> None:
    def change(splits: dict) -> None:
        splits["0000", "test_bc"] = make_samples([0, 1], [0, 0], [5, 6])

    problems = list(find_problems(write_federation(tmp_path, change)))
    assert problems == ["client 0000, test_bc: bias-aligned samples in the bias-conflicting test set"]


def test_association_agrees_with_worked_tables() -> None:
    """2x2: V = |ad - bc| / sqrt of the product of the four margins, here of [[3, 2], [1, 4]]."""
    label, spurious = np.array([0] * 5 + [1] * 5), np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1])
    assert association(label, spurious) == pytest.approx(abs(3 * 4 - 2 * 1) / math.sqrt(5 * 5 * 4 * 6))
    assert association(label, label) == pytest.approx(1)
    assert association(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert math.isnan(association(label, np.zeros(10, int)))
    assert math.isnan(association(np.array([], int), np.array([], int)))


def test_the_summary_is_measured_from_the_arrays(tmp_path: Path) -> None:
    """Training: 4 of 5 samples aligned; V by hand, of [[1, 0], [1, 1]] 1/2, of [[2, 0], [1, 2]] 4/6."""
    lines = summarize_arrays(write_federation(tmp_path)).splitlines()
    assert lines[0] == "toy: 2 clients, 2 classes, 2 spurious values, images 2x2x3"
    assert lines[2].split() == ["train", "5", "2", "-", "3", "0.800", "0.750", "0.667"]
    assert lines[3].split() == ["val", "1", "0", "-", "1", "1.000", "-", "-"]
    assert lines[5].split() == ["test_bc", "2", "0", "-", "2", "0.000", "1.000", "1.000"]


def test_the_command_prints_checks_and_draws(tmp_path: Path) -> None:
    write_federation(tmp_path)
    done = CliRunner().invoke(command, [str(tmp_path), "--check"])
    assert done.exit_code == 0, done.output
    assert "checked: checksums, ranges, disjoint sources" in done.output
    with Image.open(tmp_path / "toy_samples.png") as picture:
        colors = {color for _, color in picture.getcolors(maxcolors=10_000)}
    assert {(1, 0, 0), (0, 2, 0), (0, 5, 0)} <= colors  # a sample of each client, and a recoloured copy


def colors_drawn(folder: Path, *options: str) -> set[tuple[int, ...]]:
    done = CliRunner().invoke(command, [str(folder), *options])
    assert done.exit_code == 0, done.output
    with Image.open(folder / "toy_samples.png") as picture:
        return {color for _, color in picture.getcolors(maxcolors=10_000)}


def test_each_place_of_the_picture_shows_a_sample_of_its_kind(tmp_path: Path) -> None:
    """A class in both colours; of the biased test set the aligned samples alone; so many clients as asked."""

    def change(splits: dict) -> None:
        splits["0000", "test"] = make_samples([0, 1, 1], [0, 1, 0], [5, 6, 9])

    write_federation(tmp_path, change)
    of_first, of_second = (
        {(1, 0, 0), (0, 2, 0), (3, 0, 0), (5, 0, 0), (0, 6, 0), (0, 5, 0), (6, 0, 0)},
        {
            (7, 0, 0),
            (0, 8, 0),
        },
    )
    found = colors_drawn(tmp_path)
    assert of_first | of_second <= found
    assert (9, 0, 0) not in found
    one = colors_drawn(tmp_path, "--clients", "1")
    assert of_first <= one
    assert not of_second & one


def test_a_label_that_is_no_class_of_the_client_is_found(tmp_path: Path) -> None:
    with SplitWriter(tmp_path, INFO) as writer:
        writer.add_client("0000", classes=[0], color_map={1: 1, 0: 0})
        writer.add_client("0001", classes=[1, 0])
        writer.write("0000", "val", Samples(**make_samples([0, 1], [0, 1], [1, 2])))
    assert SplitFolder(tmp_path).meta.clients["0001"].classes == (0, 1)
    assert list(find_problems(SplitFolder(tmp_path))) == [
        "client 0000, val: label 1, which is no class of the client"
    ]


def test_of_many_problems_twenty_are_shown(tmp_path: Path) -> None:
    def change(splits: dict) -> None:
        splits["0001", "train"] = make_samples([0] * 25, [0] * 25, [1] * 25)

    write_federation(tmp_path, change)
    done = CliRunner().invoke(command, [str(tmp_path), "--check"])
    assert "25 problems\n" in done.stderr
    assert done.stderr.count("source 1 is also in") == 20


def test_the_command_fails_on_broken_splits(tmp_path: Path) -> None:
    write_federation(tmp_path, set_value("0000", "train", "aligned", 2, 1))
    done = CliRunner().invoke(command, [str(tmp_path), "--check"])
    assert done.exit_code == 2
    assert "1 problem\nclient 0000, train: 1 alignment flag not as the map gives" in done.stderr
