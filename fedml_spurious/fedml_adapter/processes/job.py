"""What the processes of a command do together, and how the command is started again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from fedml_spurious.common.programs import same_mpirun_words
from fedml_spurious.config.settings import Settings
from fedml_spurious.fedml_adapter.processes.ranks import Rank, threads_of


def _of_a_run() -> Mapping[str, JsonValue]:
    return {"command": "run"}


@dataclass(frozen=True)
class Job:
    """What this process was started for; as it stands, for ``run``.

    Attributes:
        command: what starts it again, as far as it is the same for all processes.
        advice: what stands before that command in a message.
        request: what a message says that asks for the command already.
        asked: what was asked for beside the settings; it has to be the same in all processes.
        given: that as the tasks take it; see :class:`~fedml_spurious.experiment.tasks.TaskRunner`.
        only: kinds of tasks that a server may ask for; where there are none, all work of a run.
        words: gives a message of a run in the words of this command.
    """

    command: str
    advice: str = "What was finished is kept; continue with"
    request: str = "continue with --resume"
    asked: Mapping[str, JsonValue] = field(default_factory=_of_a_run)
    given: object = None
    only: tuple[type, ...] = ()
    words: Callable[[str], str] = str

    def command_for(self, settings: Settings, rank: Rank) -> str:
        """The command that starts all processes again, or this one where each is started by hand."""
        if settings.comm_args.backend == "MPI":
            words = same_mpirun_words(rank.size, threads_of(settings, rank), rank.on_host)
            return f"{shlex.join(words)} {self.command}"
        return f"{self.command} --rank {rank.number} --role {'client' if rank.number else 'server'}"

    def again(self, settings: Settings, rank: Rank) -> str:
        """The same as the end of a message."""
        return f"{self.advice}:\n  {self.command_for(settings, rank)}"
