"""FedML's transport over MPI, with a receive loop that waits: FedML's polls 10,000 times a second."""

from __future__ import annotations

import queue

from fedml.core.distributed.communication.mpi.com_manager import MpiCommunicationManager

from fedml_spurious.fedml_adapter.processes.timing import POLL


class MpiTransport(MpiCommunicationManager):  # type: ignore[misc]  # FedML has no types
    """FedML's transport over MPI."""

    def handle_receive_message(self) -> None:
        """Pass messages on until the transport is stopped."""
        self._notify_connection_ready()
        while not self._stop_running:
            try:
                message = self.q_receiver.get(timeout=POLL)
            except queue.Empty:
                continue
            self.notify(message)

    def _free_q(self, q: queue.Queue[object]) -> None:
        """Drop what is left; FedML's own calls a method that queues do not have."""
        while not q.empty():
            q.get_nowait()
