"""Words of messages: numbers with their nouns, and objects without their place in memory."""

from __future__ import annotations

import re


def counted(number: int, noun: str) -> str:
    """A number and its noun: ``1 client``, ``2 classes``, ``1,000 copies``.

    Args:
        number: how many.
        noun: of one; what stands behind a first word, as in ``split of a client``, stays.
    """
    first, space, rest = noun.partition(" of ")
    return f"{number:,} {first if number == 1 else plural(first)}{space}{rest}"


def plural(noun: str) -> str:
    """The plural of a regular noun."""
    if re.search("([^aeiou])y$", noun):
        return f"{noun[:-1]}ies"
    if noun == "epoch":  # whose ch is a k
        return "epochs"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def without_addresses(text: str) -> str:
    """A text in which objects stand without their place in memory, which says nothing and is never the same.

    ``<function score at 0x7f...>`` is ``<function score>``.
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
