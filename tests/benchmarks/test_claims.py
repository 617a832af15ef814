"""The benchmarks beside FedML at a small size: every side does its work, the harness takes them in turn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

BENCHMARKS = Path(__file__).parents[2] / "examples" / "benchmarks"


@pytest.fixture(autouse=True)
def _beside_them(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("claim_", "harness", "roofline", "fedml_side")):
            del sys.modules[name]


def test_sides_are_taken_in_turn_each_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness  # found only on the path that is set above

    (tmp_path / "sleepy.py").write_text(
        "import os, time\n"
        "def make(seconds, log):\n"
        "    def work():\n"
        "        time.sleep(seconds)\n"
        "        allocator = os.environ['FEDML_SPURIOUS_ALLOCATOR']\n"
        "        print(seconds, os.getpid(), allocator, file=open(log, 'a'))\n"
        "    return work\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    log = tmp_path / "log"
    sides = [
        harness.Side("slow", "sleepy:make", {"seconds": 0.2, "log": str(log)}, allocator=False),
        harness.Side("fast", "sleepy:make", {"seconds": 0.1, "log": str(log)}),
    ]
    found = harness.measure(sides, repeats=2)
    done = [line.split() for line in log.read_text().splitlines()]
    assert [seconds for seconds, _, _ in done] == ["0.2", "0.1"] * 3  # the first two warm up
    assert {(seconds, allocator) for seconds, _, allocator in done} == {("0.2", "system"), ("0.1", "ours")}
    assert len({pid for _, pid, _ in done}) == 2
    assert found["slow"]["times as fast"] == 1
    assert found["fast"]["times as fast"] > 1
    assert found["slow"]["from"] >= 0.2


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import claim_h_start  # found only on the path that is set above

    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0))
    result = CliRunner().invoke(claim_h_start.main, [])
    assert result.exit_code == 1
    assert "the machine is busy: a load of 99.0" in result.output
    assert "--anyway" in result.output


@pytest.mark.parametrize(
    ("module", "sides"),
    [
        ("claim_abc_rounds", ["fedml", "ours", "bare"]),
        ("claim_de_clients", ["personalize_ours", "personalize_fedml", "evaluate_ours", "evaluate_fedml"]),
        ("claim_f_experiment", ["ours", "fedml_global", "fedml_methods"]),
    ],
)
def test_every_side_works(module: str, sides: list[str]) -> None:
    import importlib

    found = importlib.import_module(module)
    for side in sides:
        getattr(found, side)("small")()


def test_the_split_files_of_a_side_are_gone_when_its_process_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness  # found only on the path that is set above

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    side = harness.Process(harness.Side("FedML", "claim_f_experiment:fedml_methods", {"setting": "small"}))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("claim_f_*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.glob("claim_f_*"))
    side.end()
    assert not list(tmp_path.glob("claim_f_*"))


@pytest.mark.parametrize("changes", [{}, {"epochs": 5}])
def test_rounds_on_all_sides_begin_with_the_same_samples_and_make_as_many_steps(
    changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import claim_abc_rounds  # found only on the path that is set above

    steps: dict[str, int] = {}
    step = torch.optim.Adam.step

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps[side] = steps.get(side, 0) + 1
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    for side in ("fedml", "ours", "bare"):
        getattr(claim_abc_rounds, side)("small", **changes)()
    expected = 2 * 3 * changes.get("epochs", 1)  # clients times batches
    assert steps == dict.fromkeys(("fedml", "ours", "bare"), expected)


def test_the_bound_of_a_step_counts_products_and_passes() -> None:
    """A linear layer of 4 x 3 on 2 samples: 2 * 2 * 4 * 3 operations forward and as many for the weights."""
    import roofline  # found only on the path that is set above

    model, found = torch.nn.Linear(4, 3, bias=False), {"GFLOP/s": 1e-9, "GB/s": 1e-9}
    seconds = roofline.step_bound(model, torch.ones(2, 4), torch.tensor([0, 1]), found)
    assert seconds == pytest.approx(2 * 48 + 8 * 48)


@pytest.mark.usefixtures("quick_processes")
def test_tiny_clients_are_counted_from_the_events_of_a_run(tmp_path: Path) -> None:
    import claim_g_clients  # found only on the path that is set above

    found = claim_g_clients.measure_claim(tmp_path, (6,))
    assert found["6 clients"].keys() == {"s", "ms a piece", "second half / first", "peak MB"}
    assert len((tmp_path / "6/run/results.csv").read_text().splitlines()) == 1 + 2 * 6


@pytest.mark.usefixtures("quick_processes")
def test_two_workers_are_timed_by_the_events_of_their_run() -> None:
    import claim_two_workers  # found only on the path that is set above

    assert 0 < claim_two_workers.personalization("small", clients=4)()["s"] < 60
