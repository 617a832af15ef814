"""What a process is at, for the message about a sudden end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedml_spurious.common.errors import RunError
from fedml_spurious.fedml_adapter.processes.ranks import process_is_gone

if TYPE_CHECKING:
    from fedml_spurious.fedml_adapter.processes.server import Server

# How long a process that has lost its mpirun may take to clean up.
LAST_WORDS = 5.0


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
        members: what every rank said of itself.
        server: the connection to the workers, on rank 0, when there is one.
        server_knows: whether rank 0 was told, or told us, why the run ends.
    """

    phase: str = "start"
    members: dict[int, dict[str, Any]] = field(default_factory=dict)
    server: Server | None = None
    server_knows: bool = False

    def dead(self) -> list[int]:
        """Ranks on this host whose process is gone."""
        return [rank for rank, said in self.members.items() if process_is_gone(said["pid"], said["host"])]

    def slept(self) -> bool:
        """Whether this process was stopped for so long that others gave it up."""
        return self.server is not None and self.server.endpoint.slept()

    def tell(self, rank: int) -> str:
        """What a rank was doing."""
        return (self.server.at(rank) if self.server else "") or self.phase
