"""How a command ends: signals, output that takes nothing, empty arguments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from data_partition import inspect, own_folder
from data_partition.registry import PARTITIONS
from fedml_spurious.cli import main
from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.ends import EndedError, signals_end_as_ctrl_c
from fedml_spurious.common.storage import sweep_drafts, write_text

TALKING = """
import click
from fedml_spurious.common.cli_errors import friendly

@click.command()
@friendly
def talk():
    for _ in range(2000):
        click.echo("x" * 100)
    click.echo("said", err=True)

talk()
"""


def shell(redirection: str) -> subprocess.CompletedProcess[str]:
    command = f'"$0" -c "$1" {redirection}'
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", sys.executable, TALKING],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirection", "status", "stderr"),
    [
        ("> /dev/null", 0, "said\n"),
        ("> /dev/full", 1, "said\nError: standard output cannot be written (No space left on device)\n"),
        ("| head -1 > /dev/null", 0, "said\n"),
        (">&-", 0, "said\n"),
        ("2>&- > /dev/null", 0, ""),
        (">&- 2>&-", 0, ""),
        ("> /dev/null 2> /dev/full", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_output_that_takes_nothing_is_no_traceback(redirection: str, status: int, stderr: str) -> None:
    done = shell(redirection)
    assert (done.returncode, done.stderr) == (status, stderr)


def test_a_file_is_never_opened_as_standard_output(tmp_path: Path) -> None:
    """Where standard output is closed its number is free, and what libraries print would get into a file."""
    opening = "print(open('file', 'w').fileno(), file=open('n', 'w'))"
    code = TALKING.replace('click.echo("said", err=True)', opening)
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], cwd=tmp_path, check=False
    )
    assert done.returncode == 0
    assert int((tmp_path / "n").read_text()) > 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_with_its_number_after_cleaning_up(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned = []

    @friendly
    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(number)

    with pytest.raises(click.exceptions.Exit) as ended:
        work()
    assert ended.value.exit_code == 128 + number
    assert cleaned == [number]
    named = "Interrupted" if number == signal.SIGINT else f"Ended by {number.name}"
    assert capsys.readouterr().err == f"{named}; nothing half-written was kept.\n"
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_what_is_ignored_stays_ignored_and_a_second_signal_does_not_disturb() -> None:
    def work() -> None:
        with signals_end_as_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with pytest.raises(EndedError, match="by SIGTERM"):
            work()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_listened_to() -> None:
    found = []

    def work() -> None:
        with signals_end_as_ctrl_c():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_a_child_of_a_pool_leaves_the_end_to_its_parent() -> None:
    """In a child, because it is for good."""
    code = (
        "import signal\n"
        "from fedml_spurious.common.ends import leave_ends_to_the_parent, signals_end_as_ctrl_c\n"
        "with signals_end_as_ctrl_c():\n"
        "    leave_ends_to_the_parent()\n"
        "    print(*(int(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "0"]  # ignored, default, default


def test_drafts_of_killed_processes_are_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = ["model.pt", "mine.partial", ".hidden", ".notes.partial", "sub/.env", "sub/model.12.partial"]
    swept = [".model.pt.123.partial", "sub/.clients.csv.7.partial", ".writable.99.partial"]
    for name in (*kept, *swept):
        write_text(tmp_path / name, "")
    (tmp_path / ".folder.1.partial").mkdir()
    (tmp_path / ".link.1.partial").symlink_to(tmp_path / "model.pt")
    sweep_drafts(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {*kept, "sub", ".folder.1.partial", ".link.1.partial"}


def test_every_command_refuses_empty_arguments() -> None:
    commands = [*main.commands.values(), own_folder.command, inspect.command]
    commands += [PARTITIONS[name].command for name in PARTITIONS]
    single = [command for command in commands if not isinstance(command, click.Group)]
    assert len(single) >= 8
    for command in single:
        assert isinstance(command, Command), command.name
        for args in (["--out", ""], ["--out="], ["--out", " "], [""]):
            refused = CliRunner().invoke(command, args)
            assert refused.exit_code == 2
            assert "is empty; give a value, or leave it out" in refused.output


def test_a_set_option_may_be_empty(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["run", "--cf", os.fspath(tmp_path / "absent"), "--set=a.b="])
    assert "no such file" in refused.output
