import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from celeba_raw import flat_color, flat_image, small_labels, write_images, write_labels, write_raw, write_zip
from click.testing import CliRunner

from data_partition import celeba_real, celeba_synthetic
from data_partition.celeba.options import CelebAOptions
from data_partition.split_files.check import find_problems
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import SPLITS, read_meta
from fedml_spurious.common.errors import InputError

NUM_IMAGES = 12 * 10  # of small_labels()
# An odd celebrity has 5 non-blond and 5 blond females, an even one 8 non-blond and 2 blond males.
COUNTS = """
clients:
- train_and_validation: {non_blond_female: 2, non_blond_male: 3, blond_female: 1, blond_male: 1}
  test: {non_blond_female: 1, non_blond_male: 1, blond_female: 1, blond_male: 1}
  test_bc: {blond_male: 2}
- train_and_validation: {non_blond_female: 2, non_blond_male: 3, blond_female: 1, blond_male: 1}
  test: {non_blond_female: 2, non_blond_male: 2, blond_female: 2}
  test_bc: {blond_male: 1}
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "counts.yaml").write_text(COUNTS)
    return write_raw(tmp_path / "raw", small_labels())


def _options(module: Any, raw: Path, **changes: Any) -> CelebAOptions:
    own = {"group_counts": raw.parent / "counts.yaml"} if module is celeba_synthetic else {}
    return module.Options(identities_per_client=3, **own, **changes)


def _build(module: Any, raw: Path, out: str, *, workers: int = 1, **changes: Any) -> Path:
    path = module.build(_options(module, raw, **changes), raw=raw, out=raw.parent / out, workers=workers)
    assert isinstance(path, Path)
    return path


def _arrays(meta: Path) -> dict[str, np.ndarray]:
    """``split/client/column`` -> array, read with nothing but h5py."""
    found = {}
    for split in SPLITS:
        with h5py.File(meta.with_name(meta.name.replace("meta.json", f"{split}.h5"))) as file:
            for client, group in file["examples"].items():
                found |= {f"{split}/{client}/{column}": data[()] for column, data in group.items()}
    return found


def _digest(arrays: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256()
    for key in sorted(arrays):
        state.update(f"{key} {arrays[key].dtype} {arrays[key].shape}".encode())
        state.update(np.ascontiguousarray(arrays[key]).tobytes())
    return state.hexdigest()


BOTH = pytest.mark.parametrize("module", [celeba_real, celeba_synthetic])

# Whoever publishes results on these splits relies on them: a change of the draws, of their order or of the
# files' content must be noticed and be worth it. The images are of one colour each and stored without loss,
# so that no version of the JPEG or resize code changes the value.
PINNED = {
    celeba_real: "8da9999816d37cb27b5d333a455539965ead9baa3393ced9620bb607485c1073",
    celeba_synthetic: "53a09cf1c4058e1b2f90f0160453c8757d7d19d492d8ffacc5315b210fddf9fe",
}


@BOTH
def test_the_arrays_of_a_tiny_federation_never_change(raw: Path, module: Any) -> None:
    path = _build(module, raw, "out")
    assert _digest(_arrays(path)) == PINNED[module]
    with h5py.File(path.with_name(f"{module.NAME}_train.h5")) as file:
        assert file["examples/0002/image"].compression is None  # photographs hardly shrink


def test_progress_is_a_tenth_for_reading_and_the_rest_for_decoding(raw: Path) -> None:
    """By hand: 4 clients of 30 images, first read one after the other, then decoded."""
    told: list[tuple[int, int]] = []
    celeba_real.build(
        _options(celeba_real, raw),
        raw=raw,
        out=raw.parent / "out",
        workers=1,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 120) for done in (3, 6, 9, 12, 39, 66, 93, 120)]


def test_who_is_personalized_follows_both_thresholds_and_is_told(raw: Path) -> None:
    chosen = {}
    for females, males in ((0, 0), (9, 0), (0, 1)):
        wanted = {"train_blond_females_above": females, "test_blond_males_above": males}
        meta = read_meta(_build(celeba_real, raw, f"out{females}{males}", **wanted))
        assert meta.thresholds == wanted
        expected = [
            client
            for client, of in meta.clients.items()
            if of.groups["train"].get("0/1", 0) > females and of.groups["test"].get("1/1", 0) > males
        ]
        assert meta.personalized_clients == tuple(expected)
        chosen[females, males] = set(expected)
    assert chosen[0, 0] > chosen[9, 0]
    assert chosen[0, 0] > chosen[0, 1]


@BOTH
def test_neither_the_number_of_workers_nor_the_zip_makes_a_difference(raw: Path, module: Any) -> None:
    one = _build(module, raw, "one")
    two = _build(module, raw, "two", workers=2)
    images = raw / "celeba" / "img_align_celeba"
    images.rename(raw / "elsewhere")
    write_zip(raw / "celeba", range(1, NUM_IMAGES + 1))
    zipped = _build(module, raw, "zipped", workers=2)
    assert one.read_bytes() == two.read_bytes() == zipped.read_bytes()
    assert _digest(_arrays(one)) == _digest(_arrays(two)) == _digest(_arrays(zipped))


@BOTH
def test_every_sample_is_what_the_label_files_say(raw: Path, module: Any) -> None:
    labels = small_labels()
    arrays = _arrays(_build(module, raw, "out"))
    owners: dict[int, str] = {}
    for split in SPLITS:
        for key in [key for key in arrays if key.startswith(f"{split}/") and key.endswith("/source")]:
            group = key.removesuffix("source")
            for position, number in enumerate(arrays[key]):
                row = number - 1
                assert arrays[group + "label"][position] == labels.male[row]
                assert arrays[group + "spurious"][position] == labels.blond[row]
                is_blond_male = labels.male[row] == 1 and labels.blond[row] == 1
                assert arrays[group + "aligned"][position] == (not is_blond_male)
                assert (arrays[group + "image"][position] == flat_color(int(number))).all()
                client = key.split("/")[1]
                assert owners.setdefault(int(labels.identity[row]), client) == client
            if split == "test_bc":
                assert not arrays[group + "aligned"].any()
    assert set(owners.values()) == {"0000", "0001", "0002", "0003"}
    assert sum(len(arrays[f"test_bc/{client}/source"]) for client in owners.values()) > 0


def test_bias_conflicting_images_are_copied_but_on_fixed_clients_they_are_others(raw: Path) -> None:
    arrays = _arrays(_build(celeba_synthetic, raw, "out"))
    for client in ("0000", "0001", "0002", "0003"):
        sources = {split: set(arrays[f"{split}/{client}/source"].tolist()) for split in SPLITS}
        elsewhere = sources["train"] | sources["val"]
        assert not sources["train"] & sources["val"]
        assert not sources["test"] & elsewhere
        assert all(sources[split] for split in ("train", "test"))
        if client in ("0000", "0001"):
            assert sources["test_bc"]
            assert not sources["test_bc"] & (elsewhere | sources["test"])
        else:
            assert sources["test_bc"] <= sources["test"]


def test_a_file_of_counts_says_who_conflicts_and_with_it_who_is_personalized(raw: Path) -> None:
    """Non-blond females conflict too; only the first of two clients has a bias-conflicting test set."""
    counts = COUNTS.split("test_bc: {blond_male: 1}")[0].replace(
        "test_bc: {blond_male: 2}", "test_bc: {blond_male: 1, non_blond_female: 3}"
    )
    who = "conflicting: [blond_male, non_blond_female]"
    (raw.parent / "counts.yaml").write_text(f"{who}{counts}test_bc: {{}}")
    path = _build(celeba_synthetic, raw, "out")
    meta = read_meta(path)
    assert meta.personalized_clients == ("0000",)
    assert meta.clients["0000"].groups["test_bc"] == {"0/0": 3, "1/1": 1}
    assert meta.notes[0] == (
        "bias-conflicting: non-blond females and blond males; all other images are bias-aligned"
    )
    assert list(find_problems(SplitFolder(path.parent))) == []
    labels, arrays = small_labels(), _arrays(path)
    assert {*np.concatenate([arrays[key] for key in arrays if key.endswith("/aligned")])} == {0, 1}
    for key in [key for key in arrays if key.endswith("/source")]:
        rows = arrays[key] - 1
        aligned = arrays[key.removesuffix("source") + "aligned"]
        assert aligned.tolist() == (labels.male[rows] != labels.blond[rows]).astype(int).tolist()


def test_fixed_clients_have_the_counts_of_the_file(raw: Path) -> None:
    path = _build(celeba_synthetic, raw, "out")
    meta = read_meta(path)
    together = {"0/0": 2, "1/0": 3, "0/1": 1, "1/1": 1}
    expected = {  # test, test_bc; "label/spurious"
        "0000": ({"0/0": 1, "1/0": 1, "0/1": 1, "1/1": 1}, 2),
        "0001": ({"0/0": 2, "1/0": 2, "0/1": 2}, 1),
    }
    for client, (test, conflicting) in expected.items():
        groups = meta.clients[client].groups
        sums = {key: groups["train"].get(key, 0) + groups["val"].get(key, 0) for key in together}
        assert (sums, groups["test"], groups["test_bc"]) == (together, test, {"1/1": conflicting})
    assert meta.personalized_clients == ("0000", "0001")
    # Where the file lies makes no difference to the data, what it says does.
    assert meta.options["group_counts"] == "counts.yaml"
    assert meta.raw["counts.yaml"] == hashlib.sha256(COUNTS.encode()).hexdigest()
    # Of 12 celebrities two clients take three each; the other six, of ten images each, are reserved.
    assert meta.left_out["images_of_reserved_identities_not_needed"] == 6 * 10 - (7 + 4 + 2) - (7 + 6 + 1)
    labels = small_labels()
    used = np.concatenate([rows - 1 for key, rows in _arrays(path).items() if key.endswith("source")])
    blond_males = np.flatnonzero(labels.group == 3)
    not_needed = meta.left_out["blond_males_of_reserved_identities_not_needed"]
    assert not_needed == len(np.setdiff1d(blond_males, used))


@BOTH
def test_a_dry_run_needs_only_labels_and_counts_the_same(raw: Path, tmp_path: Path, module: Any) -> None:
    full = read_meta(_build(module, raw, "full"))
    write_labels(tmp_path / "labels" / "celeba", small_labels())
    options = _options(module, raw, dry_run=True)
    path = module.build(options, raw=tmp_path / "labels", out=tmp_path / "dry")
    assert [entry.name for entry in (tmp_path / "dry").iterdir()] == [path.name]
    dry = read_meta(path)
    assert dry.clients == full.clients
    assert dry.left_out == full.left_out
    assert dry.files == {}
    assert 0 in dry.left_out.values()  # of which nothing is said
    assert not [remark for remark in dry.remarks() if remark.startswith("left out: 0 ")]


def test_a_dry_run_does_not_touch_finished_splits(raw: Path) -> None:
    before = _build(celeba_real, raw, "out").read_bytes()
    with pytest.raises(InputError, match="use another folder"):
        _build(celeba_real, raw, "out", dry_run=True)
    assert (raw.parent / "out" / "celeba_real_meta.json").read_bytes() == before


def test_a_finished_folder_is_left_alone_and_another_seed_is_refused(raw: Path) -> None:
    path = _build(celeba_real, raw, "out")
    stamp = path.stat().st_mtime_ns
    assert _build(celeba_real, raw, "out") == path
    assert path.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match=r"seed 0, now 1.*overwrite=True"):
        _build(celeba_real, raw, "out", seed=1)
    (raw / "celeba" / "img_align_celeba" / "000001.jpg").write_bytes(flat_image(200))
    with pytest.raises(InputError, match="other raw files"):
        _build(celeba_real, raw, "out")


def test_missing_images_are_counted_and_can_be_skipped(raw: Path) -> None:
    for number in (7, 19, 20):  # images 7 and 19 show celebrity 7, image 20 celebrity 8
        (raw / "celeba" / "img_align_celeba" / f"{number:06d}.jpg").unlink()
    with pytest.raises(
        InputError,
        match=r"of 120 .*3 cannot be found \(000007.jpg, 000019.jpg, 000020.jpg\).*line 9\. .*skip",
    ):
        _build(celeba_real, raw, "out")
    assert not (raw.parent / "out").exists()
    meta_path = _build(celeba_real, raw, "out", missing_images="skip")
    meta = read_meta(meta_path)
    assert meta.left_out == {
        "images_missing": 3,
        "identities_with_missing_images": 2,
        "images_of_identities_with_missing_images": 17,
        "identities_left_over": 1,
        "images_of_identities_left_over": 10,
    }
    seen = [value for key, value in _arrays(meta_path).items() if key.endswith("source")]
    assert not {7, 8} & set(small_labels().identity[np.concatenate(seen) - 1].tolist())


@pytest.mark.parametrize(("name", "number"), [("train", 0), ("valid", 1), ("test", 2)])
def test_one_official_split_can_be_used(raw: Path, name: str, number: int) -> None:
    meta_path = _build(celeba_real, raw, "out", raw_split=name)
    seen = np.concatenate([value for key, value in _arrays(meta_path).items() if key.endswith("source")])
    assert set(small_labels().partition[seen - 1].tolist()) == {number}
    assert read_meta(meta_path).left_out["images_of_other_official_splits"] == 80


def test_label_noise_changes_an_exact_share_of_training_labels_and_alignment_follows(raw: Path) -> None:
    labels = small_labels()
    arrays = _arrays(_build(celeba_real, raw, "out", label_noise=0.25))
    changed = 0
    for client in ("0000", "0001", "0002", "0003"):
        for split in SPLITS:
            rows = arrays[f"{split}/{client}/source"] - 1
            given, spurious = arrays[f"{split}/{client}/label"], arrays[f"{split}/{client}/spurious"]
            for y in (0, 1):
                members = labels.male[rows] == y
                share = 0.25 if split in ("train", "val") else 0.0
                wrong = int((given[members] != y).sum())
                assert wrong == int(np.floor(members.sum() * share + 0.5))
                changed += wrong
            expected = ~((given == 1) & (spurious == 1))
            np.testing.assert_array_equal(arrays[f"{split}/{client}/aligned"], expected)
    assert changed > 0


def test_without_blond_males_in_training_blond_means_female(raw: Path) -> None:
    full = read_meta(_build(celeba_real, raw, "full"))
    meta = read_meta(_build(celeba_real, raw, "out", keep_blond_males=0.0))
    dropped = 0
    for client, of in meta.clients.items():
        for split in ("train", "val"):
            assert "1/1" not in of.groups[split]
            dropped += full.clients[client].groups[split].get("1/1", 0)
        assert of.groups["test"] == full.clients[client].groups["test"]
    assert meta.left_out["blond_males_thinned_out"] == dropped > 0


def test_celebrities_that_make_no_client_are_reserved_for_the_fixed_ones(tmp_path: Path) -> None:
    """As 77 of 10,177 are: of 14 two clients take three each, and the other eight are reserved."""
    write_labels(tmp_path / "celeba", small_labels(14, 10))
    (tmp_path / "counts.yaml").write_text(COUNTS)
    options = celeba_synthetic.Options(
        identities_per_client=3, group_counts=tmp_path / "counts.yaml", dry_run=True
    )
    meta = read_meta(celeba_synthetic.build(options, raw=tmp_path, out=tmp_path / "dry"))
    assert meta.num_clients == 4
    assert meta.left_out["identities_left_over"] == 0
    assert "; 8 celebrities are reserved for them" in meta.notes[-1]


def test_each_client_thins_its_blond_males_by_draws_of_its_own(raw: Path) -> None:
    """Those of numpy's seed sequence: seed 0, the published number 105, client, train 0 or val 1."""
    full, thinned = (
        _arrays(_build(celeba_real, raw, out, keep_blond_males=keep))
        for out, keep in (("a", 1.0), ("b", 0.5))
    )
    group = small_labels().group
    for client in range(4):
        for place, split in enumerate(("train", "val")):
            rows = full[f"{split}/{client:04}/source"] - 1
            blond_males = rows[group[rows] == 3]
            draw = np.random.default_rng(np.random.SeedSequence([0, 105, client, place]))
            kept = draw.permutation(blond_males)[: (len(blond_males) + 1) // 2]
            expected = sorted({*rows.tolist()} - {*blond_males.tolist()} | {*kept.tolist()})
            assert (thinned[f"{split}/{client:04}/source"] - 1).tolist() == expected


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(flat_image(1, (64, 64))), "expected 178 x 218 pixels, got 64 x 64"),
        (lambda path: path.write_bytes(b"<html>"), "no readable image"),
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "no readable image"),
    ],
)
def test_a_bad_image_ends_the_work_and_leaves_nothing_finished(raw: Path, damage: Any, reason: str) -> None:
    path = raw / "celeba" / "img_align_celeba" / "000100.jpg"
    good = path.read_bytes()
    damage(path)
    with pytest.raises(InputError, match=f"000100.jpg .*line 102.*{reason}"):
        _build(celeba_real, raw, "out", workers=2)
    assert [entry.name for entry in (raw.parent / "out").glob("[!.]*")] == []
    path.write_bytes(good)
    _build(celeba_real, raw, "out", workers=2)
    assert all(not entry.name.startswith(".") for entry in (raw.parent / "out").iterdir())


