"""The end of the communication over GRPC, with real sockets on the loopback interface."""

from __future__ import annotations

import pickle
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_start
from jobs import free_ports

from fedml_spurious.common.errors import InputError
from fedml_spurious.fedml_adapter.processes import grpc_transport
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.grpc_transport import GrpcTransport
from fedml_spurious.fedml_adapter.processes.handshake import is_introduction
from fedml_spurious.fedml_adapter.processes.messages import Kind
from fedml_spurious.fedml_adapter.processes.packing import pack

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


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = taken.getsockname()
        said = f"rank 0 cannot listen on 127.0.0.1:{address[1]} .Address already in use"
        with pytest.raises(InputError, match=said):
            GrpcTransport(0, [address], tmp_path)


HELLO = {
    "asked": {"command": "run"}, "settings": {"train_args.epochs": 1}, "versions": {"python": "3"},
    "threads": 1, "host": "h", "pid": 1,
}  # fmt: skip


def envelope(**changed: Any) -> dict[str, Any]:
    """A message that a worker would send, with something else in it."""
    message = {
        "msg_type": "hello", "sender": 1, "receiver": 0, "number": 1, "session": "s", "model_params": HELLO,
    }  # fmt: skip
    return message | changed


def test_what_is_no_hello_of_an_expected_rank_is_thrown_away(transports: list[GrpcTransport]) -> None:
    """None of it may take the place of the worker, or end the run."""
    server = Endpoint(transports[0], rank=0, size=2, backend="GRPC", timeout=GONE, is_hello=is_introduction)
    rubbish = [
        b"", b"rubbish", pickle.dumps({"no": "message"}), pickle.dumps(print), pack({}),
        pack({"msg_type": "hello"}),
        *(
            pack(envelope(**changed))
            for changed in (
                {"sender": 2}, {"sender": -1}, {"sender": 0}, {"sender": "1"}, {"sender": True},
                {"number": "1"}, {"number": None}, {"number": [1]}, {"session": 5}, {"session": None},
                {"msg_type": "no kind"}, {"msg_type": ["hello"]}, {"msg_type": None}, {"receiver": None},
                {"model_params": None}, {"model_params": {}}, {"model_params": [1]},
                {"model_params": HELLO | {"settings": 5}}, {"model_params": HELLO | {"pid": "1"}},
                {"model_params": HELLO | {"settings": {"a": np.zeros(2)}}},
                {"model_params": HELLO | {"more": 1}}, {"sender": None},
                {"model_params": {name: item for name, item in HELLO.items() if name != "versions"}},
            )
        ),
    ]  # fmt: skip
    for message in rubbish:
        transports[0].grpc_servicer.message_q.put(message)
    worker = endpoint(transports, 1)
    worker.post(0, Kind.HELLO, HELLO)
    message = server.receive(at_most=30)
    assert message is not None
    assert (message.kind, message.content) == (Kind.HELLO, HELLO)
    assert server.receive(at_most=0.3) is None
    for end in (server, worker):
        end.stop_heartbeat()
        end.finish()


def test_what_waits_to_be_read_is_bounded(
    transports: list[GrpcTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_transport, "_QUEUE_BYTES", 1000)
    running = threading.Event()
    running.set()
    waiting = grpc_transport._BoundedQueue(running.is_set)
    put = threading.Thread(target=lambda: [waiting.put(bytes(300)) for _ in range(10)], daemon=True)
    put.start()
    put.join(1)
    assert put.is_alive()
    assert waiting.qsize() == 4 * 301  # room for one more was there until the last one came
    assert [len(waiting.get(timeout=5)) for _ in range(6)] == [300] * 6
    running.clear()  # who puts must not wait for ever when nobody reads any more
    waiting.put(bytes(2000))
    put.join(5)
    assert not put.is_alive()


FUZZ = """
import random
import sys
from pathlib import Path
from hypothesis import HealthCheck, given, settings, strategies as st
import msgpack
from fedml_spurious.fedml_adapter.processes import grpc_transport
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.grpc_transport import GrpcTransport
from fedml_spurious.fedml_adapter.processes.handshake import is_introduction
from fedml_spurious.fedml_adapter.processes.packing import pack

port = int(sys.argv[1])
transport = GrpcTransport(0, [("127.0.0.1", port), ("127.0.0.1", port + 1)], Path(sys.argv[2]))
end = Endpoint(transport, rank=0, size=2, backend="GRPC", timeout=3600.0, is_hello=is_introduction)
leaves = st.none() | st.booleans() | st.integers(-2**63, 2**64 - 1) | st.floats() | st.text() | st.binary()
leaves |= st.builds(msgpack.ExtType, st.integers(0, 3), st.binary())
plain = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
kinds = st.sampled_from(["hello", "trained", "answer", "failed", "bye", "alive", "stop"])
message = st.fixed_dictionaries({}, optional={
    "msg_type": kinds | plain, "sender": st.integers(-1, 3) | plain, "receiver": st.just(0) | plain,
    "number": st.integers(0, 3) | plain, "session": st.text() | plain,
    "model_params": st.dictionaries(st.sampled_from(["settings", "threads", "host", "pid"]), plain),
})
rng, seen, sent = random.Random(0), [{}], 0

def variants(parts):
    # Drawing a message takes far longer than to mix it with earlier ones and to damage each of them.
    seen.append(parts)
    other = rng.choice(seen)
    mixed = {key: rng.choice((parts, other)).get(key) for key in parts | other}
    for packed in map(msgpack.packb, (parts, mixed, other | parts, parts | other)):
        first, last = sorted(rng.choices(range(len(packed) + 1), k=2))
        yield from (packed, packed[:first], packed[:first] + rng.randbytes(rng.randrange(4)) + packed[last:])

@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.binary(), message)
def fuzz(rubbish, parts):
    global sent
    for packed in (rubbish, *variants(parts)):
        sent += 1
        transport.grpc_servicer.message_q.put(packed)

fuzz()
known = {"asked": {}, "settings": {}, "versions": {}, "threads": 1, "host": "h", "pid": 1}
transport.grpc_servicer.message_q.put(pack({
    "msg_type": "hello", "sender": 1, "receiver": 0, "number": 1, "session": "a worker's",
    "model_params": known,
}))
found = end.receive(at_most=400)
print(sent, found.kind, found.content == known, transport.grpc_servicer.message_q.qsize())
end.stop_heartbeat()
end.finish()
"""


def test_a_process_survives_thousands_of_messages_and_hears_the_next(tmp_path: Path) -> None:
    """Random bytes, envelopes with random parts, mixtures of these, and such that were cut or damaged."""
    program = tmp_path / "fuzz.py"
    program.write_text(FUZZ)
    command = [sys.executable, quick_start.__file__, str(program), str(free_ports(2)), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    sent, kind, whole, waiting = done.stdout.split()
    assert int(sent) >= 5000
    assert (kind, whole, waiting) == ("hello", "True", "0")
