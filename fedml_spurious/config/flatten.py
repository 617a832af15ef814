"""Nested sections as one level."""

from __future__ import annotations

from typing import Any


def flatten(content: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The values of nested sections by the names that lead to them."""
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in content.items():
        flat.update(flatten(value, (*prefix, str(key))))
    return flat
