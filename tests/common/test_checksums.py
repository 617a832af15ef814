"""A file of a run that is not what the run wrote is noticed when it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedml_spurious.common.checksums import CHECKSUMS, keep_checksums, require_unchanged
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import (
    append_csv,
    read_csv,
    read_json,
    tidy_csv,
    write_bytes,
    write_csv,
    write_json,
)

COLUMNS = ["client", "acc"]
ROWS = [{"client": f"{k:04}", "acc": k / 7} for k in range(4)]
READ = [{name: str(value) for name, value in row.items()} for row in ROWS]
CHANGED = "is not what this run wrote"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    keep_checksums(tmp_path)
    return tmp_path


def test_what_was_written_is_read_again_by_any_process(run: Path) -> None:
    write_json(run / "global/fl0/budget.json", {"eps": 0.5})
    write_json(run / "global/fl0/budget.json", {"eps": 0.25})
    assert read_json(run / "global/fl0/budget.json") == {"eps": 0.25}
    (run.rename(run.with_name("moved")) / "global").joinpath("fl0/notes.txt").write_text("mine")
    assert read_json(run.with_name("moved") / "global/fl0/budget.json") == {"eps": 0.25}


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"eps": 1e9}\n', b'{\n  "eps": 0.26\n}\n', b'{\n  "eps": 0.25\n}', b"\x00" * 15]
)
def test_any_other_content_is_noticed(content: bytes, run: Path) -> None:
    path = run / "budget.json"
    write_json(path, {"eps": 0.25})
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{path}: {CHANGED}.*; remove the file and continue with --resume"):
        read_json(path)
    path.unlink()  # as advised
    write_json(path, {"eps": 0.25})
    assert read_json(path) == {"eps": 0.25}


def test_a_file_of_another_run_and_one_that_nobody_wrote_are_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keep_checksums(tmp_path / name)
        write_csv(tmp_path / name / "clients.csv", COLUMNS, ROWS[: 2 + (name == "b")])
    os.replace(tmp_path / "b/clients.csv", tmp_path / "a/clients.csv")
    with pytest.raises(InputError, match=CHANGED):
        read_csv(tmp_path / "a/clients.csv")
    (tmp_path / "a/other.json").write_text("{}")
    with pytest.raises(InputError, match=CHANGED):
        read_json(tmp_path / "a/other.json")


@pytest.mark.parametrize("room", ["global/fl0", "personal/ft/fl0_p0", "silos/1/tuning/l2"])
def test_outside_of_runs_nothing_is_known_and_an_older_run_is_taken_as_it_is(
    tmp_path: Path, room: str
) -> None:
    path = tmp_path / room / "budget.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"eps": 1}')
    assert read_json(path) == {"eps": 1}
    keep_checksums(tmp_path)
    assert read_json(path) == {"eps": 1}
    path.write_text('{"eps": 2}')
    with pytest.raises(InputError, match=CHANGED):
        read_json(path)


class Killed(BaseException):
    """Stands for a kill."""


def test_a_kill_between_the_digest_and_the_file_leaves_a_file_that_is_known(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run / "budget.json"
    write_json(path, {"eps": 1})

    def killed(*_: Any) -> None:
        raise Killed

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(Killed):
                write_json(path, {"eps": 2})
        assert read_json(path) == {"eps": 1}
    write_json(path, {"eps": 2})
    assert read_json(path) == {"eps": 2}


@pytest.mark.parametrize("lost", range(0, 90, 3))
def test_a_table_that_was_cut_off_anywhere_in_its_last_lines_keeps_the_lines_before(
    lost: int, run: Path
) -> None:
    """Two rows in one append, as a trajectory grows."""
    path = run / "trajectory.csv"
    append_csv(path, COLUMNS, ROWS[:1])
    append_csv(path, COLUMNS, ROWS[1:2])
    before = path.stat().st_size
    append_csv(path, COLUMNS, ROWS[2:])
    content = path.read_bytes()
    if lost >= len(content) - before:
        return
    path.write_bytes(content[: len(content) - lost])
    if content[: len(content) - lost].endswith(b"\n") and lost:
        return  # a whole line is gone: no kill leaves that
    found = read_csv(path, grows=True)
    assert found == (READ[:2] if lost else READ)
    (run / CHECKSUMS).write_bytes((run / CHECKSUMS).read_bytes())  # the next process reads it anew
    append_csv(path, COLUMNS, ROWS[len(found) :])
    assert read_csv(path, grows=True) == read_csv(path) == READ


@pytest.mark.parametrize(
    ("old", "new"), [(b"0.0", b"1.0"), (b"0.42", b"0.4"), (b"0.42", b"0.43"), (b"0003", b"0002")]
)
def test_numbers_that_were_edited_in_a_table_that_grew_are_noticed(old: bytes, new: bytes, run: Path) -> None:
    path = run / "clients.csv"
    for row in ROWS:
        append_csv(path, COLUMNS, [row])
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    for read in (lambda: read_csv(path), lambda: read_csv(path, grows=True), lambda: require_unchanged(path)):
        with pytest.raises(InputError, match=CHANGED):
            read()
    # In a process of its own, which has not seen the file before.
    (run / CHECKSUMS).write_bytes((run / CHECKSUMS).read_bytes())
    with pytest.raises(InputError, match=CHANGED):
        append_csv(path, COLUMNS, ROWS[:1])


def test_rows_whose_digest_was_lost_with_the_power_are_made_again(run: Path) -> None:
    path = run / "clients.csv"
    for row in ROWS:
        append_csv(path, COLUMNS, [row])
    lines = (run / CHECKSUMS).read_bytes().splitlines(keepends=True)
    (run / CHECKSUMS).write_bytes(b"".join(lines[:-2]))
    assert read_csv(path, grows=True) == READ[:2]
    with pytest.raises(InputError, match=CHANGED):
        read_csv(path)
    tidy_csv(path, COLUMNS, ROWS)
    assert read_csv(path) == READ


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b"[1]", b'{"file": 1}', b'{"file": "x", "now": 5}', b"[" * 9999]
)
def test_lines_of_digests_that_cannot_be_read_count_as_absent(damage: bytes, run: Path) -> None:
    write_bytes(run / "a.json", b"{}")
    kept = run / CHECKSUMS
    kept.write_bytes(damage + b"\n" + kept.read_bytes() + damage)  # the last one without its end
    assert read_json(run / "a.json") == {}
    write_bytes(run / "b.json", b"{}")
    assert read_json(run / "b.json") == {}
    kept.write_bytes(damage)
    with pytest.raises(InputError, match=CHANGED):
        read_json(run / "a.json")


def test_what_may_not_be_read_may_be_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run / "budget.json"
    write_json(path, {"eps": 1})

    def forbidden(*_: Any) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(InputError, match=r"Permission denied.*make it readable") as refused:
        read_json(path)
    assert "remove" not in str(refused.value)


def test_every_line_names_its_file(run: Path) -> None:
    write_json(run / "global/fl0/identity.json", {})
    (line,) = (run / CHECKSUMS).read_text().splitlines()
    assert json.loads(line)["file"] == "global/fl0/identity.json"
