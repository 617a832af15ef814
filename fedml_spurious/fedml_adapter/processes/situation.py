"""What a process and its run are at, for the message about a sudden end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fedml_spurious.common.errors import RunError
from fedml_spurious.fedml_adapter.processes.ranks import process_is_gone


class Terminated(BaseException):
    """SIGTERM came; what it means was said."""


class StoppedError(RunError):
    """Rank 0 ended the run.

    Attributes:
        status: exit status of the run.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__(content["text"])
        self.status: int = content["exit"]


@dataclass
class Situation:
    """What a message about a sudden end can say.

    Attributes:
        phase: what the run is at.
        doing: what each worker was given to do, on rank 0; absent while it has nothing.
        members: what every rank said of itself.
        server_knows: whether rank 0 was told, or told us, why the run ends.
        slept: whether this process was stopped for so long that others gave it up; known on rank 0.
    """

    phase: str = "start"
    doing: dict[int, str] = field(default_factory=dict)
    members: dict[int, dict[str, Any]] = field(default_factory=dict)
    server_knows: bool = False
    slept: Callable[[], bool] = lambda: False

    def activity_of(self, rank: int) -> str:
        """What a rank is doing, in words."""
        return self.doing.get(rank) or self.phase

    def dead(self) -> list[int]:
        """Ranks on this host whose process is gone."""
        return [rank for rank, said in self.members.items() if process_is_gone(said["pid"], said["host"])]
