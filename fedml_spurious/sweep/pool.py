"""Calls in several processes, where the death of a process is the failure of one call."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")

_WATCH_INTERVAL = 0.5  # seconds

# Growth by which loky takes a process for leaking and replaces it; its 0.3 GB are less than torch and FedML.
_GROWTH = "4e9"  # bytes

# At Ctrl-C processes are killed, and their semaphores are freed with a warning that tells a user nothing.
_QUIET = "ignore:resource_tracker:UserWarning"


class Processes:
    """Some processes, kept from call to call; a context manager, at whose end they end.

    Every process has a pool of its own, so that one that is killed takes no other call with it. They end with
    their parent too, however that ends.

    Args:
        count: how many calls are made at a time.
        threads: threads of each process for OpenMP, where a call sets no number itself.
    """

    def __init__(self, count: int, threads: int) -> None:
        self._count, self._threads = count, threads
        self._free: list[Any] = []
        self._busy: dict[Future[Any], Any] = {}

    def __enter__(self) -> Self:
        given = os.environ.get("PYTHONWARNINGS", "")
        if _QUIET not in given:
            os.environ["PYTHONWARNINGS"] = f"{given},{_QUIET}".strip(",")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._free:
            pool.shutdown()
        for pool in self._busy.values():
            pool.shutdown(kill_workers=True)

    def do(self, calls: Mapping[KeyT, Callable[[], ResultT]]) -> Iterator[tuple[KeyT, ResultT | None]]:
        """Make calls and yield each with its answer as it comes.

        Args:
            calls: what to do, by a key; calls and answers are pickled.

        Yields:
            Key and answer; None: the process was killed.
        """
        waiting = list(calls.items())[::-1]
        keys: dict[Future[ResultT], KeyT] = {}
        while waiting or keys:
            while waiting and len(keys) < self._count:
                key, call = waiting.pop()
                pool = self._free.pop() if self._free else self._new()
                future = pool.submit(call)
                keys[future], self._busy[future] = key, pool
            for future in wait(keys, return_when=FIRST_COMPLETED).done:
                key, pool = keys.pop(future), self._busy.pop(future)
                try:
                    answer = future.result()
                    self._free.append(pool)
                except TerminatedWorkerError:
                    answer = None
                yield key, answer

    def _new(self) -> Any:
        return ProcessPoolExecutor(
            max_workers=1,
            initializer=_prepare,
            initargs=(os.getpid(),),
            env={"OMP_NUM_THREADS": str(self._threads), "LOKY_MAX_MEMORY_LEAK_SIZE": _GROWTH},
        )


def _prepare(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_INTERVAL)
    os._exit(1)
