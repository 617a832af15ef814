"""One process's end of the communication: FedML's manager, with queues, heartbeats and an end to waiting."""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import signal
import threading
import time
import uuid
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fedml.core.distributed.communication.base_com_manager import BaseCommunicationManager
from fedml.core.distributed.communication.constants import CommunicationConstants
from fedml.core.distributed.communication.message import Message
from fedml.core.distributed.fedml_comm_manager import FedMLCommManager

from fedml_spurious.common.errors import RunError
from fedml_spurious.fedml_adapter.processes.messages import Kind, Received, SilentError
from fedml_spurious.fedml_adapter.processes.timing import (
    CLEAN_UP_TIMEOUT,
    FLUSH_POLL,
    GIVEN_UP_SHARE,
    JUST_WOKEN_UP,
    POLL,
    RESEND_INTERVAL,
    SUSPENDED_AFTER,
    heartbeat_interval,
)
from fedml_spurious.fedml_adapter.processes.wire import array_bytes

logger = logging.getLogger(__name__)

_LARGEST = {"GRPC": 1000 * 2**20}  # bytes; FedML's limit of a message
_QUEUED = 100  # messages of a peer that may wait; work comes one at a time
_IN_THE_MIDDLE = "rank {rank} is in the middle of a run; end all its processes and start all of them again"


