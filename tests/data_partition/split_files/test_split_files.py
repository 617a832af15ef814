from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_partition.split_files.draft import Draft, interrupts_deferred
from data_partition.split_files.meta import (
    SPLITS,
    SplitInfo,
    SplitMeta,
    client_name,
    meta_path,
    read_meta,
    write_meta,
)
from data_partition.split_files.samples import Samples, alignment
from data_partition.split_files.writer import SplitWriter, already_there
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.ends import signals_end_as_ctrl_c
from fedml_spurious.common.errors import InputError, RunError

INFO = SplitInfo(
    name="toy",
    seed=3,
    options={"clients": 2, "ratios": [72, 8, 20]},
    num_classes=2,
    image_shape=(4, 5, 3),
    class_names=("a", "b"),
    spurious_names=("red", "green"),
    raw={"file": "0" * 64},
)


def make_samples(size: int, first: int = 0) -> Samples:
    rng = np.random.default_rng(first)
    label = rng.integers(0, 2, size)
    return Samples(
        image=rng.integers(0, 256, (size, 4, 5, 3), dtype=np.uint8),
        label=label,
        spurious=label,
        aligned=np.ones(size, np.uint8),
        source=np.arange(first, first + size),
    )


def write_toy(folder: Path, *, overwrite: bool = False, info: SplitInfo = INFO) -> None:
    with SplitWriter(folder, info, overwrite=overwrite) as writer:
        for client in range(2):
            writer.add_client(client_name(client), classes=[0, 1], color_map={0: 0, 1: 1})
            writer.write(client_name(client), "train", make_samples(7, 10 * client))
        writer.write("0000", "test", make_samples(3, 100))


def test_written_arrays_come_back_with_the_types_of_the_contract(tmp_path: Path) -> None:
    write_toy(tmp_path)
    with h5py.File(tmp_path / "toy_train.h5") as file:
        group = file["examples/0001"]
        expected = make_samples(7, 10)
        for column, dtype in (
            ("image", "uint8"),
            ("label", "int64"),
            ("spurious", "int64"),
            ("aligned", "uint8"),
            ("source", "int64"),
        ):
            assert group[column].dtype == dtype
            assert np.array_equal(group[column][()], getattr(expected, column))


def test_a_split_without_samples_has_empty_arrays(tmp_path: Path) -> None:
    write_toy(tmp_path)
    for split in ("val", "test", "test_bc"):
        with h5py.File(tmp_path / f"toy_{split}.h5") as file:
            assert list(file["examples"]) == ["0000", "0001"]
            assert file["examples/0001/image"].shape == (0, 4, 5, 3)
            assert file["examples/0001/label"].shape == (0,)


def test_the_description_holds_counts_groups_and_checksums(tmp_path: Path) -> None:
    write_toy(tmp_path)
    meta = read_meta(meta_path(tmp_path, "toy"))
    assert meta.num_clients == 2
    assert meta.clients["0000"].counts == {"train": 7, "val": 0, "test": 3, "test_bc": 0}
    labels = make_samples(7, 10).label
    groups = {f"{y}/{y}": int((labels == y).sum()) for y in (0, 1)}
    assert meta.clients["0001"].groups["train"] == groups
    for split in SPLITS:
        file = tmp_path / f"toy_{split}.h5"
        assert meta.files[split].sha256 == sha256_of(file)
        assert meta.files[split].bytes == file.stat().st_size


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    write_toy(tmp_path / "one")
    write_toy(tmp_path / "two")
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_the_work_breaks_off(tmp_path: Path, error: type[BaseException]) -> None:
    def break_off() -> None:
        with SplitWriter(tmp_path, INFO) as writer:
            writer.add_client("0000", classes=[0])
            writer.write("0000", "train", make_samples(3))
            raise error("broken off")

    with pytest.raises(error, match="broken off"):
        break_off()
    assert list(tmp_path.iterdir()) == []


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script that imports this module, in a process of its own."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parents[2])])
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from test_split_files import write_toy
from fedml_spurious.common.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the signal ends the process
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    write_toy(Path(sys.argv[1]))
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100, 3000, 9000])
def test_a_full_disk_ends_with_a_message_and_nothing_written(tmp_path: Path, limit: int) -> None:
    """A limit on the size of a file stands for the full disk; HDF5 itself crashes on either."""
    done = run_script(FULL_DISK, tmp_path, limit)
    assert done.returncode == 0, done.stderr
    assert "the splits of toy cannot be written (File too large)" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


