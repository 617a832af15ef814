from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from finished_folders import client_row
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_partition import inspect, own_folder
from data_partition.own import write_splits
from data_partition.own_folder import write_folder_splits
from data_partition.split_files.check import find_problems
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import read_meta
from fedml_spurious.common.errors import InputError
from fedml_spurious.experiment.inputs import choose_clients
from fedml_spurious.report.clients import make_explorer
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.finished_run import FinishedRun

SPLITS = ("train", "val", "test", "test_bc")


def make_image(size: int) -> np.ndarray:
    """Every image has its number in its pixels, so that it can be recognised."""
    return np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None, None], (size, 3, 2, 3)).copy()


@settings(max_examples=25)
@given(
    size=st.integers(1, 60), num_clients=st.integers(1, 4), by_groups=st.booleans(), seed=st.integers(0, 99)
)
def test_any_arrays_become_sound_splits(
    tmp_path_factory: pytest.TempPathFactory, size: int, num_clients: int, by_groups: bool, seed: int
) -> None:
    out = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(seed)
    label, spurious = rng.integers(0, 3, size), rng.integers(0, 2, size)
    client = rng.integers(0, num_clients, size) * 7
    groups = [(0, 1), (2, 0)] if by_groups else None
    write_splits(
        out,
        "own",
        image=make_image(size),
        label=label,
        spurious=spurious,
        client=client,
        conflicting_groups=groups,
        seed=seed,
    )
    folder = SplitFolder(out)
    assert list(find_problems(folder)) == []
    assert folder.meta.options["client_names"] == [str(c) for c in np.unique(client)]
    seen = []
    for number, name in zip(folder.client_ids, np.unique(client), strict=True):
        for split in SPLITS:
            samples = folder.load(number, split)
            assert (client[samples.source] == name).all()
            assert np.array_equal(samples.label, label[samples.source])
            assert np.array_equal(samples.spurious, spurious[samples.source])
            assert np.array_equal(samples.image[:, 0, 0, 0], samples.source)
            if split != "test_bc":
                seen += samples.source.tolist()
        test = folder.load(number, "test")
        conflicting = test.source[test.aligned == 0].tolist()
        assert folder.load(number, "test_bc").source.tolist() == conflicting
    assert sorted(seen) == list(range(size))


def test_without_groups_the_majority_of_the_client_decides(tmp_path: Path) -> None:
    """Client a: class 0 mostly shows 1; client b: always 0, and the tie of class 1 goes to 0."""
    columns = {
        "label": [0, 0, 0, 0, 0, 1, 1],
        "spurious": [1, 1, 0, 0, 0, 1, 0],
        "client": ["a", "a", "a", "b", "b", "b", "b"],
    }
    write_splits(tmp_path, "own", image=make_image(7), ratios=(1, 0, 0), **columns)
    folder = SplitFolder(tmp_path)
    maps = [client.color_map for client in folder.meta.clients.values()]
    assert maps == [{0: 1}, {0: 0, 1: 0}]
    first = folder.load("0000", "train")
    assert dict(zip(first.source.tolist(), first.aligned.tolist(), strict=True)) == {0: 1, 1: 1, 2: 0}


def test_given_splits_are_kept(tmp_path: Path) -> None:
    write_splits(
        tmp_path,
        "own",
        image=make_image(5),
        label=[0, 0, 0, 0, 0],
        spurious=[0, 0, 0, 1, 1],
        client=[0] * 5,
        split=["train", "val", "test", "test_bc", "test"],
    )
    folder = SplitFolder(tmp_path)
    sources = {split: folder.load("0000", split).source.tolist() for split in SPLITS}
    assert sources == {"train": [0], "val": [1], "test": [2, 4], "test_bc": [3]}


def test_the_majority_is_of_training_validation_and_biased_test_samples(tmp_path: Path) -> None:
    columns = {"label": [0] * 5, "spurious": [1, 0, 0, 1, 0], "client": [0] * 5}
    given = ["train", "val", "test", "train", "test"]
    write_splits(tmp_path, "own", image=make_image(5), split=given, **columns)
    assert SplitFolder(tmp_path).meta.clients["0000"].color_map == {0: 0}


