"""Rank 0's view of the other processes."""

from __future__ import annotations

from typing import Any

from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received, SilentError


class Server:
    """Rank 0's view of the other processes: sends, waits, and turns their trouble into errors.

    Args:
        endpoint: this process's end of the communication.
        size: number of processes.

    Attributes:
        phase: what the run is at, for messages.
    """

    def __init__(self, endpoint: Endpoint, size: int) -> None:
        self.endpoint = endpoint
        self.ranks = tuple(range(1, size))
        self.phase = "start"
        self.doing: dict[int, str] = {}

    def post(self, rank: int, kind: Kind, content: dict[str, Any]) -> None:
        """Send a message to a worker."""
        self.endpoint.post(rank, kind, content)

    def expect(self, kind: Kind, *, patience: float | None = None) -> Received | None:
        """Wait for a message of this kind.

        Args:
            kind: the kind.
            patience: seconds to wait; for ever where absent, as long as all workers are alive.

        Returns:
            The message; None after ``patience`` seconds.

        Raises:
            InputError: a worker found that the input is wrong.
            RunError: a worker failed, or was silent for too long.
        """
        try:
            message = self.endpoint.receive(patience=patience)
        except SilentError as error:
            raise RunError(self._of_silence(error)) from None
        if message is None:
            return None
        if message.kind is Kind.FAILED:
            self._raise_failure(message)
        if message.kind is not kind:
            text = message.content.get("text", f"sent {message.kind} instead of {kind}")
            raise RunError(f"rank {message.sender} in {self.at(message.sender)}: {text}")
        return message

    def at(self, rank: int) -> str:
        """What a worker is doing, in words."""
        return self.doing.get(rank) or self.phase

    def take(self, kind: Kind) -> Received:
        """Wait for a message of this kind for as long as all workers are alive; see :meth:`expect`."""
        message = self.expect(kind)
        assert message is not None  # without patience there is a message or an error
        return message

    def _of_silence(self, error: SilentError) -> str:
        return (
            f"rank {error.rank} gave no sign of life for {error.seconds:.0f} s in {self.at(error.rank)} "
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
