from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from raw_digits import digest_arrays, make_digits, write_mnist

from data_partition.colored.mnist_files import enlarge_digits, read_digits, read_mnist
from data_partition.colored_mnist import Options, build
from data_partition.split_files.check import find_problems
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SPLITS
from fedml_spurious.common.errors import InputError

TINY = Options(clients=3, classes_per_client=3, verify_raw=False, seed=5)
PINNED = "992ad67548e618dbedaf8b924b1433eab53a94de15ba97dbb552fb778218f352"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_mnist(tmp_path / "raw" / "MNIST" / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize("inside", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_found_and_read_in_every_layout(tmp_path: Path, inside: str, packed: bool) -> None:
    write_mnist(tmp_path / inside, packed=packed)
    digits = read_mnist(tmp_path, ("train", "test"), verify=False)
    images, labels = zip(*(make_digits(part) for part in ("train", "test")), strict=True)
    assert np.array_equal(digits.grey, np.concatenate(images))
    assert np.array_equal(digits.label, np.concatenate(labels))
    assert digits.source.tolist() == [*range(60), *range(60_000, 60_040)]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("layout", ["dots", "Kaggle", "Kaggle with dots"])
def test_idx_files_are_found_under_the_names_that_people_have(
    tmp_path: Path, layout: str, packed: bool
) -> None:
    write_mnist(tmp_path / "usual", packed=packed)
    shutil.copytree(tmp_path / "usual", tmp_path / "other")
    for path in list((tmp_path / "other").iterdir()):
        dotted = path.name.replace("-idx", ".idx") if "dots" in layout else path.name
        target = path.rename(path.with_name(f"moved {path.name}"))
        folder = tmp_path / "other" / (path.name if "Kaggle" in layout else "")
        folder.mkdir(exist_ok=True)
        target.rename(folder / dotted)
    found = [read_mnist(tmp_path / name, ("train", "test"), verify=False) for name in ("usual", "other")]
    assert np.array_equal(found[0].grey, found[1].grey)
    assert found[0].checksums == found[1].checksums


def test_what_is_missing_and_what_was_found_is_told(tmp_path: Path) -> None:
    for name in ("mnist_test.csv", "mnist_train.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"no MNIST files.*it holds mnist_test\.csv, mnist_train\.csv\. Put"):
        read_mnist(tmp_path, ("train",), verify=True)
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz: missing, it holds .* and 1 other;"):
        read_mnist(tmp_path, ("test",), verify=False)
    with pytest.raises(InputError, match="there is no such folder"):
        read_mnist(tmp_path / "absent", ("test",), verify=False)


def test_one_raw_part_can_be_used_alone(raw: Path, tmp_path: Path) -> None:
    build(TINY.model_copy(update={"raw_split": "test"}), raw=raw, out=tmp_path / "out")
    folder = SplitFolder(tmp_path / "out")
    sources = np.concatenate([folder.load(client, "train").source for client in folder.client_ids])
    assert sources.min() >= 60_000


def test_the_images_are_the_tinted_raw_digits(raw: Path, tmp_path: Path) -> None:
    """Each image again from its source row, by the formula grey * colour / 255."""
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    options = TINY.model_copy(update={"palette": ("red", "green", "blue")})
    build(options, raw=raw, out=tmp_path / "out")
    folder = SplitFolder(tmp_path / "out")
    images = {"train": make_digits("train")[0], "test": make_digits("test")[0]}
    seen = 0
    for client in folder.client_ids:
        for split in SPLITS:
            samples = folder.load(client, split)
            for image, color, source in zip(samples.image, samples.spurious, samples.source, strict=True):
                grey = images["train"][source] if source < 60_000 else images["test"][source - 60_000]
                assert np.array_equal(image, np.rint(grey[..., None] * colors[color] / 255))
                seen += 1
    # All digits of 9 of the 10 classes, a tenth of the 100 each; the test images once more.
    assert seen == 90 + sum(folder.count(client, "test_bc") for client in folder.client_ids) > 90


def test_the_splits_pass_every_check(raw: Path, tmp_path: Path) -> None:
    options = TINY.model_copy(update={"bias_conflicting_fraction": 0.3, "label_noise": 0.2})
    build(options, raw=raw, out=tmp_path / "out")
    folder = SplitFolder(tmp_path / "out")
    assert list(find_problems(folder)) == []
    assert folder.meta.options["label_noise"] == 0.2
    assert folder.meta.left_out == {"images": 100 - sum(
        folder.count(client, split) for client in folder.client_ids for split in SPLITS[:3]
    )}  # fmt: skip


def test_the_arrays_of_a_tiny_federation_are_pinned(raw: Path, tmp_path: Path) -> None:
    """Published results name a seed: a change of these arrays makes them another data set.

    If this fails on purpose (a changed draw), raise the format version and say so in the release notes.
    """
    build(TINY, raw=raw, out=tmp_path / "out")
    assert digest_arrays(SplitFolder(tmp_path / "out")) == PINNED


def test_making_it_twice_changes_nothing_and_other_options_are_refused(raw: Path, tmp_path: Path) -> None:
    path = build(TINY, raw=raw, out=tmp_path)
    before = path.stat().st_mtime_ns
    assert build(TINY, raw=raw, out=tmp_path, workers=2) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="seed 5, now 6"):
        build(TINY.model_copy(update={"seed": 6}), raw=raw, out=tmp_path)
    build(TINY.model_copy(update={"seed": 6}), raw=raw, out=tmp_path, overwrite=True)
    assert SplitFolder(tmp_path).meta.seed == 6


def test_the_description_tells_the_map_that_clients_share(raw: Path, tmp_path: Path) -> None:
    build(TINY.model_copy(update={"map_divergence": 0.0}), raw=raw, out=tmp_path)
    meta = SplitFolder(tmp_path).meta
    assert meta.shared_map is not None
    assert sorted(meta.shared_map) == list(range(10))
    for client in meta.clients.values():
        assert client.color_map == {y: meta.shared_map[y] for y in client.classes}


def test_progress_counts_clients(raw: Path, tmp_path: Path) -> None:
    seen = []
    build(TINY, raw=raw, out=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"<!DOCTYPE html><html>Not found</html>", "a web page, not a gzip file"),
        (IMAGES, gzip.compress(bytes(5000))[:-9], "cut short or damaged"),
        (IMAGES, gzip.compress(bytes([0, 0, 8, 3]) + bytes(500)), "images of 0x0, expected 28x28"),
        (IMAGES, gzip.compress(b"text"), "no idx file of bytes with 3 dimensions"),
        (LABELS, gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 60]) + bytes(59)), "59 bytes of values for 60"),
        (LABELS, gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 59]) + bytes(59)), "60 images and 59 labels"),
        (LABELS, gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 60]) + bytes([10] * 60)), "label 10 in row 0"),
        (LABELS, None, "missing, .*; fetch it with .* --download"),
    ],
    # Not the content: gzip puts the time into it, and processes that share tests must agree on their names.
    ids=lambda value: None if isinstance(value, str) else "content",
)  # fmt: skip
def test_broken_raw_files_are_refused_by_name(
    raw: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = raw / "MNIST" / "raw" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        build(TINY, raw=raw, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_mnist_are_refused_unless_asked_for(raw: Path, tmp_path: Path) -> None:
    strict = TINY.model_copy(update={"verify_raw": True})
    with pytest.raises(InputError, match=r"47,056 bytes unpacked, expected 47,040,016: cut short"):
        build(strict, raw=raw, out=tmp_path / "out")


def test_a_folder_without_raw_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no MNIST files; looked for train-images-idx3-ubyte\.gz"):
        build(TINY, raw=tmp_path, out=tmp_path / "out")
    with pytest.raises(InputError, match="say with raw where"):
        build(Options(source="mnist"), raw=None, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes_per_client": 11, "colors": 20}, "less than or equal to 10"),
        ({"source": "digits", "raw_split": "train"}, "one part only"),
        ({"source": "usps"}, "'mnist' or 'digits'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_digits_are_enlarged_by_linear_interpolation() -> None:
    """np.interp between pixel centres, once per axis, is the same rule in floating point."""
    small = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    centres, small_centres = (np.arange(28) + 0.5) * 8 / 28, np.arange(8) + 0.5
    rows = np.apply_along_axis(lambda line: np.interp(centres, small_centres, line), 1, small)
    both = np.apply_along_axis(lambda line: np.interp(centres, small_centres, line), 2, rows)
    assert np.abs(enlarge_digits(small) - both * 255 / 16).max() <= 0.5 + 1e-9
    assert enlarge_digits(np.full((1, 8, 8), 16)).min() == 255


def test_without_raw_files_the_digits_of_scikit_learn_are_used(tmp_path: Path) -> None:
    digits = read_digits()
    assert digits.grey.shape == (1797, 28, 28)
    assert digits.source.tolist() == list(range(1797))
    build(Options(clients=4, limit=200, bias_conflicting_fraction=0.1), raw=None, out=tmp_path)
    folder = SplitFolder(tmp_path)
    assert folder.meta.options["source"] == "digits"
    assert "1,797 digits inside scikit-learn" in folder.meta.notes[0]
    samples = folder.load("0000", "train")
    assert np.array_equal(samples.image.max(axis=3), digits.grey[samples.source])
    assert list(find_problems(folder)) == []


@pytest.mark.realdata
def test_real_mnist_becomes_50_clients(real_data: Path, tmp_path: Path) -> None:
    """70,000 digits: the numbers of reading 11."""
    build(Options(), raw=real_data, out=tmp_path)
    folder = SplitFolder(tmp_path)
    counts = {s: [folder.count(client, s) for client in folder.client_ids] for s in SPLITS}
    assert len(folder.client_ids) == 50
    assert sum(counts["train"]) + sum(counts["val"]) + sum(counts["test"]) == 70_000
    assert counts["test_bc"] == counts["test"]
    for train, val, test in zip(*(counts[split] for split in SPLITS[:3]), strict=True):
        size = train + val + test
        for part, share in ((train, 0.72), (val, 0.08), (test, 0.2)):
            assert abs(part - share * size) < 1
    assert list(find_problems(folder)) == []
    train = folder.load("0000", "train")
    for y in folder.meta.clients["0000"].classes:
        of_class = train.aligned[train.label == y]
        assert (of_class == 0).sum() == int(len(of_class) * 0.02 + 0.5)


@pytest.mark.realdata
def test_a_flipped_bit_in_real_mnist_is_noticed(real_data: Path, tmp_path: Path) -> None:
    for path in (real_data / "MNIST" / "raw").glob("*.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        if path.name.startswith("t10k-images"):
            content[5000] ^= 1
        (tmp_path / path.stem).write_bytes(content)
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte: damaged or other data"):
        build(Options(), raw=tmp_path, out=tmp_path / "out")
