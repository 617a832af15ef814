"""The allocator's settings, in processes of their own: they hold to the end of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import quick_start

from fedml_spurious.common import allocator

# Steps of a network with a gradient of 38 MB; what counts comes after a warm-up.
STEPS = """
import json, os, resource, sys
from fedml_spurious.common.allocator import reuse_freed_memory
told = reuse_freed_memory()
assert "torch" not in sys.modules
import hashlib, numpy as np, torch
from fedml_spurious.learning.training import LocalTraining, train_locally
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3072, 3072), torch.nn.ReLU(), torch.nn.Linear(3072, 5))
x, y = torch.rand(16, 3072), torch.arange(16) % 5
steps = train_locally(
    model, LocalTraining(4, 8), sequence=lambda epoch: np.arange(16), noise=lambda batch: batch,
    loss=lambda model, rows: torch.nn.functional.cross_entropy(model(x[rows]), y[rows]),
    device=torch.device("cpu"),
)
for _ in range(4):
    next(steps)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in steps:
    pass
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
sha = hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()
print(json.dumps({"told": told, "faults": faults, "bits": sha}))
"""


def run(folder: Path, **variables: str) -> Any:
    program = folder / "steps.py"
    program.write_text(STEPS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, quick_start.__file__, str(program)]
    finished = subprocess.run(
        command, env=clean | variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.skipif(not allocator._on_glibc(), reason="glibc's settings")
def test_steps_hardly_fault_and_have_the_same_bits(tmp_path: Path) -> None:
    """The gradient of the first layer is above glibc's largest threshold, and has 9,216 pages of 4 KB.

    A kernel that gives pages of 2 MB by itself has 18 faults in their place.
    """
    with_settings, without = run(tmp_path), run(tmp_path, FEDML_SPURIOUS_ALLOCATOR="system")
    assert with_settings["told"]
    assert not without["told"]
    assert without["faults"] >= 4 * 18
    assert with_settings["faults"] < without["faults"] / 4
    assert with_settings["bits"] == without["bits"]


@pytest.mark.parametrize(
    "variables",
    [
        {"FEDML_SPURIOUS_ALLOCATOR": "system"},
        {"MALLOC_MMAP_MAX_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.top_pad=1"},
    ],
)
def test_who_has_chosen_is_left_alone(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # would fail
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not allocator.reuse_freed_memory()


@pytest.mark.parametrize("answer", [None, ValueError("unrecognized configuration name")])
def test_nothing_happens_without_glibc(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def confstr(name: str) -> Any:
        if answer is not None:
            raise answer

    monkeypatch.setattr(allocator.os, "confstr", confstr)
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.reuse_freed_memory()
