"""What the start of tests' processes leaves for later is there when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import quick_start

MODULE = """
from pathlib import Path

Path(__file__).with_suffix(".imported").touch()
OTHER = 3

def harmless(function):
    return "the module's"

class Wanted:
    KIND = "a class"

    def __init__(self, number):
        self.number = number
"""


NAME = "postponed_for_a_test"


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is there as soon as the module was imported."""
    path = tmp_path / f"{NAME}.py"
    path.write_text(MODULE)
    names = {"Wanted": quick_start.Later, "harmless": quick_start.as_it_is}
    monkeypatch.setattr(quick_start, "NAMES", {NAME: names})
    monkeypatch.setattr(sys, "meta_path", [quick_start.Postponed, *sys.meta_path])
    monkeypatch.syspath_prepend(tmp_path)
    yield path.with_suffix(".imported")
    sys.modules.pop(NAME, None)


def test_names_are_taken_without_the_module_and_a_class_is_used_with_it(imported: Path) -> None:
    module = importlib.import_module(NAME)
    wanted, harmless = module.Wanted, module.harmless
    assert harmless(len) is len
    assert harmless(reason="none")(len) is len
    assert not imported.exists()
    made = wanted(5)
    assert imported.exists()
    assert made.number == 5
    assert isinstance(made, module.Wanted)
    assert wanted.KIND == "a class"
    assert module.harmless(len) == "the module's"


def test_any_other_name_brings_the_module(imported: Path) -> None:
    module = importlib.import_module(NAME)
    assert not hasattr(module, "__path__")
    assert not imported.exists()
    assert module.OTHER == 3
    assert imported.exists()
    assert not hasattr(module, "UNKNOWN")
