"""FedML's interface of a transport over queues, for servers and workers in threads of one process."""

from __future__ import annotations

import pickle
import queue
from typing import Any

from fedml.core.distributed.communication.base_com_manager import BaseCommunicationManager

Mailboxes = dict[int, "queue.Queue[bytes]"]


class MemoryTransport(BaseCommunicationManager):  # type: ignore[misc]  # FedML has no types
    """FedML's interface of a transport, over queues."""

    def __init__(self, rank: int, mailboxes: Mailboxes) -> None:
        self.rank, self.mailboxes = rank, mailboxes
        self.observers: list[Any] = []
        self.running = True

    def send_message(self, message: Any) -> None:
        self.mailboxes[message.get_receiver_id()].put(pickle.dumps(message))

    def add_observer(self, observer: Any) -> None:
        self.observers.append(observer)

    def remove_observer(self, observer: Any) -> None:
        self.observers.remove(observer)

    def handle_receive_message(self) -> None:
        while self.running:
            try:
                message = pickle.loads(self.mailboxes[self.rank].get(timeout=0.1))
            except queue.Empty:
                continue
            for observer in self.observers:
                observer.receive_message(message.get_type(), message)

    def stop_receive_message(self) -> None:
        self.running = False
