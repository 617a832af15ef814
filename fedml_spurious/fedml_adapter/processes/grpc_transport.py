"""FedML's transport over GRPC, bound to one address, with messages that can hold nothing but data.

FedML 0.9.6 asks its queue for messages without any pause, which takes a core away from training.
"""

from __future__ import annotations

import csv
import io
import logging
import pickle
import queue
import socket
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedml.core.distributed.communication.grpc.grpc_comm_manager import GRPCCommManager

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_text
from fedml_spurious.fedml_adapter.processes.timing import GRPC_STOP_GRACE, POLL

logger = logging.getLogger(__name__)

# All that a message of ours is made of: FedML's envelope, plain data and NumPy arrays.
_ALLOWED = {
    ("fedml.core.distributed.communication.message", "Message"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _MessageUnpickler(pickle.Unpickler):
    """Pickle can run any code; this one makes messages only. Whoever reaches the port can send bytes."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"a message holds {module}.{name}, which no message of ours does")
        return super().find_class(module, name)


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
        _require_free(*addresses[rank], rank)
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(("eid", "rank", "grpc_server_ip", "grpc_server_port"))
        writer.writerows((number, number, *address) for number, address in enumerate(addresses))
        path = folder / "grpc_addresses.csv"
        write_text(path, table.getvalue())
        super().__init__(str(path), client_rank=rank, client_num=len(addresses), args=Namespace())

    def message_handling_subroutine(self) -> None:
        """Pass messages on until the transport is stopped."""
        while self.is_running:
            try:
                content = self.grpc_servicer.message_q.get(timeout=POLL)
            except queue.Empty:
                continue
            try:
                self.notify(_MessageUnpickler(io.BytesIO(content)).load())
            except Exception as error:  # noqa: BLE001  # whoever reaches the port can send anything
                logger.warning("a message was thrown away: %s: %s", type(error).__name__, error)

    def stop_receive_message(self) -> None:
        """Stop listening, once those who are just sending something were told that it came.

        FedML cuts them off; they would take what came for lost and send it again, to nobody.
        """
        self.grpc_server.stop(GRPC_STOP_GRACE).wait()
        self.is_running = False


def _require_free(host: str, port: int, rank: int) -> None:
    # GRPC lets two servers share a port and would give each a part of the messages.
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise InputError(
            f"comm_args: rank {rank} cannot listen on {host}:{port} ({error.strerror or error}); another "
            "process has the port, or this machine has not that address. Change grpc_base_port or "
            "grpc_addresses"
        ) from None
