"""What a run shows of its progress, on terminals of any width and on none."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fedml_spurious.common import progress
from fedml_spurious.common.progress import progress_line, stage

GLOBAL = {"title": "Global model, rounds", "done": 12, "total": 500, "message": "fl0 loss 0.083 Acc_B 0.333"}
SPLITS = {"title": "Splits of celeba_synthetic, fl0", "done": 12, "total": 12, "message": ""}


@pytest.mark.parametrize(
    ("width", "stage_of", "expected"),
    [
        (50, GLOBAL, "Global model, rounds  12/500 0:00:01 left 1:01:05"),
        (50, SPLITS, "Splits of celeba_synth… 12/12 0:00:01 left 1:01:05"),
        (80, GLOBAL, "Global model, rounds ━━━━━━━━━━  12/500 0:00:01 left 1:01:05 fl0 loss 0.083 Acc…"),
        (
            110,
            GLOBAL,
            "Global model, rounds ━━━━━━━━━━━━━━━━━━━━  12/500 0:00:01 left 1:01:05 fl0 loss 0.083 "
            "Acc_B 0.333",
        ),
    ],
)
def test_the_line_of_a_stage(width: int, stage_of: dict[str, Any], expected: str) -> None:
    line = progress_line(**stage_of, elapsed=1.9, left=3665.0, width=width)
    assert line.plain.rstrip() == expected


TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
SECONDS = st.none() | st.floats(0, 35_999)


@settings(max_examples=60, deadline=None)
@given(
    title=TEXTS, message=TEXTS, width=st.integers(50, 200), total=st.integers(1, 99_999),
    share=st.floats(0, 1), elapsed=SECONDS, left=SECONDS, ascii_only=st.booleans(),
)  # fmt: skip
def test_count_and_times_are_whole_and_in_one_place_at_any_width(
    title: str, message: str, width: int, total: int, share: float, elapsed: float | None, left: float | None,
    ascii_only: bool,
) -> None:  # fmt: skip
    done = round(share * total)
    same = {
        "title": title,
        "total": total,
        "elapsed": elapsed,
        "left": left,
        "width": width,
        "ascii_only": ascii_only,
    }
    line = progress_line(**same, done=done, message=message).plain
    assert len(line) <= width
    assert line.isascii() or not ascii_only
    place = line.index(f"{done}/{total} ")
    times = r"(\d:\d\d:\d\d|-:--:--) left (\d:\d\d:\d\d|-:--:--)( |$)"
    assert re.match(times, line[place + len(f"{done}/{total} ") :])
    without = progress_line(**same, done=done, message="").plain
    finished = progress_line(**same, done=total, message=message).plain
    assert without.index(f"{done}/{total} ") == place
    assert finished.index(f"/{total} ") == line.index(f"/{total} ")


SHOW = """
import time
from rich.console import Console
from fedml_spurious.common.progress import stage
with stage(Console(stderr=True), "Global model, rounds", total=500) as bar:
    for number in range(500):
        bar.advance("fl0 loss 0.083 Acc_B 0.333 and much more that nobody can read on so narrow a terminal")
    time.sleep(0.2)
"""


def seen_in_terminal(term: str, columns: int) -> str:
    """What a program writes to a terminal of the kernel's, as people have one."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 20, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    subprocess.run(
        [sys.executable, "-c", SHOW], stdin=follower, stdout=follower, stderr=follower, check=True,
        env=environment | {"TERM": term},
    )  # fmt: skip
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed and all is read
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()


@pytest.mark.parametrize("columns", [50, 80, 110])
def test_a_terminal_shows_the_count_and_the_times(columns: int) -> None:
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen_in_terminal("xterm-256color", columns))
    last = [line for line in re.split(r"[\r\n]+", shown) if line.strip()][-1]
    assert re.search(r" 500/500 0:00:0\d left 0:00:00( |$)", last)
    assert len(last.rstrip()) <= columns
    assert last.startswith("Global model, rounds")


def test_a_dumb_terminal_gets_plain_lines() -> None:
    shown = seen_in_terminal("dumb", 80)
    assert "Global model, rounds: 500/500" in shown
    assert "\x1b" not in shown


def test_a_pipe_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    stream = io.StringIO()
    with stage(Console(file=stream), "Work", total=2) as bar:
        bar.advance("first")
        bar.advance()
    assert re.fullmatch(r"Work: 1/2, \d+ s left  first\nWork: 2/2, 0 s left\n", stream.getvalue())


@pytest.mark.parametrize(
    ("interval", "expected"), [(60.0, ""), (0.0, "Work: 1/2, 0 s left\nWork: 2/2, 0 s left\n")]
)
def test_a_quiet_stage_says_nothing_where_it_is_quick(
    interval: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", interval)
    stream = io.StringIO()
    with stage(Console(file=stream), "Work", total=2, quiet=True) as bar:
        bar.advance()
        bar.advance()
    assert stream.getvalue() == expected


def test_steps_of_an_earlier_process_take_no_count_back_and_no_time_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    clock = iter(range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: 60.0 * next(clock))
    with stage(Console(file=stream, force_terminal=True, width=80), "Sweep", total=8) as bar:
        for _ in range(3):
            bar.skip(2)
        bar.advance("fl0 0.5")
    frames = re.findall(
        r" (\d)/8 (\d):(\d\d):\d\d left", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    )
    counts = [int(count) for count, _, _ in frames]
    minutes = [60 * int(hours) + int(rest) for _, hours, rest in frames]
    assert counts == sorted(counts)
    assert minutes == sorted(minutes)
    assert counts[-1] == 7
    assert minutes[-1] >= 4