class Endpoint(FedMLCommManager):  # type: ignore[misc]  # FedML has no types
    """FedML's communication manager, driven by threads so that the work itself stays sequential code.

    FedML's receive loop runs in one thread and puts messages on a queue. Every peer has a thread that sends
    to it, so that a peer that hangs holds nobody up, and one more thread says that this process is alive.

    Args:
        transport: FedML's, over MPI or GRPC.
        rank: number of this process.
        size: number of processes.
        backend: FedML's name of the transport, ``MPI`` or ``GRPC``.
        timeout: seconds of silence after which a peer is given up.
        abandoned: whether whatever started this process is gone, asked several times a second.
        is_hello: whether the content of a HELLO is one; others are dropped, as whatever cannot be read.

    Attributes:
        traffic: number of messages sent, and bytes of arrays in them, by kind.
    """

    def __init__(
        self,
        transport: BaseCommunicationManager,
        *,
        rank: int,
        size: int,
        backend: str,
        timeout: float,
        abandoned: Callable[[], bool] = lambda: False,
        is_hello: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        self._transport = transport
        self.timeout = timeout
        self._abandoned, self._is_hello = abandoned, is_hello
        self._inbox: queue.Queue[Received] = queue.Queue(_QUEUED * size)
        self._outboxes: dict[int, queue.Queue[Message]] = {}
        self._sent: Counter[int] = Counter()
        self._received: Counter[int] = Counter()
        self._session = uuid.uuid4().hex
        self._sessions: dict[int, str] = {}
        self._last_contact: dict[int, float] = {}
        self._heartbeat_stopped, self._closing = threading.Event(), threading.Event()
        self._last_awake, self._woke_up = time.monotonic(), -math.inf
        self.traffic: dict[str, Counter[str]] = {"messages": Counter(), "bytes": Counter()}
        super().__init__(Namespace(), rank=rank, size=size, backend=backend)
        threading.Thread(target=self.run, name="receive", daemon=True).start()
        self._heartbeat = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        self._heartbeat.start()

    def _init_manager(self) -> None:
        """Take the transport that was given; FedML would make its own."""
        self.register_comm_manager(self._transport)
        self._transport.add_observer(self)

    def register_message_receive_handlers(self) -> None:
        """Tell FedML what to call for each type of message."""
        ready = CommunicationConstants.MSG_TYPE_CONNECTION_IS_READY
        self.register_message_receive_handler(ready, lambda _: None)
        for kind in Kind:
            self.register_message_receive_handler(str(kind), self._accept)

    def _accept(self, message: Message) -> None:
        content = message.get(Message.MSG_ARG_KEY_MODEL_PARAMS)
        number, session = message.get("number"), message.get("session")
        sender, kind = message.get_sender_id(), Kind(message.get_type())
        if not (type(number) is int and isinstance(session, str) and isinstance(content, dict)):
            raise ValueError("expected a number, a session and a content")
        # Workers talk to rank 0 alone, and rank 0 to the workers.
        if not 0 <= sender < self.size or (sender == 0) == (self.rank == 0):
            return
        if kind is Kind.HELLO and not self._is_hello(content):
            raise ValueError("a HELLO that introduces nobody")
        if not self._same_process(sender, kind, session):
            return
        self._last_contact[sender] = time.monotonic()
        # Sending is tried again after a failure, which may have been one on the way back.
        if number <= self._received[sender]:
            return
        if number > self._received[sender] + 1:
            lost = f"a message of rank {sender} was lost" if self._received[sender] else _IN_THE_MIDDLE
            self._refuse(sender, lost.format(rank=sender))
        self._received[sender] = number
        if kind is not Kind.ALIVE:
            self._inbox.put(Received(sender, kind, content))

    def _refuse(self, sender: int, text: str) -> None:
        """End the run from here: what a peer sent shows that it cannot go on."""
        with suppress(queue.Full):  # then it ends for what waits there
            self._inbox.put_nowait(Received(sender, Kind.STOP, {"text": text, "exit": 1}))

    def _same_process(self, sender: int, kind: Kind, session: str) -> bool:
        """Whether a message is of this run; processes of another one may be talking to the same address."""
        known = self._sessions.get(sender)
        if known is None and (kind is Kind.HELLO or self.rank != 0):
            self._sessions[sender] = known = session
        if known == session:
            return True
        if known is not None and (kind is Kind.HELLO or self.rank != 0):
            self._refuse(sender, f"another process was started as rank {sender} of this run")
        return False

    def post(self, receiver: int, kind: Kind, content: dict[str, Any] | None = None) -> None:
        """Send a message, in the background and in order.

        Args:
            receiver: rank that gets it.
            kind: its type.
            content: plain data and arrays, not to be changed afterwards.

        Raises:
            RunError: the message is too large for the transport, or too many wait to be sent.
        """
        content = content or {}
        size = array_bytes(content)
        if size > _LARGEST.get(self.backend, math.inf):
            raise RunError(
                f"a message of {size / 2**20:,.0f} MiB is more than FedML's {self.backend} takes; use "
                "comm_args.backend=MPI, or a smaller network"
            )
        message = Message(str(kind), self.rank, receiver)
        # FedML writes every other parameter of a message to its log.
        message.add_params(Message.MSG_ARG_KEY_MODEL_PARAMS, content)
        if receiver not in self._outboxes:
            self._outboxes[receiver] = queue.Queue(_QUEUED)
            threading.Thread(target=self._send_all, args=(receiver,), daemon=True).start()
        self.traffic["messages"][kind] += 1
        self.traffic["bytes"][kind] += size
        try:
            self._outboxes[receiver].put_nowait(message)
        except queue.Full:
            raise RunError(f"rank {receiver} takes no messages any more: {_QUEUED} wait for it") from None

    def _send_all(self, receiver: int) -> None:
        outbox = self._outboxes[receiver]
        while True:
            message = outbox.get()
            self._sent[receiver] += 1
            message.add_params("number", self._sent[receiver])
            message.add_params("session", self._session)
            self._send_until_it_goes(message)
            outbox.task_done()

    def _send_until_it_goes(self, message: Message) -> None:
        while not self._closing.is_set():
            try:
                self.send_message(message)
            except Exception as error:  # noqa: BLE001  # of the transport; silence ends it if it lasts
                logger.info("rank %s does not answer, trying again: %s", message.get_receiver_id(), error)
                time.sleep(RESEND_INTERVAL)
            else:
                return

    def slept(self) -> bool:
        """Whether this process was just stopped for so long that peers have given it up."""
        now = time.monotonic()
        asleep = (
            not self._heartbeat_stopped.is_set() and now - self._last_awake > GIVEN_UP_SHARE * self.timeout
        )
        return asleep or now - self._woke_up < JUST_WOKEN_UP

    def _send_heartbeats(self) -> None:
        last_sent = time.monotonic()
        while not self._heartbeat_stopped.wait(POLL):
            if self.slept():
                self._woke_up = time.monotonic()
            self._last_awake = time.monotonic()
            if self._abandoned():
                # Open MPI ends its processes a second after mpirun; the main thread cleans up before. Should
                # it be stuck, or MPI be another one, threads of the transport would stay for ever.
                signal.raise_signal(signal.SIGTERM)
                time.sleep(CLEAN_UP_TIMEOUT)
                os._exit(1)
            if time.monotonic() - last_sent < heartbeat_interval(self.timeout):
                continue
            last_sent = time.monotonic()
            for receiver, outbox in list(self._outboxes.items()):
                if outbox.unfinished_tasks == 0:
                    self.post(receiver, Kind.ALIVE)

    def receive(self, *, at_most: float | None = None) -> Received | None:
        """Wait for the next message.

        Args:
            at_most: seconds to wait; for ever where absent, as long as all peers heard of are alive.

        Returns:
            The message; None when ``at_most`` seconds are over.

        Raises:
            SilentError: a peer that was heard of before is silent for ``self.timeout`` seconds.
        """
        deadline = None if at_most is None else time.monotonic() + at_most
        while True:
            asked = time.monotonic()
            try:
                return self._inbox.get(timeout=POLL)
            except queue.Empty:
                now = time.monotonic()
            if now - asked > SUSPENDED_AFTER:
                # This process was stopped itself, and with it perhaps all of them.
                self._last_contact = {rank: last + now - asked for rank, last in self._last_contact.items()}
            for rank, last in list(self._last_contact.items()):
                if now - last > self.timeout:
                    raise SilentError(rank, now - last)
            if deadline is not None and now > deadline:
                return None

    def has_contact(self, rank: int) -> bool:
        """Whether a message of a rank has ever come in."""
        return rank in self._last_contact

    def log_traffic(self) -> None:
        """Write to the log how much was sent."""
        counts = {name: dict(found) for name, found in self.traffic.items()}
        logger.info("sent by rank %d: %s", self.rank, json.dumps(counts))

    def flush(self, seconds: float) -> None:
        """Wait until everything is sent, at most so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(box.unfinished_tasks for box in self._outboxes.values()):
            time.sleep(FLUSH_POLL)

    def stop_heartbeat(self) -> None:
        """Give no more signs of life, so that what is posted from here on is the last."""
        self._heartbeat_stopped.set()
        self._heartbeat.join()

    def finish(self) -> None:
        """End the communication; what :meth:`flush` did not see go is dropped."""
        self._closing.set()
        super().finish()
