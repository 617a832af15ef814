"""On the real label files (202,599 images) and on the images of 200 celebrities."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_partition import celeba_real, celeba_synthetic
from data_partition.celeba.clients import group_counts
from data_partition.celeba.groups import PAPER_COUNTS
from data_partition.celeba.labels import CelebALabels, celeba_folder, read_labels
from data_partition.split_files.meta import SPLITS, SplitMeta, client_name, read_meta

pytestmark = pytest.mark.realdata

SEEDS = range(10)
EXAMPLE = Path(__file__).parents[3] / "examples" / "celeba_group_counts.yaml"


@pytest.fixture(scope="module")
def raw(real_data: Path) -> Path:
    return real_data


@pytest.fixture(scope="module")
def labels(raw: Path) -> CelebALabels:
    return read_labels(celeba_folder(raw))


def _rows(labels: CelebALabels) -> np.ndarray:
    return np.arange(len(labels.male), dtype=np.int64)


def test_the_label_files_hold_the_known_groups(labels: CelebALabels) -> None:
    """Counted with awk in list_attr_celeba.txt and identity_CelebA.txt."""
    assert np.bincount(labels.group).tolist() == [89_931, 82_685, 28_234, 1_749]
    assert len(np.unique(labels.identity)) == 10_177


def test_celeba_r_has_the_counts_of_random_splits(labels: CelebALabels) -> None:
    """Readings of ten other random splits: 202,204 - 202,297 images, 326 - 371 blond males to test on,
    38 - 42 % of the clients without one to train on, 1 - 8 clients personalized. Averages lie inside."""
    used, conflicting, without, personalized = [], [], [], []
    for seed in SEEDS:
        federation = celeba_real.deal(labels, _rows(labels), options=celeba_real.Options(seed=seed))
        assert len(federation.clients) == 508
        assert federation.left_out["identities_left_over"] == 17
        owners = np.concatenate([plan.identities for plan in federation.clients])
        assert len(np.unique(owners)) == len(owners) == 508 * 20
        counts = [group_counts(plan, labels) for plan in federation.clients]
        used.append(sum(len(plan.images) for plan in federation.clients))
        conflicting.append(sum(of["test_bc"][3] for of in counts))
        assert conflicting[-1] == sum(of["test"][3] for of in counts)
        without.append(np.mean([of["train"][3] == 0 for of in counts]))
        personalized.append(len(federation.personalized))
    assert 202_204 <= np.mean(used) <= 202_297
    assert 326 <= np.mean(conflicting) <= 371
    assert 0.38 <= np.mean(without) <= 0.42
    assert 1 <= np.mean(personalized) <= 8


@pytest.mark.parametrize("seed", SEEDS)
def test_celeba_s_has_the_tables_cell_for_cell(labels: CelebALabels, seed: int) -> None:
    federation = celeba_synthetic.deal(
        labels, _rows(labels), options=celeba_synthetic.Options(seed=seed), counts=PAPER_COUNTS
    )
    tables = {  # appendix C.1; non-blond female, non-blond male, blond female, blond male
        "table 3": [[55, 31, 12, 2], [30, 68, 0, 2], [59, 28, 11, 2]],
        "test": [[115, 60, 45, 2], [60, 75, 79, 0], [86, 111, 14, 0]],
        "test_bc": [[0, 0, 0, 200], [0, 0, 0, 203], [0, 0, 0, 204]],
    }
    for client in range(3):
        counts = group_counts(federation.clients[client], labels)
        counts["table 3"] = counts["train"] + counts["val"]
        assert {table: counts[table].tolist() for table in tables} == {
            table: rows[client] for table, rows in tables.items()
        }
        assert (counts["train"].sum(), counts["val"].sum()) == (90, 10)
    assert list(federation.personalized) == [0, 1, 2]
    owners = np.concatenate([plan.identities for plan in federation.clients])
    assert len(np.unique(owners)) == len(owners) == 10_177
    assert [len(plan.identities) for plan in federation.clients[3:]] == [20] * 505
    reserved = np.concatenate([plan.identities for plan in federation.clients[:3]])
    assert len(reserved) == 77
    blond_males = np.bincount(labels.identity[labels.group == 3], minlength=10_178)
    assert blond_males[reserved].sum() >= np.sort(blond_males)[-50:].sum() == 622
    unused = federation.left_out["images_of_reserved_identities_not_needed"]
    assert unused == np.isin(labels.identity, reserved).sum() - 1_554


@pytest.mark.parametrize("module", [celeba_real, celeba_synthetic])
def test_a_dry_run_describes_all_508_clients(raw: Path, tmp_path: Path, module: Any) -> None:
    meta = read_meta(module.build(module.Options(dry_run=True), raw=raw, out=tmp_path))
    assert meta.num_clients == len(meta.clients) == 508
    assert [path.name for path in tmp_path.iterdir()] == [f"{module.NAME}_meta.json"]
    on_clients = sum(of.counts[split] for of in meta.clients.values() for split in ("train", "val", "test"))
    copied = sum(meta.clients[client_name(client)].counts["test_bc"] for client in range(3))
    left_out = sum(count for kind, count in meta.left_out.items() if kind.startswith("images_"))
    moved = copied if module is celeba_synthetic else 0
    assert on_clients + moved + left_out == 202_599


@pytest.mark.parametrize("module", [celeba_real, celeba_synthetic])
def test_the_200_celebrities_become_10_clients(
    raw: Path, labels: CelebALabels, tmp_path: Path, module: Any
) -> None:
    changes = {}
    if module is celeba_synthetic:
        changes["group_counts"] = EXAMPLE
    options = module.Options(missing_images="skip", **changes)
    path = module.build(options, raw=raw, out=tmp_path / "two", workers=2)
    if module is celeba_real:
        other = module.build(options, raw=raw, out=tmp_path / "one", workers=1)
        assert other.read_bytes() == path.read_bytes()  # it holds the checksums of the four files
    meta = read_meta(path)
    assert meta.num_clients == 10
    assert meta.left_out["images_missing"] == 202_599 - 6_000
    _check_arrays(path, meta, labels)


def _check_arrays(path: Path, meta: SplitMeta, labels: CelebALabels) -> None:
    owners: dict[int, str] = {}
    for split in SPLITS:
        with h5py.File(path.with_name(f"{meta.name}_{split}.h5")) as file:
            for client, group in file["examples"].items():
                rows = group["source"][()] - 1
                assert group["image"].shape == (meta.clients[client].counts[split], 64, 64, 3)
                assert not len(rows) or group["image"][()].std() > 20  # photographs, no blank fields
                np.testing.assert_array_equal(group["label"][()], labels.male[rows])
                np.testing.assert_array_equal(group["spurious"][()], labels.blond[rows])
                np.testing.assert_array_equal(group["aligned"][()], labels.group[rows] != 3)
                for who in np.unique(labels.identity[rows]).tolist():
                    assert owners.setdefault(who, client) == client
    assert len(set(owners.values())) == meta.num_clients == 10


def test_an_image_is_what_torchvision_makes_of_it(raw: Path) -> None:
    from PIL import Image
    from torchvision import transforms

    from data_partition.celeba.images import decode, find_images

    source, numbers = find_images(celeba_folder(raw))
    chain = transforms.Compose([transforms.CenterCrop(178), transforms.Resize(64)])
    assert len(numbers) >= 20
    for number in numbers[:20].tolist():
        with Image.open(source.file(number)) as image:
            expected = np.asarray(chain(image))
        np.testing.assert_array_equal(decode(source.read(number), "here", number), expected)