@BOTH
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--clients", "9"], "celebrities"),
        (["--identities-per-client", "13", "--clients", "3"], "celebrities"),
        (["--ratios", "0:1:2", "--label-noise", "2"], "label_noise"),
        (["--keep-blond-males", "nan"], "keep_blond_males"),
        (["--missing-images", "maybe"], "missing_images"),
    ],
)
def test_wrong_options_end_with_status_2_and_one_message(
    raw: Path, module: Any, arguments: list[str], reason: str
) -> None:
    out = raw.parent / "out"
    extra = ["--group-counts", str(raw.parent / "counts.yaml")] if module is celeba_synthetic else []
    result = CliRunner().invoke(
        module.command,
        ["--raw", str(raw), "--out", str(out), "--identities-per-client", "3", *extra, *arguments],
    )
    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()


def test_the_command_line_builds_and_says_what_it_left_out(raw: Path) -> None:
    out = raw.parent / "out"
    result = CliRunner().invoke(
        celeba_real.command,
        ["--raw", str(raw), "--out", str(out), "--identities-per-client", "5", "--workers", "1"],
    )
    assert result.exit_code == 0, result.output
    assert "2 clients" in result.stdout
    assert "2 identities_left_over" in result.stdout
    assert json.loads((out / "celeba_real_meta.json").read_text())["num_clients"] == 2


