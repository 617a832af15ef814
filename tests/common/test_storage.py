"""Atomic files and addressed seeds."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fedml_spurious.common import storage
from fedml_spurious.common.checksums import sha256_of
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.common.storage import (
    append_csv,
    atomic_path,
    read_csv,
    require_writable_folder,
    write_csv,
    write_text,
)


def test_an_exception_while_writing_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as draft:
            draft.write_text("half")
            raise ArithmeticError("boom")

    with pytest.raises(ArithmeticError, match="boom"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_floats_keep_every_digit_and_nothing_is_an_empty_cell(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a", "b"], [{"a": 0.1 + 0.2, "b": None}])
    assert (tmp_path / "t.csv").read_text() == "a,b\n0.30000000000000004,\n"


def test_a_table_grows_by_lines_as_if_it_were_written_at_once(tmp_path: Path) -> None:
    rows = [{"a": number, "b": None if number % 2 else 0.1 * number} for number in range(5)]
    for row in rows:
        append_csv(tmp_path / "grown.csv", ["a", "b"], [row])
    write_csv(tmp_path / "written.csv", ["a", "b"], rows)
    assert (tmp_path / "grown.csv").read_bytes() == (tmp_path / "written.csv").read_bytes()


@pytest.mark.parametrize("cut", range(1, 8))
def test_half_a_line_is_dropped_wherever_a_kill_cut_it(cut: int, tmp_path: Path) -> None:
    path, rows = tmp_path / "t.csv", [{"a": "1", "b": "2"}, {"a": "3", "b": "\u00e9\u00e9"}]
    write_csv(path, ["a", "b"], rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: -len("3,\u00e9\u00e9\n".encode()) + cut - 1])
    assert read_csv(path, grows=True) == rows[:1]
    append_csv(path, ["a", "b"], rows[1:])
    assert path.read_bytes() == whole


def test_half_a_line_of_what_is_written_at_once_is_damage(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,")
    with pytest.raises(InputError, match="cut short"):
        read_csv(tmp_path / "t.csv")


def test_a_disk_that_is_full_leaves_a_growing_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, append = tmp_path / "t.csv", storage._append
    append_csv(path, ["a"], [{"a": 1}])

    def full(stream: Any, content: bytes) -> None:
        append(stream, content[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "_append", full)
    with pytest.raises(RunError, match="No space left on device"):
        append_csv(path, ["a"], [{"a": 1234}])
    assert path.read_text() == "a\n1\n"


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_text("abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        require_writable_folder(tmp_path / "file")


def test_addresses_name_draws() -> None:
    def draw(*address: int) -> float:
        return float(generator(1, Purpose.LOCAL_BATCHES, *address).random())

    assert draw(3, 4) == draw(3, 4)
    different = {
        draw(3, 4),
        draw(4, 3),
        draw(3, 5),
        float(generator(2, Purpose.LOCAL_BATCHES, 3, 4).random()),
    }
    different.add(float(generator(1, Purpose.PERSONAL_BATCHES, 3, 4).random()))
    assert len(different) == 5
    assert 0 <= integer_seed(0, Purpose.MODEL_INIT) < 2**63
    assert integer_seed(0, Purpose.MODEL_INIT) != integer_seed(1, Purpose.MODEL_INIT)