def test_a_table_may_give_splits_and_pictures_are_64_pixels_wide(tmp_path: Path) -> None:
    given = ("train", "test", "val", "train")
    rows = [(f"{row}.png", "0", "0", "a", split) for row, split in enumerate(given)]
    table = write_table(tmp_path, rows, header="file,label,spurious,client,split")
    options = ["--images", tmp_path, "--table", table, "--name", "own", "--out", tmp_path / "out"]
    done = CliRunner().invoke(own_folder.command, [str(option) for option in options])
    assert done.exit_code == 0, done.output
    folder = SplitFolder(tmp_path / "out")
    assert [folder.load("0000", split).source.tolist() for split in SPLITS] == [[0, 3], [2], [1], []]
    assert folder.image_shape == (64, 64, 3)


def test_a_given_bias_conflicting_test_set_does_not_say_what_is_aligned(tmp_path: Path) -> None:
    """Four samples in it show the value 1; those of train, val and test, three, show 0."""
    split = ["train", "val", "test", "test_bc", "test_bc", "test_bc", "test_bc"]
    columns = {"label": [0] * 7, "spurious": [0, 0, 0, 1, 1, 1, 1], "client": [0] * 7}
    write_splits(tmp_path, "own", image=make_image(7), split=split, **columns)
    folder = SplitFolder(tmp_path)
    assert folder.meta.clients["0000"].color_map == {0: 0}
    assert folder.load("0000", "test_bc").aligned.tolist() == [0, 0, 0, 0]


