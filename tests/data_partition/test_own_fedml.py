"""FedML's data as client split files."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from data_partition.own import from_fedml
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_fedml.py"


def loader(client: int, count: int, **options: Any) -> DataLoader[Any]:
    """Every pixel of an image is its number / 255; the class alternates."""
    values = (torch.arange(count) + 100 * client) / 255
    image = values[:, None, None, None].expand(count, options.get("channels", 1), 4, 4)
    return DataLoader(TensorDataset(image, torch.arange(count) % 2), batch_size=3)


def parity_of_pairs(image: Any, label: int) -> int:
    """Goes with the class, except for the numbers that 10 divides, of which all are of class 0."""
    return label ^ int(image[0, 0, 0] % 10 == 0)


def dataset() -> list[Any]:
    train = {0: loader(0, 40), 1: loader(1, 20)}
    test = {0: loader(0, 21), 1: loader(1, 10)}
    return [60, 31, None, None, {0: 40, 1: 20}, train, test, 2]


def test_the_list_of_eight_becomes_split_files(tmp_path: Path) -> None:
    from_fedml(tmp_path, "numbers", dataset(), parity_of_pairs, validation=20)
    splits = SplitFolder(tmp_path)
    counts = {c: [splits.count(c, s) for s in ("train", "val", "test", "test_bc")] for c in splits.client_ids}
    assert counts == {"0000": [32, 8, 21, 3], "0001": [16, 4, 10, 1]}  # 0, 10, 20 and 100 conflict
    pooled = [splits.load("0000", split) for split in ("train", "val")]
    numbers = np.concatenate([part.image[:, 0, 0, 0] for part in pooled])
    assert sorted(numbers.tolist()) == list(range(40))
    for part in (*pooled, splits.load("0000", "test")):
        number = part.image[:, 2, 3, 1].astype(int)
        assert part.image.shape[1:] == (4, 4, 3)
        assert part.label.tolist() == (number % 2).tolist()
        assert part.spurious.tolist() == ((number % 2) ^ (number % 10 == 0)).tolist()
        assert part.aligned.tolist() == (number % 10 != 0).astype(int).tolist()
    assert np.bincount(splits.load("0000", "val").label).tolist() == [4, 4]


def test_names_groups_and_seed_are_those_of_the_files(tmp_path: Path) -> None:
    """Also where FedML's test loaders are missing, so that the seed draws all splits."""
    names = {"class_names": ["even", "odd"], "spurious_names": ["plain", "marked"]}
    drawn = []
    for seed in (0, 4):
        for kind, data in (("list", dataset()), ("loaders", dataset()[5])):
            out = tmp_path / f"{kind}{seed}"
            from_fedml(out, "numbers", data, parity_of_pairs, seed=seed, conflicting_groups=[(1, 1)], **names)
            splits = SplitFolder(out)
            assert (splits.meta.class_names, splits.meta.spurious_names) == (
                ("even", "odd"),
                ("plain", "marked"),
            )
            train = splits.load("0000", "train")
            assert train.aligned.tolist() == [
                int(pair != (1, 1)) for pair in zip(train.label, train.spurious, strict=True)
            ]
            assert splits.count("0000", "val") == {"list": 4, "loaders": 3}[kind]  # 10 % of 40, or 8 %
            drawn.append((kind, tuple(splits.load("0000", "val").image[:, 0, 0, 0].tolist())))
    assert len(set(drawn)) == 4


def test_validation_samples_are_drawn_by_client_and_by_class(tmp_path: Path) -> None:
    """30 and 10 samples of two classes at 20 per cent are 6 and 2; clients of equal data draw apart."""
    image = (torch.arange(40) / 255)[:, None, None, None].expand(40, 1, 4, 4)
    label = (torch.arange(40) >= 30).long()

    def one() -> DataLoader[Any]:
        return DataLoader(TensorDataset(image, label), batch_size=7)

    data = [80, 80, None, None, {0: 40, 1: 40}, {0: one(), 1: one()}, {0: one(), 1: one()}, 2]
    from_fedml(tmp_path, "numbers", data, lambda _, y: y, validation=20)
    splits = SplitFolder(tmp_path)
    found = [splits.load(client, "val") for client in ("0000", "0001")]
    assert [np.bincount(part.label).tolist() for part in found] == [[6, 2]] * 2
    numbers = [sorted(part.image[:, 0, 0, 0].tolist()) for part in found]
    assert numbers[0] != numbers[1]


