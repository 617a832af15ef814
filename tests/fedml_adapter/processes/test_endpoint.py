"""Messages that come twice, from another run, or not at all."""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from memory_transport import Mailboxes, MemoryTransport

from fedml_spurious.common.errors import RunError
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.fedml_adapter.processes.messages import Kind, SilentError
from fedml_spurious.fedml_adapter.processes.server import Server
from fedml_spurious.fedml_adapter.processes.situation import Situation


class Forgetful(MemoryTransport):
    """Delivers every message and says the first time that it could not."""

    def __init__(self, rank: int, mailboxes: Mailboxes) -> None:
        super().__init__(rank, mailboxes)
        self.failed: set[str] = set()

    def send_message(self, message: Any) -> None:
        super().send_message(message)
        if message.get_type() not in self.failed:
            self.failed.add(message.get_type())
            raise ConnectionError("lost on the way back")


@pytest.fixture
def mailboxes() -> Mailboxes:
    return {0: queue.Queue(), 1: queue.Queue()}


@pytest.fixture
def ends(mailboxes: Mailboxes) -> Iterator[list[Endpoint]]:
    """Is given the ends that a test makes, and ends them."""
    made: list[Endpoint] = []
    yield made
    for end in made:
        end.stop_heartbeat()
        end.finish()


def end(rank: int, mailboxes: Mailboxes, ends: list[Endpoint], **options: Any) -> Endpoint:
    transport = options.pop("transport", MemoryTransport)(rank, mailboxes)
    ends.append(
        Endpoint(transport, rank=rank, size=2, backend="memory", timeout=options.pop("timeout", 30.0))
    )
    return ends[-1]


def test_a_message_that_was_sent_twice_counts_once(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server, worker = end(0, mailboxes, ends), end(1, mailboxes, ends, transport=Forgetful)
    worker.post(0, Kind.HELLO, {"n": 1})
    worker.post(0, Kind.READY, {"n": 2})
    worker.post(0, Kind.ANSWER, {"n": 3})
    found = [server.receive(at_most=10.0) for _ in range(3)]
    assert [message and message.content["n"] for message in found] == [1, 2, 3]
    assert server.receive(at_most=0.5) is None


def test_a_second_process_with_the_same_rank_ends_the_run(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server = Server(end(0, mailboxes, ends), 2, Situation())
    end(1, mailboxes, ends).post(0, Kind.HELLO)
    assert server.wait_for(Kind.HELLO).sender == 1
    end(1, mailboxes, ends).post(0, Kind.HELLO)
    with pytest.raises(RunError, match="another process was started as rank 1 of this run"):
        server.wait_for(Kind.ANSWER)


def test_a_process_of_an_earlier_run_is_not_listened_to(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server = end(0, mailboxes, ends)
    end(1, mailboxes, ends).post(0, Kind.ANSWER, {"answer": "old"})
    assert server.receive(at_most=0.5) is None
    assert not server.has_contact(1)


def test_silence_is_noticed_and_work_is_not_taken_for_silence(
    mailboxes: Mailboxes, ends: list[Endpoint]
) -> None:
    server, worker = end(0, mailboxes, ends, timeout=2.0), end(1, mailboxes, ends, timeout=2.0)
    worker.post(0, Kind.HELLO)
    assert server.receive(at_most=10.0) is not None
    # Nothing but signs of life for three times as long as silence may last.
    assert server.receive(at_most=6.0) is None
    worker.stop_heartbeat()
    started = time.monotonic()
    with pytest.raises(SilentError, match="rank 1 was silent for 2 s"):
        server.receive(at_most=30.0)
    assert time.monotonic() - started < 6


class Losing(MemoryTransport):
    """Loses the second message and says that it went."""

    count = 0

    def send_message(self, message: Any) -> None:
        self.count += 1
        if self.count != 2:
            super().send_message(message)


def test_a_message_that_was_lost_ends_the_run(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    """A transport throws away what it cannot read; heartbeats alone would let both sides wait for ever."""
    server = Server(end(0, mailboxes, ends), 2, Situation())
    worker = end(1, mailboxes, ends, transport=Losing)
    worker.post(0, Kind.HELLO)
    server.wait_for(Kind.HELLO)
    worker.post(0, Kind.ANSWER, {"answer": "lost"})
    worker.post(0, Kind.ALIVE)
    with pytest.raises(RunError, match="rank 1 in start: a message of rank 1 was lost"):
        server.wait_for(Kind.ANSWER)


def test_a_worker_that_was_started_again_learns_that_the_run_goes_on_without_it(
    mailboxes: Mailboxes, ends: list[Endpoint]
) -> None:
    server = end(0, mailboxes, ends)
    server.post(1, Kind.OPEN)
    first = end(1, mailboxes, ends)
    assert first.receive(at_most=10.0) is not None
    first.finish()
    mailboxes[1].queue.clear()
    restarted = MemoryTransport(1, mailboxes)
    ends[1]._transport.running = False
    server.post(1, Kind.TRAIN, {"clients": []})
    ends.append(Endpoint(restarted, rank=1, size=2, backend="memory", timeout=30.0))
    message = ends[-1].receive(at_most=10.0)
    assert message is not None
    assert message.kind is Kind.STOP
    assert message.content["text"] == (
        "rank 0 is in the middle of a run; end all its processes and start all of them again"
    )


def test_a_rank_that_the_run_has_not_got_is_not_listened_to(
    mailboxes: Mailboxes, ends: list[Endpoint]
) -> None:
    """A silo of another run that was given the address of this one."""
    server = end(0, mailboxes, ends)
    stray = Endpoint(
        MemoryTransport(2, mailboxes | {2: queue.Queue()}), rank=2, size=3, backend="memory", timeout=30
    )
    ends.append(stray)
    stray.post(0, Kind.HELLO)
    assert server.receive(at_most=1.0) is None
    assert not server.has_contact(2)


def test_who_was_suspended_does_not_take_the_others_for_dead(
    mailboxes: Mailboxes, ends: list[Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, worker = end(0, mailboxes, ends, timeout=5.0), end(1, mailboxes, ends, timeout=5.0)
    worker.post(0, Kind.HELLO)
    assert server.receive(at_most=10.0) is not None
    real, jumped = time.monotonic, [0.0]
    wait = server._inbox.get

    def suspended(*, timeout: float) -> Any:
        try:
            return wait(timeout=timeout)
        finally:
            jumped[0] = 100.0  # the clock goes on while this process does not

    with monkeypatch.context() as patch:
        patch.setattr(server._inbox, "get", suspended)
        patch.setattr(
            "fedml_spurious.fedml_adapter.processes.endpoint.time.monotonic", lambda: real() + jumped[0]
        )
        assert server.receive(at_most=50.0) is None


def test_a_message_that_is_too_large_is_refused_at_once(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    worker = end(1, mailboxes, ends)
    worker.backend = "GRPC"
    large = np.broadcast_to(np.zeros(1), (2**28,))  # 2 GiB that take no memory
    with pytest.raises(RunError, match=r"a message of 2,048 MiB is more than FedML's GRPC takes"):
        worker.post(0, Kind.TRAINED, {"sum": {"head": large}})
    worker.backend = "memory"


def test_what_travels_is_what_pickle_makes_of_it(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    """The transport in memory hides nothing: messages are bytes in between."""
    content = {"weights": "name", "state": None}
    end(0, mailboxes, ends).post(1, Kind.TASK, content)
    message = pickle.loads(mailboxes[1].get(timeout=10))
    assert message.get("model_params") == content
