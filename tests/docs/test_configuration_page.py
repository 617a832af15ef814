"""``docs/configuration.md`` says what the settings say, and every key has words."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import Field

from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.config.file import shipped_configs
from fedml_spurious.config.reference import configuration_page, field_words

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_the_one_that_the_docstrings_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == configuration_page(), "run `make docs` and commit the page"


@pytest.mark.parametrize("row", [
    "| `fc_width` | whole number | `4096` | at least 1 | width of the hidden",
    "| `training_type` | text | `simulation` | `simulation`, `cross_silo` |",
    "| `data_cache_dir` | text | absent | not empty | folder of existing client split files. |",
    "| `shrink` | number | `0.8` | above 0, below 1 | factor between two budgets of the rule. |",
    "| `grids` | section of sections of lists of numbers | `{}` |",
    "| `fl_seeds` | list of whole numbers | absent | 1 or more, each at least 0 |",
    "| `using_mlops` | truth value | `false` | only `false` |",
    "| `dataset` | text | required | not empty |",
    "| `ours.lam_adv` | number | `1.0` | at least 0 |",
    "| `jtt.multiplicity` | whole number | `50` | at least 1 |",
])  # fmt: skip
def test_type_default_and_range_of_a_key(row: str) -> None:
    assert any(line.startswith(row) for line in configuration_page().splitlines())


def test_every_key_of_the_shipped_configurations_is_on_the_page() -> None:
    page = configuration_page()
    keys = set()
    for path in shipped_configs().values():
        for section, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            assert f"## {section}\n" in page
            keys |= {name for name, value in content.items() if not isinstance(value, dict)}
    assert len(keys) > 20
    assert {key for key in keys if f"| `{key}` |" not in page} == set()


class Base(FrozenModel):
    """Options that others extend.

    Attributes:
        first: in two
            lines.

    More text: not an entry.
    """

    first: int = 1


class Extended(Base):
    """More options.

    Attributes:
        second: of its own.
    """

    second: Literal["a"] = "a"


class Wordless(Base):
    """One option nobody explained."""

    third: int = Field(default=0)


class Stale(Base):
    """Words about an option that is gone.

    Attributes:
        gone: was here once.
    """


def test_words_are_those_of_the_class_and_of_what_it_extends() -> None:
    assert field_words(Extended) == {"first": "in two lines.", "second": "of its own."}


def test_a_key_without_words_and_words_without_a_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Wordless: .*missing: third; of no field: none"):
        field_words(Wordless)
    with pytest.raises(ValueError, match=r"Stale: .*missing: none; of no field: gone"):
        field_words(Stale)