SLOW_BUILD = """
import sys, time
from pathlib import Path
from data_partition import celeba_real
from data_partition.celeba import shards

decode = shards.decode
def slow_decode(*given):
    time.sleep(0.01)
    return decode(*given)
shards.decode = slow_decode
raw, out = map(Path, sys.argv[1:])
celeba_real.build(celeba_real.Options(identities_per_client=1), raw=raw, out=out, workers=1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_build_is_taken_up_where_it_was(raw: Path) -> None:
    out = raw.parent / "out"
    shards = out / ".celeba_real.decoded"
    running = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(raw), str(out)])
    deadline = time.monotonic() + 240
    while len(list(shards.glob("[!.]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (out / "celeba_real_meta.json").exists()
    assert not list(out.glob("[!.]*"))
    assert len(workers) == 1
    while Path(f"/proc/{workers[0]}").exists():  # it notices and ends
        assert time.monotonic() < deadline
        time.sleep(0.01)
    before = {path.name: path.stat().st_mtime_ns for path in shards.glob("[!.]*")}
    assert 2 <= len(before) < 12

    reused = {}

    def watch(done: int, _total: int) -> None:
        if done > 20:  # more than the reading of all files, so the shards are still there
            reused.update({path.name: path.stat().st_mtime_ns for path in shards.glob("[!.]*")})

    options = celeba_real.Options(identities_per_client=1)
    path = celeba_real.build(options, raw=raw, out=out, progress=watch, workers=1)
    assert before.items() <= reused.items()
    fresh = celeba_real.build(options, raw=raw, out=raw.parent / "fresh", workers=1)
    assert path.read_bytes() == fresh.read_bytes()
    assert not [entry for entry in out.iterdir() if entry.name.startswith(".")]


def test_a_damaged_shard_is_made_again(raw: Path) -> None:
    write_images(raw / "celeba", [])
    expected = _build(celeba_real, raw, "expected")
    bad = raw / "celeba" / "img_align_celeba" / "000120.jpg"
    good = bad.read_bytes()
    bad.write_bytes(b"x")
    with pytest.raises(InputError, match=r"000120\.jpg .*no readable image"):
        _build(celeba_real, raw, "out")
    bad.write_bytes(good)
    shards = [*(raw.parent / "out" / ".celeba_real.decoded").iterdir()]
    assert shards
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[:1000])
    assert _build(celeba_real, raw, "out").read_bytes() == expected.read_bytes()
