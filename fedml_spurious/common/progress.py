"""What the user sees while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Without a terminal a line now and then is enough.
LINE_INTERVAL = 15.0


class Stage(Protocol):
    """A part of the work with a known number of steps."""

    def advance(self, message: str = "") -> None:
        """A step is done."""

    def skip(self, steps: int) -> None:
        """An earlier process did these steps; they say nothing about the time that the others take."""

    def set(self, done: int, total: int) -> None:
        """So many steps of so many are done; for work that learns its size on the way."""


class _Bar:
    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self.progress = progress
        self.task = progress.add_task(title, total=total, completed=done, message="")

    def advance(self, message: str = "") -> None:
        self.progress.update(self.task, advance=1, message=message)

    def skip(self, steps: int) -> None:
        # Rich estimates the remaining time from steps that are reported, so these start a new estimate.
        done = self.progress.tasks[self.task].completed + steps
        self.progress.reset(self.task, start=True, total=self.progress.tasks[self.task].total)
        self.progress.update(self.task, completed=done)

    def set(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)


class _Lines:
    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.console, self.title, self.total = console, title, total
        self.done, self.first = done, done
        self.started = self.printed = time.monotonic()

    def advance(self, message: str = "") -> None:
        self.set(self.done + 1, self.total, message)

    def skip(self, steps: int) -> None:
        self.done += steps
        self.first += steps

    def set(self, done: int, total: int, message: str = "") -> None:
        self.done, self.total = done, total
        now = time.monotonic()
        if now - self.printed < LINE_INTERVAL and self.done < self.total:
            return
        self.printed = now
        left = (now - self.started) / max(self.done - self.first, 1) * (self.total - self.done)
        self.console.print(
            f"{self.title}: {self.done}/{self.total}, {left:.0f} s left  {message}".rstrip(),
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def stage(console: Console, title: str, *, total: int, done: int = 0) -> Iterator[Stage]:
    """Show a progress bar with the remaining time on a terminal, plain lines otherwise.

    Args:
        console: where to show it.
        title: name of the stage.
        total: number of steps.
        done: steps that an earlier process did.

    Yields:
        The stage, to be advanced.
    """
    if not console.is_terminal:
        yield _Lines(console, title, total, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, title, total, done)
