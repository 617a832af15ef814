"""Numbers in messages: one client, two classes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedml_spurious.common.words import counted, plural, without_addresses

REPOSITORY = Path(__file__).parents[2]
NOUNS = (
    "batch byte celebrity class client copy epoch feature file image item label method model process "
    "round row "
    "run sample seed setting silo step thread value view worker"
).split()


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (0, "client", "0 clients"),
        (1, "client", "1 client"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (1000, "copy", "1,000 copies"),
        (2, "celebrity", "2 celebrities"),
        (3, "key", "3 keys"),
        (2, "batch", "2 batches"),
        (2, "epoch", "2 epochs"),
        (2, "epoch of fine-tuning", "2 epochs of fine-tuning"),
        (1, "pair of seeds", "1 pair of seeds"),
        (9, "pair of seeds", "9 pairs of seeds"),
    ],
)
def test_a_number_has_its_noun(number: int, noun: str, expected: str) -> None:
    assert counted(number, noun) == expected


def numbers_before_plurals(path: Path) -> Iterator[str]:
    """Places where a plural follows a value, which may be 1."""
    words = "|".join(plural(noun) for noun in NOUNS)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            # A name before a verb ("the model samples") is no number.
            if re.match(rf" (?:{words})\b", text.value):
                yield f"{path.name}, line {node.lineno}: {ast.unparse(value.value)}{text.value}"


# Sizes, as in 28x28 images, and numbers that are more than one where they stand.
NEVER_ONE = (
    "size images",
    "MAX_CLIENTS clients",
    "len(shape['prefixItems']) values",
    "silos + 1 processes",
    "runs runs",
    "count celebrities",
    "len(incomplete) celebrities",
    "len(labels.male) images",
    "len(names) views)",
    "settings.trajectory_interval batches",
    "count images",
    "classes classes",  # of a client, at least 2
    "len(self.runs) runs",  # of a grid
)


def test_no_message_puts_a_plural_behind_a_number_that_may_be_one() -> None:
    files = [
        path
        for package in ("fedml_spurious", "data_partition")
        for path in (REPOSITORY / package).rglob("*.py")
    ]
    found = [place for path in files for place in numbers_before_plurals(path)]
    assert [place for place in found if not any(known in place for known in NEVER_ONE)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"got {plural!r}", "got <function plural>"),
        (f"got {object()!r}", "got <object object>"),
        (f"got {Path.exists!r}", "got <function Path.exists>"),
        ("0x10 bytes at 0x7f", "0x10 bytes"),
        ("nothing", "nothing"),
    ],
    # Processes that share the tests have to agree on their names, which addresses would part.
    ids=["function", "object", "method", "number", "nothing"],
)
def test_no_text_says_where_an_object_is_in_memory(text: str, expected: str) -> None:
    assert without_addresses(text) == expected
