"""Memory of the machine, of the GPU and of the disk that does not suffice, in one line each."""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import ask, missing
from running import invoke

from fedml_spurious.config.file import check_settings
from fedml_spurious.doctor import checks, examination, timing
from fedml_spurious.doctor.estimate import Estimate, Processes
from fedml_spurious.doctor.spans import Span


def test_memory_and_disk_that_do_not_suffice_are_said(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "free_memory", lambda: 10**8)
    monkeypatch.setattr(checks, "used_memory", lambda: 0)
    monkeypatch.setattr(checks, "free_disk", lambda _: 10**4)
    memory, disk = missing(ask(tiny, tmp_path))
    assert memory.startswith("memory: the run takes about ")
    assert "100 MB are free" in memory
    assert "10 kB are free" in disk
    assert "--output on another disk" in disk
    # What the doctor itself has will be free for the run.
    monkeypatch.setattr(checks, "used_memory", lambda: 10**12)
    assert len(missing(ask(tiny, tmp_path))) == 1


def test_a_network_that_does_not_fit_is_said_before_it_is_trained(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clients a round: their models, and nine times as much for training and the sum."""
    monkeypatch.setattr(checks, "free_memory", lambda: 10**6)
    result = ask(tiny | {"model_args": {"model": "cnn_28x28", "fc_width": 8}}, tmp_path)
    (line,) = missing(result)
    assert re.match(
        r"memory: a round has the network's 742 kB of weights 11 times, and 1.0 MB are free", line
    )
    assert "Will cost" not in result.output


def test_no_room_for_temporary_files_is_one_line(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/there")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    (line,) = missing(ask(tiny, tmp_path))
    assert line == (
        "disk: temporary files cannot be written (/tmp/there: No space left on device); free space there, or "
        "name another folder in the environment variable TMPDIR"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.EIO, "Input/output error", "/data/raw.h5"),
            "data: the system refuses what a run will need too (/data/raw.h5: Input/output error); mend "
            "that, and ask again",
        ),
        (
            OSError("Unable to open file"),
            "data: the system refuses what a run will need too (Unable to open file); mend that, and ask "
            "again",
        ),
        (
            OSError(errno.ENOSPC, "Can't write data"),
            "disk: temporary files cannot be written (Can't write data); free space there, or name another "
            "folder in the environment variable TMPDIR",
        ),
    ],
)
def test_what_the_system_refuses_is_told_from_a_full_disk(
    error: OSError, expected: str, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(examination, "foresee_data", refused)
    assert missing(ask(tiny, tmp_path)) == [expected]


def test_a_temporary_file_that_fails_otherwise_is_one_too(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Any, scratch: Path, *__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", str(scratch / "counts"))

    monkeypatch.setattr(examination, "foresee_data", refused)
    (line,) = missing(ask(tiny, tmp_path))
    assert re.match(r"disk: temporary files cannot be written \(.+/counts: Input/output error\)", line)


MEMORY_OF_A_GPU = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 18.38 "
    "MiB is free. Including non-PyTorch memory, this process has 78.00 GiB memory in use."
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            torch.cuda.OutOfMemoryError(MEMORY_OF_A_GPU),
            "GPU: it has not enough memory for the steps of this run (CUDA out of memory. Tried to allocate "
            "20.00 MiB. GPU 0 has a total capacity of 79.11 GiB of which 18.38 MiB is free); lower train_ar",
        ),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel"), "(CUDA error: out of memory); lower train"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory: there is not enough for the"),
        (MemoryError("Unable to allocate 9 TiB"), "(MemoryError: Unable to allocate 9 TiB); lower train_ar"),
    ],
)
@pytest.mark.parametrize("where", ["update_locally", "evaluate"])
def test_too_little_memory_is_one_line_of_what_is_missing(
    error: Exception,
    expected: str,
    where: str,
    tiny: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(timing, where, fail)
    (line,) = missing(ask(tiny, tmp_path))
    assert expected in line
    assert "start fewer" in line or "let fewer workers share it" in line


def test_a_users_network_that_finds_too_little_memory_is_that_line_too(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY)
    monkeypatch.syspath_prepend(tmp_path)
    tiny["model_args"] = {"model": "greedy:network"}
    for most in (0, 40):  # where the network is tried, and where its steps are timed
        monkeypatch.setenv("GREEDY_CALLS", str(most))
        (line,) = missing(ask(tiny, tmp_path))
        assert line.startswith("GPU: it has not enough memory for the steps of this run (CUDA out of memory)")


GREEDY = """
import os
import torch
import small_network

def network(**options):
    made, calls = small_network.cnn(**options), []

    def count(*_):
        calls.append(1)
        if len(calls) > int(os.environ["GREEDY_CALLS"]):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    made.register_forward_pre_hook(count)
    return made
"""


def test_a_run_whose_estimate_finds_too_little_memory_goes_on_and_says_so(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError(MEMORY_OF_A_GPU)

    monkeypatch.setattr(timing, "update_locally", fail)
    tiny["train_args"]["comm_round"] = 1
    tiny["experiment_args"] = {"methods": ["global"]}
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    first, second = result.stderr.splitlines()[:2]
    assert first.startswith("No estimate: GPU: it has not enough memory for the steps of this run (CUDA out")
    assert second.startswith("Plan: ")


@pytest.mark.parametrize(
    ("processes", "gpus", "enough"),
    [(1, None, True), (2, None, True), (3, None, False), (3, [0, 1], True), (5, [0, 1], False)],
)
def test_a_gpu_has_room_for_all_workers_that_share_it(
    processes: int, gpus: list[int] | None, enough: bool, tiny: dict[str, Any],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """6 GB for a process; 7 GB are free, and the doctor has 1 GB of its own."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 10**9)
    tiny["device_args"] = {"worker_gpus": gpus}
    nothing = Span.of(0)
    cost = Estimate({}, nothing, nothing, nothing, gpu=6 * 10**9)
    found = checks.Findings()
    settings = check_settings(tiny, source="tiny")
    checks.check_space(settings, cost, tmp_path, torch.device("cuda"), Processes(processes, 1), found)
    if enough:
        assert found.missing == []
    else:
        (line,) = found.missing
        assert re.match(r"GPU: the run takes about 12 GB of its memory, and 8.0 GB are free; lower the", line)
