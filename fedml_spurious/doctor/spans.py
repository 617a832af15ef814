"""Amounts that are known within limits, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """An amount that is expected, and between which limits it is.

    Attributes:
        low: the least.
        middle: what is expected.
        high: the most.
    """

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, amount: float) -> Span:
        """An amount that is known."""
        return cls(amount, amount, amount)

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def __mul__(self, factor: Span | float) -> Span:
        by = factor if isinstance(factor, Span) else Span.of(factor)
        return Span(self.low * by.low, self.middle * by.middle, self.high * by.high)

    def at_least(self, ratio: float) -> Span:
        """The same with limits that are apart from the middle by a ratio, or farther where they were."""
        return Span(min(self.low, self.middle / ratio), self.middle, max(self.high, self.middle * ratio))


def total(spans: list[Span]) -> Span:
    """The sum."""
    return sum(spans, Span.of(0))


def duration(seconds: float) -> str:
    """Seconds in words of two places: ``0.4 s``, ``52 s``, ``3 min``, ``2.5 h``, ``4 days``."""
    for limit, size, unit in ((99.5, 1, "s"), (90 * 60, 60, "min"), (72 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds / 86400)} days"


def size(amount: float) -> str:
    """Bytes in words: ``340 kB``, ``10 MB``, ``1.2 GB``."""
    for limit, unit, name in ((1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if amount < limit * 0.995:
            return f"{_short(amount / unit)} {name}"
    return f"{_short(amount / 1e12)} TB"


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 9.95 else f"{number:,.0f}"
