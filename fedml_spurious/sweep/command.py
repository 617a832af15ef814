"""The command ``fedml-spurious sweep``: what is not finished yet is run, and all of it joined."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from loky import cpu_count
from rich.console import Console

from fedml_spurious.common.errors import RunError
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.scratch import hold_folder
from fedml_spurious.common.storage import write_text
from fedml_spurious.results.sweep_table import SweptRun, join_sweep, write_index
from fedml_spurious.sweep.grid import Axis
from fedml_spurious.sweep.plan import Splits, SweepRun, by_global_model, plan_runs
from fedml_spurious.sweep.pool import Processes
from fedml_spurious.sweep.same_settings import require_same_settings
from fedml_spurious.sweep.worker import Ended, do_run, make_splits

_JOIN_INTERVAL = 30.0  # seconds between two tables of a sweep that goes on
_KILLED = Ended("its process was killed, perhaps for want of memory; fewer --jobs need less")


def sweep(
    config: Path,
    overrides: Sequence[str],
    axes: Sequence[Axis],
    out: Path,
    *,
    jobs: int | None,
    console: Console,
) -> None:
    """Run every cell of a grid with every federated seed, except what is finished.

    Args:
        config: the configuration.
        overrides: ``section.key=value`` for all cells.
        axes: the grid.
        out: folder of the sweep.
        jobs: runs at a time; as many as the cores allow where None.
        console: where progress goes.

    Raises:
        InputError: settings of a cell are wrong, or the folder holds another sweep; nothing was run.
        RunError: runs failed; all others are finished.
    """
    runs = plan_runs(config, overrides, axes, out)
    threads = runs[0].settings().device_args.threads
    count = jobs or max(1, cpu_count() // (threads or 1))
    with hold_folder(out, option="--out"):
        require_same_settings(runs, out)
        write_index(
            out,
            [axis.key for axis in axes],
            [SweptRun(str(run.folder.relative_to(out)), run.cell) for run in runs],
        )
        with Processes(count, threads or max(1, cpu_count() // count)) as processes:
            _Sweep(runs, out, processes, console).run()


@dataclass
class _Sweep:
    """A sweep that goes on.

    Attributes:
        runs: all of its runs.
        out: its folder.
        processes: what does the work.
        console: where progress goes.
        failed: why runs failed, by run folder.
    """

    runs: Sequence[SweepRun]
    out: Path
    processes: Processes
    console: Console
    failed: dict[Path, str] = field(default_factory=dict)

    def run(self) -> None:
        """Make split files, do the runs, and join them, whatever happens."""
        left = [run for run in self.runs if not run.is_finished()]
        for run in self.runs:
            if run not in left:  # perhaps by the command that its report of an earlier failure names
                self._note(run, Ended())
        splits = {run.splits.folder: run.splits for run in left if run.splits is not None}
        total = len(self.runs) + len(splits)
        with (
            stage(self.console, "Sweep", total=total, done=len(self.runs) - len(left)) as bar,
            self._joining(),
        ):
            able = self._with_splits(left, splits, bar)
            finished = [run for run in self.runs if run not in left]
            first, others = by_global_model([*finished, *able])
            self._do([(run, None) for run in first if run not in finished], bar)
            self._do([(run, leader) for run, leader in others if run not in finished], bar)
        self._report()
        self.console.print(f"Everything is in {self.out}", highlight=False, soft_wrap=True)

    @contextmanager
    def _joining(self) -> Iterator[None]:
        self._joined = time.monotonic()
        try:
            yield
        finally:
            problems = join_sweep(self.out)
        for run in self.runs:
            problem = problems.get(str(run.folder.relative_to(self.out)))
            if problem is not None and run.folder not in self.failed:
                self._note(run, Ended(problem))

    def _with_splits(
        self, runs: Sequence[SweepRun], splits: Mapping[Path, Splits], bar: Stage
    ) -> list[SweepRun]:
        """Make split files, and give the runs that have theirs."""
        calls = {folder: partial(make_splits, one) for folder, one in splits.items()}
        problems = {}
        for folder, ended in self.processes.do(calls):
            bar.skip(1)  # says nothing about how long a run takes
            problems[folder] = ended or _KILLED
        able = []
        for run in runs:
            ended = problems[run.splits.folder] if run.splits is not None else Ended()
            if ended.problem is None:
                able.append(run)
            else:
                self._note(run, ended)
                bar.skip(1)
        return able

    def _do(self, runs: Sequence[tuple[SweepRun, Path | None]], bar: Stage) -> None:
        """Do runs, each with the folder of the run whose global model it takes."""
        by_folder = {run.folder: run for run, _ in runs}
        calls = {run.folder: partial(do_run, run, leader) for run, leader in runs}
        for folder, ended in self.processes.do(calls):
            self._note(by_folder[folder], ended or _KILLED)
            failed = folder in self.failed
            bar.advance(f"{by_folder[folder].short}{' failed' if failed else ''}")
            if time.monotonic() - self._joined > _JOIN_INTERVAL:
                join_sweep(self.out)
                self._joined = time.monotonic()

    def _note(self, run: SweepRun, ended: Ended) -> None:
        report = self.out / "failed" / f"{run.folder.parent.name}_{run.folder.name}.txt"
        report.unlink(missing_ok=True)
        if ended.problem is not None:
            self.failed[run.folder] = ended.problem
            write_text(report, f"{run.command()}\n\n{ended.defect or ended.problem}\n")
        else:
            with suppress(OSError):  # another one's report is there
                report.parent.rmdir()

    def _report(self) -> None:
        """Name what failed.

        Raises:
            RunError: something failed.
        """
        if not self.failed:
            return
        names = {run.folder: run.name for run in self.runs}
        listed = [f"{names[folder]}: {problem.splitlines()[0]}" for folder, problem in self.failed.items()]
        raise RunError(
            "\n  ".join(
                [f"{len(self.failed)} of {len(self.runs)} runs failed; the others are finished", *listed]
            )
            + f"\nMore about each is in {self.out / 'failed'}; the same command does again what is missing"
        )
