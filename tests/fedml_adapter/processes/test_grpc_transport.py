"""The end of the communication over GRPC, with real sockets on the loopback interface."""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import free_ports

from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.grpc_transport import GrpcTransport
from fedml_spurious.fedml_adapter.processes.messages import Kind

GONE = 3600.0  # nobody waits so long


@pytest.fixture
def transports(tmp_path: Path) -> Iterator[list[GrpcTransport]]:
    port = free_ports(2)
    addresses = [("127.0.0.1", port), ("127.0.0.1", port + 1)]
    made = [GrpcTransport(rank, addresses, tmp_path) for rank in range(2)]
    yield made
    for transport in made:
        transport.stop_receive_message()


def endpoint(transports: list[GrpcTransport], rank: int) -> Endpoint:
    return Endpoint(transports[rank], rank=rank, size=2, backend="GRPC", timeout=GONE)


def test_who_is_sending_while_the_other_side_stops_is_told_that_it_came(
    transports: list[GrpcTransport],
) -> None:
    """A silo's last message was taken for lost, and sent again to nobody, for as long as it had patience."""
    came = threading.Event()

    class Slow(queue.Queue[bytes]):
        def put(self, *arguments: Any, **options: Any) -> None:
            super().put(*arguments, **options)
            came.set()
            time.sleep(1.0)

    transports[0].grpc_servicer.message_q = Slow()
    worker = endpoint(transports, 1)
    worker.post(0, Kind.BYE)
    assert came.wait(30)
    transports[0].stop_receive_message()
    worker.flush(10)
    assert [box.unfinished_tasks for box in worker._outboxes.values()] == [0]
    worker.stop_heartbeat()
    worker.finish()


def test_nobody_waits_for_a_side_that_is_gone(
    transports: list[GrpcTransport],
) -> None:
    transports[0].stop_receive_message()
    worker = endpoint(transports, 1)
    worker.post(0, Kind.BYE)
    worker.stop_heartbeat()
    ended = threading.Thread(target=worker.finish, daemon=True)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()


def test_what_cannot_be_read_is_thrown_away_and_the_next_message_is_heard(
    transports: list[GrpcTransport],
) -> None:
    for rubbish in (b"", b"rubbish", pickle.dumps({"no": "message"}), pickle.dumps(print)):
        transports[0].grpc_servicer.message_q.put(rubbish)
    server, worker = endpoint(transports, 0), endpoint(transports, 1)
    worker.post(0, Kind.HELLO, {"n": 1})
    message = server.receive(at_most=30)
    assert message is not None
    assert message.content == {"n": 1}
    for end in (server, worker):
        end.stop_heartbeat()
        end.finish()
