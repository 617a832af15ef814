"""The messages of a run with several processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Types of messages that are added to FedML's."""

    HELLO = "hello"  # worker: here I am, with my settings and versions
    OPEN = "open"  # server: open the split files
    READY = "ready"  # worker: they are open, with their fingerprint
    GO = "go"  # server: all processes fit together, the run begins
    TRAIN = "train"  # server: train these clients in this round
    TRAINED = "trained"  # worker: the sum of their models
    TASK = "task"  # server: do a task
    ANSWER = "answer"  # worker: its answer
    COLLECT = "collect"  # server: these of your models are the final ones
    FAILED = "failed"  # worker: something went wrong here
    STOP = "stop"  # server: the run has failed
    FINISH = "finish"  # server: the run is done
    BYE = "bye"  # worker: nothing will follow
    ALIVE = "alive"  # both: still here


@dataclass(frozen=True)
class Received:
    """A message that came in.

    Attributes:
        sender: rank that sent it.
        kind: its type.
        content: plain data.
    """

    sender: int
    kind: Kind
    content: dict[str, Any]


class SilentError(RuntimeError):
    """A process was not heard of for too long.

    Attributes:
        rank: which one.
        seconds: for how long.
    """

    def __init__(self, rank: int, seconds: float) -> None:
        super().__init__(f"rank {rank} was silent for {seconds:.0f} s")
        self.rank, self.seconds = rank, seconds