def test_grey_images_and_readers_are_taken(tmp_path: Path) -> None:
    asked = []

    def read(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return make_image(6)[rows][..., 0]

    columns = {"label": [0, 1] * 3, "spurious": [0, 1] * 3, "client": [0, 0, 1, 1, 2, 2]}
    write_splits(tmp_path, "own", image=read, ratios=(1, 0, 0), **columns)
    samples = SplitFolder(tmp_path).load("0001", "train")
    assert samples.image.shape == (2, 3, 2, 3)
    assert sorted(samples.image[:, 0, 0, 2].tolist()) == [2, 3]
    assert max(asked) == 2  # never more than one client


GOOD = {"image": make_image(4), "label": [0, 0, 1, 1], "spurious": [0, 0, 1, 1], "client": [0, 0, 0, 0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": [0, 0, 1]}, "one value per sample expected"),
        ({"label": [0.0, 0.5, 1.0, 1.0]}, "label: expected whole numbers from 0, got float64"),
        ({"spurious": [0, 0, -1, 1]}, "spurious: expected whole numbers from 0"),
        ({"image": make_image(5)}, "5 images and 4 labels"),
        ({"image": make_image(4) / 255}, "images: expected uint8"),
        ({"split": ["train", "val", "test", "valid"]}, "split: 'valid'; expected train, val"),
        ({"split": ["train", "train", "train", "test_bc"]}, "sample 3: in split test_bc and bias-aligned"),
        ({"class_names": ["only"]}, "1 class name, and class 1 occurs"),
        ({"ratios": (0, 1, 1)}, "some training"),
        ({"client": [0.0, np.nan, 1.0, 1.0]}, r"client: sample 1 has none \(nan\)"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({name: np.array([], int) for name in ("label", "spurious", "client")}, "one value per sample"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_splits(tmp_path, "own", **{**GOOD, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name: expected pattern .*, got text '\.\./own'"):
        write_splits(tmp_path, "../own", **GOOD)


def write_table(
    folder: Path, rows: Sequence[Sequence[str]], header: str = "file,label,spurious,client"
) -> Path:
    for number in range(4):
        Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8)).save(folder / f"{number}.png")
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return table


ROWS = [("0.png", "cat", "snow", "a"), ("1.png", "dog", "grass", "a"), ("2.png", "cat", "grass", "b"),
        ("3.png", "dog", "snow", "b")]  # fmt: skip


def test_an_image_folder_with_a_table_becomes_splits(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)
    write_folder_splits(tmp_path / "out", "pets", images=tmp_path, table=table, side=4, ratios=(1, 0, 0))
    folder = SplitFolder(tmp_path / "out")
    assert folder.meta.class_names == ("cat", "dog")
    assert folder.meta.spurious_names == ("grass", "snow")
    assert folder.image_shape == (4, 4, 3)
    samples = folder.load("0001", "train")
    by_source = {source: row for row, source in enumerate(samples.source.tolist())}
    assert samples.label[[by_source[2], by_source[3]]].tolist() == [0, 1]
    assert samples.spurious[[by_source[2], by_source[3]]].tolist() == [0, 1]
    assert (samples.image[by_source[3]] == 150).all()


def test_pictures_are_resized_without_aliasing(tmp_path: Path) -> None:
    """A weight for each pixel that falls off linearly within the size of an output pixel, along both axes."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    table = write_table(tmp_path, [("0.png", "0", "0", "a")])
    Image.fromarray(pixels).save(tmp_path / "0.png")
    write_folder_splits(tmp_path / "out", "own", images=tmp_path, table=table, side=4, ratios=(1, 0, 0))
    places = (np.arange(24) + 0.5) / 6 - 0.5
    weights = np.maximum(0, 1 - np.abs(places - np.arange(4)[:, None]))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("ij,jkc,lk->ilc", weights, pixels, weights)
    found = SplitFolder(tmp_path / "out").load("0000", "train").image[0]
    assert np.abs(found - expected).max() <= 1  # Pillow rounds after each axis


def test_seed_and_ratios_of_a_folder_are_those_of_arrays(tmp_path: Path) -> None:
    rows = [(f"{row % 4}.png", str(row % 2), str(row % 3), "ab"[row // 20]) for row in range(40)]
    table = write_table(tmp_path, rows)
    columns: dict[str, list] = {
        "label": [row % 2 for row in range(40)],
        "spurious": [row % 3 for row in range(40)],
        "client": ["ab"[row // 20] for row in range(40)],
    }
    for seed in (0, 3):
        options = {"seed": seed, "ratios": (2, 1, 1)}
        folder, arrays = tmp_path / f"folder{seed}", tmp_path / f"arrays{seed}"
        write_folder_splits(folder, "own", images=tmp_path, table=table, side=4, **options)
        write_splits(arrays, "own", image=make_image(40), **columns, **options)
        sources = [
            [SplitFolder(out).load(client, split).source.tolist() for split in SPLITS]
            for client in ("0000", "0001")
            for out in (folder, arrays)
        ]
        assert sources[0] == sources[1]
        assert sources[2] == sources[3]
        assert [len(part) for part in sources[0][:3]] == [10, 5, 5]
        # Every client has draws of its own.
        assert [[row - 20 for row in part] for part in sources[2][:3]] != sources[0][:3]
    first, other = (SplitFolder(tmp_path / f"folder{seed}").load("0000", "train") for seed in (0, 3))
    assert first.source.tolist() != other.source.tolist()


def test_blanks_around_cells_make_no_class_and_no_client_and_are_told(tmp_path: Path) -> None:
    rows = [
        ("0.png", "0", "s", "c0"),
        ("1.png", "0 ", " s", "c0 "),
        (" 2.png", "1", "s", "c1"),
        ("3.png", "1", "t", "c1"),
    ]
    table = write_table(tmp_path, rows, header="file, label,spurious ,client")
    write_folder_splits(tmp_path / "out", "own", images=tmp_path, table=table, side=4, ratios=(1, 0, 0))
    meta = SplitFolder(tmp_path / "out").meta
    assert (meta.num_classes, meta.num_clients, meta.spurious_names) == (2, 2, ("s", "t"))
    assert meta.options["client_names"] == ["c0", "c1"]
    lines = {"label": 3, "spurious": 3, "client": 3, "file": 4}
    assert set(meta.notes) == {
        f"blanks around the {column} were stripped in 1 line of table.csv, first in line {line}"
        for column, line in lines.items()
    }


def test_blanks_around_names_in_arrays_are_stripped_and_told(tmp_path: Path) -> None:
    columns = {**GOOD, "client": ["a", "a ", "b", "b"], "split": ["train"] * 3 + [" train"]}
    write_splits(tmp_path, "own", **columns)
    meta = SplitFolder(tmp_path).meta
    assert meta.options["client_names"] == ["a", "b"]
    assert meta.notes == (
        "blanks around the client were stripped in 1 sample, first 1",
        "blanks around the split were stripped in 1 sample, first 3",
    )


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        ([10, 9, 1], ["1", "9", "10"]),
        (["-1", "1", "0.5"], ["-1", "0.5", "1"]),
        (["b", "10", "a", "9"], ["9", "10", "a", "b"]),
        (["nan", "1", "inf"], ["1", "inf", "nan"]),
    ],
)
def test_numbers_are_in_the_order_of_numbers(tmp_path: Path, names: list, order: list[str]) -> None:
    size = len(names)
    columns = {"label": [0] * size, "spurious": [0] * size, "client": names}
    write_splits(tmp_path, "own", image=make_image(size), ratios=(1, 0, 0), **columns)
    folder = SplitFolder(tmp_path)
    assert folder.meta.options["client_names"] == order
    found = [str(names[folder.load(client, "train").source[0]]) for client in folder.client_ids]
    assert found == order


def test_labels_that_are_numbers_but_no_classes_are_numbered_by_their_value(tmp_path: Path) -> None:
    rows = [(f"{row}.png", label, "0", "a") for row, label in enumerate(["10.5", "9.5", "-1", "10.5"])]
    table = write_table(tmp_path, rows)
    write_folder_splits(tmp_path / "out", "own", images=tmp_path, table=table, side=4, ratios=(1, 0, 0))
    assert SplitFolder(tmp_path / "out").meta.class_names == ("-1", "9.5", "10.5")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([*ROWS[:2], ("9.png", "cat", "snow", "a")], None, r"table\.csv: line 4: .*9\.png: no such file"),
        ([*ROWS[:1], ("1.png", "", "snow", "a")], None, r"table\.csv: line 3: no label"),
        ([*ROWS[:1], ("1.png", "cat", "snow")], None, r"table\.csv: line 3: no client"),
        ([(*ROWS[0], "extra")], None, r"table\.csv: line 2: more cells than the header names"),
        (ROWS, "file,label,colour,client", r"table\.csv: line 1: expected the columns file, label, spurious"),
        ([], None, "a line per image"),
        ([(*ROWS[0], "valid")], "file,label,spurious,client,split", "line 2: split 'valid'"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(
    tmp_path: Path, rows: list, header: str | None, message: str
) -> None:
    table = write_table(tmp_path, rows, header or "file,label,spurious,client")
    with pytest.raises(InputError, match=message):
        write_folder_splits(tmp_path / "out", "pets", images=tmp_path, table=table, side=4)
    assert not (tmp_path / "out").exists()


def test_an_unreadable_image_leaves_nothing(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"3\.png: no readable image"):
        write_folder_splits(tmp_path / "out", "pets", images=tmp_path, table=table, side=4)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "examples" / "own_data.py"
    spec = importlib.util.spec_from_file_location("own_data", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for _ in range(2):  # a second call writes the same again
        example.main(tmp_path)
    assert capsys.readouterr().out.count("bias-conflicting test samples") == 2 * 3
    from_csv, from_arrays = SplitFolder(tmp_path / "from_csv"), SplitFolder(tmp_path / "arrays")
    assert np.array_equal(from_csv.load("0001", "test").image, from_arrays.load("0001", "test").image)
    assert list(find_problems(from_csv)) == []


def test_names_of_clients_are_told_wherever_their_ids_are(tmp_path: Path) -> None:
    label = np.tile([0, 1], 30)
    client = np.repeat(["ward <b>", "clinic", "lab"], 20)
    arrays = {"image": make_image(60), "label": label, "spurious": label, "client": client}
    meta = read_meta(write_splits(tmp_path, "own", **arrays))
    assert meta.client_names == {"0000": "clinic", "0001": "lab", "0002": "ward <b>"}
    shown = CliRunner().invoke(inspect.command, [str(tmp_path), "--by-client"]).output
    assert "clients: 0000 is clinic, 0001 is lab, 0002 is ward <b>\n" in shown
    assert re.search(r"^0001 .* lab$", shown, re.M)
    run = FinishedRun(Path("run"), {}, (client_row("ft", "0002", 0.9, 0.5),), {}, {})
    (row,) = make_explorer(DatasetRuns.of_one(run), {0: meta}).rows
    assert (row.client, row.name) == ("0002", "0002 ward <b>")
    folder = SplitFolder(tmp_path)
    expected = "no client 'lab'.*Did you mean 0001, which was called lab?"
    with pytest.raises(InputError, match=expected):
        folder.load("lab", "train")
    with pytest.raises(InputError, match=expected):
        choose_clients(folder, ("0000", "lab"))


def test_classes_that_have_a_name_count_also_where_none_occurs(tmp_path: Path) -> None:
    columns = {"label": [0, 1] * 3, "spurious": [0, 1] * 3, "client": [0] * 6}
    given = ["train", "train", "val", "val", "test", "test"]
    names = {"class_names": ["cat", "dog", "owl"], "spurious_names": ["snow", "grass", "sand"]}
    write_splits(tmp_path, "own", image=make_image(6), split=given, **columns, **names)
    meta = SplitFolder(tmp_path).meta
    assert (meta.num_classes, meta.class_names) == (3, ("cat", "dog", "owl"))
    assert meta.spurious_names == ("snow", "grass", "sand")
    assert meta.options["split"] == "given"


def test_numbers_too_long_for_a_class_are_names(tmp_path: Path) -> None:
    rows = [("0.png", "9" * 19, "0", "a"), ("1.png", "1", "0", "a")]
    table = write_table(tmp_path, rows)
    write_folder_splits(tmp_path / "out", "own", images=tmp_path, table=table, side=4, ratios=(1, 0, 0))
    assert SplitFolder(tmp_path / "out").meta.class_names == ("1", "9" * 19)


def test_of_many_names_ten_are_told(tmp_path: Path) -> None:
    names = [f"ward {number:02}" for number in range(12)]
    columns = {"label": [0] * 12, "spurious": [0] * 12, "client": names}
    meta = read_meta(write_splits(tmp_path, "own", image=make_image(12), ratios=(1, 0, 0), **columns))
    told = ", ".join(f"{number:04} is {name}" for number, name in enumerate(names[:10]))
    assert meta.remarks() == [f"clients: {told}, 2 more"]


def test_clients_that_were_numbered_as_their_ids_have_no_other_name(tmp_path: Path) -> None:
    label = np.tile([0, 1], 10)
    arrays = {"image": make_image(20), "label": label, "spurious": label}
    meta = read_meta(write_splits(tmp_path, "own", client=label, **arrays))
    assert meta.client_names == {}
    assert not [remark for remark in meta.remarks() if "client" in remark]
    again = read_meta(write_splits(tmp_path / "7", "own", client=7 * label, **arrays))
    assert again.client_names == {"0000": "0", "0001": "7"}


def test_a_program_that_writes_twice_reads_of_arguments(tmp_path: Path) -> None:
    label = np.tile([0, 1], 10)
    arrays = {"image": make_image(20), "label": label, "spurious": label, "client": label}
    write_splits(tmp_path, "own", **arrays)
    with pytest.raises(InputError, match="choose another out or add overwrite=True"):
        write_splits(tmp_path, "own", **arrays)
