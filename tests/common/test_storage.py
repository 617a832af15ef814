"""Atomic files and addressed seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.common.storage import (
    atomic_path,
    require_writable_folder,
    sha256_of,
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