def test_training_loaders_alone_are_drawn_into_splits(tmp_path: Path) -> None:
    from_fedml(
        tmp_path, "numbers", {3: loader(0, 40), 12: loader(1, 20)}, parity_of_pairs, ratios=(60, 20, 20)
    )
    splits = SplitFolder(tmp_path)
    assert [splits.count("0001", split) for split in ("train", "val", "test")] == [12, 4, 4]
    assert 100 <= splits.load("0001", "train").image.min()  # the client of index 12


@pytest.mark.parametrize("validation", [0, 100])
def test_a_validation_split_of_nothing_or_everything_is_refused(validation: int, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"validation: is {validation}; expected a whole per cent from 1 to 99"
    ):
        from_fedml(tmp_path, "numbers", dataset(), parity_of_pairs, validation=validation)


def test_flat_and_normalised_images_are_brought_back(tmp_path: Path) -> None:
    flat = DataLoader(TensorDataset(torch.full((6, 16), 2.0), torch.arange(6) % 2), batch_size=2)
    with pytest.raises(InputError, match=r"expected values in \[0, 1\], got 2 to 2: .* from_fedml\(pixels="):
        from_fedml(tmp_path, "flat", {0: flat}, lambda image, label: label)
    from_fedml(tmp_path, "flat", {0: flat}, lambda image, label: label, pixels=lambda x: x / 4)
    assert SplitFolder(tmp_path).load("0000", "train").image.shape[1:] == (4, 4, 3)
    assert set(SplitFolder(tmp_path).load("0000", "train").image.ravel().tolist()) == {128}  # 0.5 * 255


def test_bytes_stay_what_they_are_with_rows_and_channels_in_their_places(tmp_path: Path) -> None:
    image = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loaders = {0: [(image, torch.arange(6) % 2)]}
    from_fedml(tmp_path, "bytes", loaders, lambda image, label: label, ratios=(1, 0, 0))
    samples = SplitFolder(tmp_path).load("0000", "train")
    expected = image.permute(0, 2, 3, 1).numpy()[samples.source]
    assert np.array_equal(samples.image, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "expected the list of eight"),
        ({0: []}, "no client's loader holds a sample"),
        (
            {0: [(torch.zeros(2, 5, 4, 4), torch.zeros(2, dtype=int))]},
            "expected images .* got \\(2, 5, 4, 4\\)",
        ),
        ({0: [(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3))]}, "expected a class from 0"),
        ({0: [3]}, "no pair of images and classes"),
        (
            {0: [(torch.zeros(2, 1, side, side), torch.zeros(2, dtype=int)) for side in (4, 5)]},
            r"images of one size, got \[\(4, 4, 3\), \(5, 5, 3\)\]",
        ),
    ],
)
def test_what_is_no_such_data_is_refused(given: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        from_fedml(tmp_path, "bad", given, parity_of_pairs)


@pytest.mark.parametrize("name", [None, "fed_emnist"])
def test_fedmls_hdf5_is_refused_in_one_sentence(name: str | None, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "fed_emnist_train.h5", "w") as file:
        file["examples/f0000_14/pixels"] = np.zeros((2, 28, 28))
        file["examples/f0000_14/label"] = np.zeros((2, 1))
    with pytest.raises(InputError, match=r"fed_emnist_train\.h5: has no description of ours.*from_fedml"):
        SplitFolder(tmp_path, name=name)


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    main(tmp_path)
    capsys.readouterr()
    main(tmp_path)  # writes the same again
    shown = capsys.readouterr().out
    assert shown.count("map {0: 0, 1: 1}") == 2
    assert shown.count("map {0: 1, 1: 0}") == 1  # of client 1, the other way round
