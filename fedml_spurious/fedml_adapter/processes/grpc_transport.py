"""FedML's transport over GRPC, bound to one address, with messages that can hold nothing but data.

FedML 0.9.6 asks its queue for messages without any pause, which takes a core away from training.
"""

from __future__ import annotations

import csv
import io
import logging
import queue
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from fedml.core.distributed.communication.grpc import grpc_comm_manager_pb2, grpc_comm_manager_pb2_grpc
from fedml.core.distributed.communication.grpc.grpc_comm_manager import GRPCCommManager
from fedml.core.distributed.communication.message import Message

from fedml_spurious.common.storage import write_text
from fedml_spurious.fedml_adapter.processes.packing import pack, unpack
from fedml_spurious.fedml_adapter.processes.ranks import require_free
from fedml_spurious.fedml_adapter.processes.timing import GRPC_STOP_GRACE, POLL

logger = logging.getLogger(__name__)

_QUEUE_BYTES = 1200 * 2**20  # somewhat more than FedML's limit of a message
_LOGGED = 20  # messages that were thrown away, of which the log tells


class _BoundedQueue(queue.Queue[bytes]):
    """Messages that came in and wait to be read, so many bytes and one message at most.

    FedML's servicer puts them here with a lock held, so that no more come in meanwhile.
    """

    def __init__(self, is_running: Callable[[], bool]) -> None:
        super().__init__(maxsize=_QUEUE_BYTES)
        self._is_running = is_running
        self._bytes = 0

    def put(self, item: bytes, block: bool = True, timeout: float | None = None) -> None:
        """Wait for room; what comes when nobody reads any more is dropped."""
        while self._is_running():
            try:
                return super().put(item, timeout=POLL)
            except queue.Full:
                continue

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: bytes) -> None:
        super()._put(item)
        self._bytes += len(item) + 1

    def _get(self) -> bytes:
        item = super()._get()
        self._bytes -= len(item) + 1
        return item


class GrpcTransport(GRPCCommManager):  # type: ignore[misc]  # FedML has no types
    """FedML's transport over GRPC, bound to the address of its rank alone.

    Where FedML finds no address it listens on all interfaces; here every rank has one.

    Args:
        rank: number of this process.
        addresses: host and port of every rank.
        folder: where FedML's table of addresses is written.

    Raises:
        InputError: this machine has not that address, or the port is taken.
    """

    def __init__(self, rank: int, addresses: Sequence[tuple[str, int]], folder: Path) -> None:
        require_free(*addresses[rank], rank)
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(("eid", "rank", "grpc_server_ip", "grpc_server_port"))
        writer.writerows((number, number, *address) for number, address in enumerate(addresses))
        path = folder / "grpc_addresses.csv"
        write_text(path, table.getvalue())
        self.is_running = True
        self._thrown_away = 0
        super().__init__(str(path), client_rank=rank, client_num=len(addresses), args=Namespace())
        # What came in between is FedML's queue's, and is sent again by those who mean us.
        self.grpc_servicer.message_q = _BoundedQueue(lambda: self.is_running)

    def send_message(self, msg: Message) -> None:
        """Send a message as bytes that hold data alone; FedML would pickle it."""
        mapping = self.grpc_mappings[int(msg.get_receiver_id())]
        request = grpc_comm_manager_pb2.CommRequest()
        request.client_id = self.client_id
        request.message = pack(msg.get_params())
        target = f"{mapping.grpc_server_ip}:{mapping.grpc_server_port}"
        with grpc.insecure_channel(target, options=self.opts) as channel:
            grpc_comm_manager_pb2_grpc.gRPCCommManagerStub(channel).sendMessage(request)

    def message_handling_subroutine(self) -> None:
        """Pass messages on until the transport is stopped."""
        while self.is_running:
            try:
                content = self.grpc_servicer.message_q.get(timeout=POLL)
            except queue.Empty:
                continue
            try:
                self.notify(_message(unpack(content)))
            except Exception as error:  # noqa: BLE001  # whoever reaches the port can send anything
                self._thrown_away += 1
                if self._thrown_away <= _LOGGED:
                    text = str(error)[:200]
                    logger.warning("a message was thrown away: %s: %s", type(error).__name__, text)

    def stop_receive_message(self) -> None:
        """Stop listening, once those who are just sending something were told that it came.

        FedML cuts them off; they would take what came for lost and send it again, to nobody.
        """
        self.grpc_server.stop(GRPC_STOP_GRACE).wait()
        self.is_running = False


def _message(content: dict[str, Any]) -> Message:
    """FedML's message of what came in.

    Raises:
        ValueError: it has no kind, sender or receiver.
    """
    kind, *ranks = (content.get(key) for key in _ENVELOPE)
    if not isinstance(kind, str) or not all(type(rank) is int and 0 <= rank < 2**31 for rank in ranks):
        raise ValueError("expected a kind, a sender and a receiver")
    message = Message(kind, *ranks)
    message.init(content)
    return message


_ENVELOPE = (Message.MSG_ARG_KEY_TYPE, Message.MSG_ARG_KEY_SENDER, Message.MSG_ARG_KEY_RECEIVER)
