"""Rank 0's view of the other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received, SilentError
from fedml_spurious.fedml_adapter.processes.situation import Situation

if TYPE_CHECKING:
    from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint


class Server:
    """Rank 0's view of the other processes: sends, waits, and turns their trouble into errors.

    Args:
        endpoint: this process's end of the communication.
        size: number of processes.
        situation: what the run and its workers are at, for messages.

    Attributes:
        ranks: numbers of the workers.
    """

    def __init__(self, endpoint: Endpoint, size: int, situation: Situation) -> None:
        self.endpoint, self.situation = endpoint, situation
        self.ranks = tuple(range(1, size))

    def post(self, rank: int, kind: Kind, content: dict[str, Any]) -> None:
        """Send a message to a worker."""
        self.endpoint.post(rank, kind, content)

    def wait_for(self, kind: Kind) -> Received:
        """Wait for a message of this kind for as long as all workers are alive.

        Raises:
            InputError: a worker found that the input is wrong.
            RunError: a worker failed, or was silent for too long.
        """
        message = self._receive(kind, None)
        assert message is not None  # without a limit there is a message or an error
        return message

    def wait_at_most(self, seconds: float, kind: Kind) -> Received | None:
        """Wait for a message of this kind, as :meth:`wait_for` does; None when the time is over."""
        return self._receive(kind, seconds)

    def _receive(self, kind: Kind, seconds: float | None) -> Received | None:
        try:
            message = self.endpoint.receive(at_most=seconds)
        except SilentError as error:
            raise RunError(self._of_silence(error)) from None
        if message is None:
            return None
        if message.kind is Kind.FAILED:
            self._raise_failure(message)
        if message.kind is not kind:
            text = message.content.get("text", f"sent {message.kind} instead of {kind}")
            doing = self.situation.activity_of(message.sender)
            raise RunError(f"rank {message.sender} in {doing}: {text}")
        return message

    def _of_silence(self, error: SilentError) -> str:
        doing = self.situation.activity_of(error.rank)
        return (
            f"rank {error.rank} gave no sign of life for {error.seconds:.0f} s in {doing} "
            f"(comm_args.timeout is {self.endpoint.timeout:g}): it was killed, it hangs, or the network is "
            "down. What was finished is kept; continue with --resume"
        )

    def _raise_failure(self, message: Received) -> None:
        content = message.content
        text = f"rank {message.sender} in {content['phase']}: {content['text']}"
        if content["exit"] == 2:
            raise InputError(text)
        log = f" Its log is {content['log']}." if content["log"] else ""
        raise RunError(f"{text}.{log} What was finished is kept; continue with --resume")
