"""What the user sees while a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

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
        begun = time.monotonic()  # the task's own clock starts anew with every estimate
        self.task = progress.add_task(title, total=total, completed=done, message="", begun=begun)

    def advance(self, message: str = "") -> None:
        self.progress.update(self.task, advance=1, message=message)

    def skip(self, steps: int) -> None:
        # Rich estimates the remaining time from steps that are reported, so these start a new estimate.
        task = self.progress.tasks[self.task]
        self.progress.reset(self.task, total=task.total, completed=int(task.completed) + steps)

    def set(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)


class _Lines:
    def __init__(self, console: Console, title: str, total: int, done: int, *, quiet: bool) -> None:
        self.console, self.title, self.total, self.quiet = console, title, total, quiet
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
        quick = self.quiet and self.printed == self.started
        if now - self.printed < LINE_INTERVAL and (self.done < self.total or quick):
            return
        self.printed = now
        left = (now - self.started) / max(self.done - self.first, 1) * (self.total - self.done)
        self.console.print(
            f"{self.title}: {self.done}/{self.total}, {left:.0f} s left  {message}".rstrip(),
            highlight=False,
            soft_wrap=True,
        )


class _WholeLine(ProgressColumn):
    """A stage as one line that fits its terminal: count and times stay where they are, texts are cut."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        """The line."""
        return progress_line(
            task.description,
            int(task.completed),
            int(task.total or 0),
            elapsed=time.monotonic() - task.fields["begun"],
            left=task.time_remaining,
            message=task.fields["message"],
            width=self._console.width,
            ascii_only=self._console.options.ascii_only,
        )


def progress_line(
    title: str,
    done: int,
    total: int,
    *,
    elapsed: float | None,
    left: float | None,
    message: str,
    width: int,
    ascii_only: bool = False,
) -> Text:
    """A line of a progress display: title, bar, count, time so far, time that is left, message.

    Args:
        title: name of the stage; cut where the terminal is too narrow for it beside count and times.
        done: steps that are done.
        total: all steps.
        elapsed: seconds so far; None where nothing has begun.
        left: seconds that are left; None where nobody knows.
        message: what was done last; in what room remains, or left out.
        width: columns of the terminal.
        ascii_only: whether the terminal lacks all other characters.
    """
    dots = "..." if ascii_only else "\u2026"
    count = f"{done}/{total}".rjust(2 * len(str(total)) + 1)
    times = f"{count} {_clock(elapsed)} left {_clock(left)}"
    line = Text(_cut(title, width - len(times) - 1, dots), no_wrap=True, end="")
    room = width - len(line) - len(times) - 2
    bar = min(_WIDEST_BAR, room // 3)
    if bar >= _NARROWEST_BAR:
        full = bar * done // total if total else bar
        line.append(" ").append(("#" if ascii_only else "\u2501") * full, "bar.complete")
        line.append(("-" if ascii_only else "\u2501") * (bar - full), "bar.back")
        room -= bar + 1
    line.append(f" {times}")
    if room >= _NARROWEST_MESSAGE:
        line.append(f" {_cut(message, room, dots)}")
    return line


_NARROWEST_BAR, _WIDEST_BAR, _NARROWEST_MESSAGE = 6, 20, 8


def _cut(text: str, width: int, dots: str) -> str:
    return text if len(text) <= width else f"{text[: max(width - len(dots), 0)]}{dots}"


def _clock(seconds: float | None) -> str:
    """Hours, minutes and seconds in seven characters, more from ten hours on."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextmanager
def stage(console: Console, title: str, *, total: int, done: int = 0, quiet: bool = False) -> Iterator[Stage]:
    """Show a progress line with the remaining time on a terminal, plain lines otherwise.

    Args:
        console: where to show it.
        title: name of the stage.
        total: number of steps.
        done: steps that an earlier process did.
        quiet: say nothing of a stage that is done before its first line would come; a bar is shown always.

    Yields:
        The stage, to be advanced.
    """
    # A terminal that cannot move its cursor (TERM=dumb) shows no display that is drawn anew.
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(console, title, total, done, quiet=quiet)
        return
    with Progress(_WholeLine(console), console=console) as progress:
        yield _Bar(progress, title, total, done)
