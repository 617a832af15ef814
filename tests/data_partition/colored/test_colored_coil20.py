from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from image_bytes import encode
from PIL import Image
from raw_digits import coil20_view, digest_arrays, write_coil20

from data_partition.colored.coil20_files import halve, read_coil20
from data_partition.colored_coil20 import Options, build
from data_partition.split_files.check import find_problems
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SPLITS
from fedml_spurious.common.errors import InputError

PINNED = "037e34ecaec2db3aaaeed5797934ac936b0741e279895c2426e2e0bccd72f8a4"


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coil20")
    write_coil20(folder / "coil-20-proc")
    with zipfile.ZipFile(folder / "coil-20-proc.zip", "w") as archive:
        for path in (folder / "coil-20-proc").iterdir():
            archive.write(path, f"coil-20-proc/{path.name}")
    return folder


@pytest.fixture
def copied(views: Path, tmp_path: Path) -> Path:
    shutil.copytree(views / "coil-20-proc", tmp_path / "coil-20-proc")
    return tmp_path


def test_folder_and_zip_give_the_same_views_in_order(views: Path, tmp_path: Path) -> None:
    shutil.copy(views / "coil-20-proc.zip", tmp_path)
    raws = [
        read_coil20(raw) for raw in (views, views / "coil-20-proc", tmp_path, tmp_path / "coil-20-proc.zip")
    ]
    assert len({str(raw.checksums) for raw in raws}) == 1
    assert raws[0].source.tolist() == list(range(1440))
    assert raws[0].label.tolist() == [source // 72 for source in range(1440)]
    for source in (0, 71, 72, 1439):
        assert np.array_equal(raws[0].grey[source], coil20_view(*divmod(source, 72))[::2, ::2])


def test_halving_is_the_mean_of_four_pixels() -> None:
    blocks = np.array([[[1, 2, 0, 0], [2, 1, 0, 1], [255, 255, 9, 8], [255, 254, 7, 6]]], dtype=np.uint8)
    assert halve(blocks).tolist() == [[[2, 0], [255, 8]]]  # means 1.5, 0.25, 254.75, 7.5; halves up


def test_every_view_is_used_exactly_once(views: Path, tmp_path: Path) -> None:
    build(Options(), raw=views, out=tmp_path)
    folder = SplitFolder(tmp_path)
    sources = Counter(
        source
        for client in folder.client_ids
        for split in SPLITS[:3]
        for source in folder.load(client, split).source.tolist()
    )
    assert sources == Counter(range(1440))
    assert len(folder.client_ids) == 50
    assert {len(client.classes) for client in folder.meta.clients.values()} == {5}
    assert folder.image_shape == (64, 64, 3)
    assert list(find_problems(folder)) == []
    assert folder.meta.notes == (
        "the raw views differ from the copy of COIL-20 that this package was tested with",
    )


def test_the_arrays_of_a_tiny_federation_are_pinned(views: Path, tmp_path: Path) -> None:
    """Published results name a seed: a change of these arrays makes them another data set."""
    build(Options(clients=2, limit=60, seed=5), raw=views, out=tmp_path)
    assert digest_arrays(SplitFolder(tmp_path)) == PINNED


@pytest.mark.parametrize("form", ["folder", "zip", "the folder itself", "the zip itself"])
def test_the_unprocessed_edition_is_told_so(tmp_path: Path, form: str) -> None:
    """360 views of 5 objects, 416 x 448 pixels."""
    folder = tmp_path / "coil-20-unproc"
    folder.mkdir()
    for thing in range(5):
        for view in range(72):
            (folder / f"obj{thing + 1}__{view}.png").write_bytes(b"")
    given = tmp_path if form in ("folder", "zip") else folder
    if "zip" in form:
        with zipfile.ZipFile(tmp_path / "coil-20-unproc.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"coil-20-unproc/{path.name}")
        shutil.rmtree(folder)
        given = tmp_path if form == "zip" else tmp_path / "coil-20-unproc.zip"
    with pytest.raises(InputError, match=r"is the unprocessed COIL-20.*coil-20-proc\.zip"):
        read_coil20(given)


def test_a_folder_one_deeper_is_found_and_an_empty_one_is_described(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no COIL-20.*it is empty"):
        read_coil20(tmp_path)
    write_coil20(tmp_path / "coil-20-proc" / "coil-20-proc")
    assert len(read_coil20(tmp_path).grey) == 1440


def test_one_map_for_all_objects_needs_twenty_colours(views: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set colors to 20"):
        build(Options(map_divergence=0.0), raw=views, out=tmp_path)
    build(Options(map_divergence=0.0, colors=20), raw=views, out=tmp_path)
    maps = [client.color_map for client in SplitFolder(tmp_path).meta.clients.values()]
    assert len({pair for mapping in maps if mapping for pair in mapping.items()}) == 20


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("obj7__3.png", None, r"lacks 1 of 1,440 views \(obj7__3\.png\)"),
        ("obj7__3.png", encode(np.zeros((64, 64), np.uint8)), r"obj7__3\.png: 64x64 pixels of mode L"),
        ("obj7__3.png", encode(np.zeros((128, 128, 3), np.uint8)), "128x128 pixels of mode RGB, expected"),
        ("obj7__3.png", encode(coil20_view(6, 3))[:-40], r"obj7__3\.png: no readable image"),
        ("obj7__3.png", b"<html>", r"obj7__3\.png: no readable image"),
    ],
)  # fmt: skip
def test_broken_views_are_refused_by_name(
    copied: Path, name: str, content: bytes | None, message: str
) -> None:
    path = copied / "coil-20-proc" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        build(Options(), raw=copied, out=copied / "out")
    assert not (copied / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda archive: archive[: len(archive) // 2], "cut short or damaged"),
        (
            lambda archive: archive[:5000] + bytes(200) + archive[5200:],
            "cut short or damaged|no readable image",
        ),
        (lambda _: b"\n<html>404</html>", "a web page, not a zip file"),
        (lambda _: b"", "cut short or damaged"),
    ],
)
def test_a_broken_zip_is_refused(views: Path, tmp_path: Path, content, message: str) -> None:
    archive = tmp_path / "coil-20-proc.zip"
    archive.write_bytes(content((views / "coil-20-proc.zip").read_bytes()))
    with pytest.raises(InputError, match=rf"coil-20-proc\.zip.*({message})"):
        build(Options(), raw=tmp_path, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_views_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no COIL-20; looked for coil-20-proc/obj1__0\.png"):
        build(Options(), raw=tmp_path, out=tmp_path / "out")
    with pytest.raises(InputError, match="say with raw where"):
        build(Options(), raw=None, out=tmp_path / "out")
    with pytest.raises(ValueError, match=r"classes_per_client.*\n.*less than or equal to 20"):
        Options(classes_per_client=21, colors=20)


@pytest.mark.realdata
def test_real_coil20_becomes_50_clients(real_data: Path, tmp_path: Path) -> None:
    build(Options(), raw=real_data, out=tmp_path)
    folder = SplitFolder(tmp_path)
    sizes = [sum(folder.count(client, split) for split in SPLITS[:3]) for client in folder.client_ids]
    assert sum(sizes) == 1440
    assert max(sizes) <= 30  # 5 classes of 72 views among 12 or 13 holders
    assert min(sizes) >= 25
    assert folder.meta.notes == ()
    assert list(find_problems(folder)) == []
    train = folder.load("0000", "train")
    assert train.aligned.all()
    for image, source in zip(train.image, train.source.tolist(), strict=True):
        name = f"obj{source // 72 + 1}__{source % 72}.png"
        with Image.open(real_data / "coil-20-proc" / name) as raw:
            grey = np.asarray(raw.reduce(2), dtype=int)
        assert np.abs(image.max(axis=2) - grey).max() <= 1
        assert (image[grey == 0] <= 1).all()  # the background stays black
