"""One file holds the times of the processes, and its picture shows all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fedml_spurious.fedml_adapter.processes import timing

TIMES = [*sorted(name for name in vars(timing) if name.isupper()), "heartbeat_interval"]
MODULES = sorted(set(Path(timing.__file__).parent.glob("*.py")) - {Path(timing.__file__)})


def test_the_picture_shows_every_time() -> None:
    assert len(TIMES) > 10
    assert [name for name in TIMES if not re.search(rf"\b{name}\b", timing.__doc__ or "")] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_other_file_has_times_of_its_own(module: Path) -> None:
    """Times are floats; these modules compute with no other ones than zero."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {number for number in numbers if isinstance(number, float)} <= {0.0}


def test_every_time_is_used() -> None:
    text = "".join(module.read_text(encoding="utf-8") for module in MODULES)
    assert [name for name in TIMES if name not in text] == []


def test_a_sign_of_life_comes_several_times_in_a_timeout() -> None:
    """Seconds; the timeouts of a test, of the configuration's default and of a slow network."""
    assert [timing.heartbeat_interval(timeout) for timeout in (1.0, 5.0, 60.0)] == [0.2, 1.0, 2.0]
