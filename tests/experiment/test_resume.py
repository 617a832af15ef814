"""Runs that were stopped, killed or that ran out of disk, and what may be continued."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import quick_start
import torch
import yaml
from running import Finished, client_events, invoke, weights, without_time

from fedml_spurious.cli import main
from fedml_spurious.common import storage
from fedml_spurious.common.scratch import SCRATCH, private_folder
from fedml_spurious.common.storage import write_text


def test_the_same_again_takes_the_finished_parts(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config, _ = finished
    before = (folder / "results.csv").read_bytes()
    monkeypatch.setattr("fedml_spurious.experiment.tasks.ClientStep", None)  # any work left would fail
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 0, result.output
    assert (folder / "results.csv").read_bytes() == before


def test_methods_and_seeds_may_join_later_and_old_rows_stay(
    finished: Finished, tmp_path: Path, splits: Path
) -> None:
    import shutil

    source, config, _ = finished
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    grown = config | {
        "experiment_args": {
            "methods": ["global", "ft", "l2", "ours"], "fl_seeds": [0, 1], "personalization_seeds": [0, 1],
        }
    }  # fmt: skip
    old = [tuple(row.items()) for row in without_time(folder)]
    assert invoke(grown, folder, "--resume").exit_code == 0
    new = [tuple(row.items()) for row in without_time(folder)]
    assert len(new) == 2 * 4 + 3 * 2 * 2 * 4
    assert set(old) <= set(new)
    require_nothing_done_twice(folder)
    shrunk = invoke(config, folder, "--resume")
    assert shrunk.exit_code == 2
    assert "['l2'] was there and is not any more" in shrunk.output


def test_a_folder_with_another_run_is_refused(finished: Finished) -> None:
    folder, config, _ = finished
    again = invoke(config, folder)
    assert again.exit_code == 2
    assert "Continue it with --resume" in again.output
    other = invoke(config | {"train_args": config["train_args"] | {"epochs": 2}}, folder, "--resume")
    assert other.exit_code == 2
    assert "train_args.epochs: was 1, is 2" in other.output


def require_nothing_done_twice(folder: Path) -> None:
    done = client_events(folder)
    assert len(set(done)) == len(done)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


GROWING = ["rounds.csv", "trajectory.csv", "clients_last.csv", "clients.csv"]


@pytest.mark.parametrize("stop", [3, 8, 13, 20, 38, *GROWING])
def test_a_run_stopped_in_any_write_resumes_to_the_same_bytes(
    stop: int | str,
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After so many writes, or in the middle of the second one by which a table grows."""
    reference, config, _ = finished
    writes, append = Counter[Path](), storage._append

    def is_last(target: Any) -> bool:
        path = Path(target)
        writes[path] += 1
        if isinstance(stop, int):
            return writes.total() > stop
        kept = SCRATCH not in path.parts
        return kept and path.name == stop and writes[path] == 3  # the first one makes the table

    def replace(source: Any, target: Any) -> None:
        if is_last(target):
            raise Killed
        os.rename(source, target)

    def half(stream: Any, content: bytes) -> None:
        if is_last(stream.name):
            append(stream, content[: len(content) // 2])
            raise Killed
        append(stream, content)

    folder = tmp_path / "run"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "replace", replace)
        patch.setattr(storage, "_append", half)
        with pytest.raises(Killed):
            main.main(["run", "--cf", str(path), "--output", str(folder)], standalone_mode=False)
    assert not (folder / "results.csv").exists()
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 0, result.output
    assert without_time(folder) == without_time(reference)
    assert without_time(folder, "results_last.csv") == without_time(reference, "results_last.csv")
    require_nothing_done_twice(folder)
    for name in ("ft/fl0_p0", "ours/fl1_p0"):
        again, before = (without_time(place, f"personal/{name}/clients.csv") for place in (folder, reference))
        assert again == before
    for part in (
        "personal/ours/fl1_p0/trajectory.csv",
        "personal/ft/fl0_p0/trajectory.csv",
        *(
            f"global/fl{seed}/{name}"
            for seed in (0, 1)
            for name in ("rounds.csv", "checkpoint.pt", "model.pt")
        ),
    ):
        assert (folder / part).read_bytes() == (reference / part).read_bytes()


def test_what_a_killed_process_left_outside_the_run_folder_is_swept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, users, working, begun = (tmp_path / f"fedml_spurious_rank_{name}" for name in "abcd")
    for folder in (left, users, working, begun):
        (folder / ".scratch/tmp").mkdir(parents=True)
    (users / "thesis.tex").write_text("")
    for folder in (left, users, working):
        os.utime(folder, (0, 0))
    descriptor = os.open(working, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # what a process does that is at work
    with private_folder() as mine:
        assert {*tmp_path.iterdir()} == {users, working, begun, mine}
    os.close(descriptor)
    assert {*tmp_path.iterdir()} == {users, working, begun}


def start(config: Path, folder: Path, **options: Any) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        quick_start.__file__,
        "fedml_spurious.cli",
        "run",
        "--cf",
        str(config),
        "--output",
        str(folder),
    ]
    return subprocess.Popen(
        [*command, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(folder: Path, event: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = folder / "progress.jsonl"
        if path.exists() and f'"event": "{event}"' in path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {event} in {folder}: {process.communicate()}")


def test_kill_9_and_ctrl_c_then_resume(finished: Finished, tmp_path: Path) -> None:
    reference, config, _ = finished
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config))
    first = start(path, folder)
    wait_for(folder, "round", first)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    second = start(path, folder)
    wait_for(folder, "client", second)
    second.send_signal(signal.SIGINT)
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert f"--output {folder} --resume" in stderr
    assert invoke(config, folder, "--resume").exit_code == 0
    assert without_time(folder) == without_time(reference)
    require_nothing_done_twice(folder)
    assert all(torch.equal(value, weights(reference)[name]) for name, value in weights(folder).items())


def test_sigterm_and_a_terminal_that_closes_end_a_run_as_ctrl_c_does(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    config, folder = {**tiny, "train_args": {**tiny["train_args"], "comm_round": 500}}, tmp_path / "run"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    ended = start(path, folder)
    wait_for(folder, "round", ended)
    ended.send_signal(signal.SIGTERM)
    _, stderr = ended.communicate(timeout=60)
    assert ended.returncode == 128 + signal.SIGTERM, stderr
    assert "Traceback" not in stderr
    assert "Ended by SIGTERM. What is finished is kept; continue with:" in stderr
    assert f"--output {folder} --resume" in stderr
    assert "Ended by SIGTERM" in (folder / "run.log").read_text()
    assert not (folder / ".scratch").exists()
    write_text(folder / "global/fl0/.model.pt.123456.partial", "half")
    (folder / "progress.jsonl").unlink()
    closed = start(path, folder)
    wait_for(folder, "round", closed)
    assert not (folder / "global/fl0/.model.pt.123456.partial").exists()
    assert closed.stderr is not None
    closed.stderr.close()
    closed.send_signal(signal.SIGHUP)
    assert closed.wait(timeout=60) == 128 + signal.SIGHUP
    assert (folder / "run.log").read_text().count("Ended by SIGHUP") == 1
    assert not (folder / ".scratch").exists()


def test_a_disk_that_fills_up_while_writing(finished: Finished, tmp_path: Path) -> None:
    """The kernel refuses files over a limit, in the middle of the write, as a full disk does."""
    config = finished.config | {"model_args": {"model": "small_network:cnn", "fc_width": 64}}
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(config))
    limit = 100_000  # below a checkpoint, above everything that comes before it

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start(path, folder, preexec_fn=limited)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "checkpoint.pt: cannot be written (File too large)" in stderr
    assert "Traceback" not in stderr
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.rglob("*.pt"))
    assert invoke(config, folder, "--resume").exit_code == 0


def test_a_full_disk_keeps_the_old_file_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedml_spurious.common.errors import RunError

    path = tmp_path / "table.csv"
    storage.write_text(path, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]