INTERRUPTED = """
import signal, sys
from pathlib import Path
from data_partition.split_files.draft import Draft
from test_split_files import write_toy

plain_write = Draft.write
def interrupted_write(self, content):
    signal.raise_signal(signal.SIGINT)
    return plain_write(self, content)
Draft.write = interrupted_write
try:
    write_toy(Path(sys.argv[1]))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_while_hdf5_writes_ends_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    """An exception in the middle of a call from HDF5 would crash the process: signal 11, seen without."""
    done = run_script(INTERRUPTED, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_is_held_back_until_the_block_ends(number: signal.Signals) -> None:
    steps = []

    def interrupted() -> None:
        with signals_end_as_ctrl_c(), interrupts_deferred():
            signal.raise_signal(number)
            steps.append("after the signal")
        steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_draft_remembers_a_failed_write() -> None:
    """Linux's /dev/full refuses every byte; HDF5 must believe that all went well."""
    with Draft(Path("/dev/full")) as draft:
        assert draft.failure is None
        assert draft.write(b"abc") == 3
        assert draft.failure is not None
        assert draft.failure.errno == errno.ENOSPC


def test_a_failed_description_takes_the_files_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RunError("disk full")

    monkeypatch.setattr("data_partition.split_files.writer.write_meta", fail)
    with pytest.raises(RunError, match="disk full"):
        write_toy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_killed_processes_are_removed_and_others_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    orphan = tmp_path / f".toy_train.h5.{dead.pid}.partial"
    running = tmp_path / f".toy_train.h5.{os.getppid()}.partial"
    foreign = tmp_path / f".toyota_train.h5.{dead.pid}.partial"
    description = tmp_path / f".toy_meta.json.{dead.pid}.partial"
    for path in (orphan, description, running, foreign):
        path.touch()
    write_toy(tmp_path)
    assert not orphan.exists()
    assert not description.exists()
    assert running.exists()
    assert foreign.exists()


def test_splits_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    write_toy(tmp_path)
    with pytest.raises(InputError, match=r"toy_meta\.json: already there"):
        write_toy(tmp_path)
    before = (tmp_path / "toy_train.h5").read_bytes()
    write_toy(tmp_path, overwrite=True)
    assert (tmp_path / "toy_train.h5").read_bytes() == before


def test_the_same_data_set_need_not_be_made_again(tmp_path: Path) -> None:
    assert already_there(tmp_path, INFO) is None
    write_toy(tmp_path)
    assert already_there(tmp_path, INFO) == tmp_path / "toy_meta.json"
    assert already_there(tmp_path, INFO, overwrite=True) is None


def test_other_options_and_other_raw_files_are_told_apart(tmp_path: Path) -> None:
    write_toy(tmp_path)
    other = INFO.model_copy(update={"options": {"clients": 3, "ratios": [72, 8, 20]}})
    with pytest.raises(InputError, match=r"made differently \(clients 2, now 3\)"):
        already_there(tmp_path, other)
    with pytest.raises(InputError, match="other raw files"):
        already_there(tmp_path, INFO.model_copy(update={"raw": {"file": "1" * 64}}))


def test_damaged_splits_do_not_pass_as_done(tmp_path: Path) -> None:
    write_toy(tmp_path)
    (tmp_path / "toy_val.h5").unlink()
    with pytest.raises(InputError, match=r"toy_val\.h5: missing or damaged"):
        already_there(tmp_path, INFO)


def test_the_counts_of_a_dry_run_do_not_stand_in_the_way(tmp_path: Path) -> None:
    write_meta(tmp_path, SplitMeta(**dict(INFO), num_clients=0, clients={}, files={}))
    assert already_there(tmp_path, INFO) is None
    write_toy(tmp_path)
    assert read_meta(tmp_path / "toy_meta.json").num_clients == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([0, 1, 2])}, r"label: expected 0\.\.1, got 0\.\.2"),
        ({"spurious": np.array([0, -1, 0])}, r"spurious: expected 0\.\.1, got -1\.\.0"),
        ({"image": np.zeros((3, 4, 4, 3), np.uint8)}, r"images of \(4, 4, 3\), announced \(4, 5, 3\)"),
    ],
)
def test_values_outside_their_range_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    samples = Samples(**{**vars(make_samples(3)), **change})
    with SplitWriter(tmp_path, INFO) as writer:
        writer.add_client("0000", classes=[0, 1])
        with pytest.raises(ValueError, match=message):
            writer.write("0000", "train", samples)


@pytest.mark.parametrize("column", ["image", "label", "aligned"])
def test_samples_of_wrong_type_are_refused(column: str) -> None:
    arrays = vars(make_samples(3))
    with pytest.raises(ValueError, match=f"{column}: expected"):
        Samples(**{**arrays, column: arrays[column].astype(np.float32)})


def test_client_names_sort_as_numbers() -> None:
    names = [client_name(index) for index in (0, 9, 10, 507, 9999)]
    assert names == ["0000", "0009", "0010", "0507", "9999"] == sorted(names)
    with pytest.raises(InputError, match="at most 10000 clients"):
        client_name(10_000)


def test_alignment_follows_the_map_or_the_conflicting_groups() -> None:
    label, spurious = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert alignment(label, spurious, {0: 1, 1: 0}, ()).tolist() == [0, 1, 1, 0]
    assert alignment(label, spurious, None, [(1, 1)]).tolist() == [1, 1, 1, 0]
