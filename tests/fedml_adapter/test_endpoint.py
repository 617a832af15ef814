"""Messages that come twice, from another run, or not at all."""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Iterator
from typing import Any

import pytest
from memory_link import Mailboxes, MemoryLink

from fedml_spurious.errors import RunError
from fedml_spurious.fedml_adapter.endpoint import Endpoint, Kind, SilentError
from fedml_spurious.fedml_adapter.remote_workers import Server


class Forgetful(MemoryLink):
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
        end.hush()
        end.finish()


def end(rank: int, mailboxes: Mailboxes, ends: list[Endpoint], **options: Any) -> Endpoint:
    link = options.pop("link", MemoryLink)(rank, mailboxes)
    ends.append(Endpoint(link, rank=rank, size=2, backend="memory", timeout=options.pop("timeout", 30.0)))
    return ends[-1]


def test_a_message_that_was_sent_twice_counts_once(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server, worker = end(0, mailboxes, ends), end(1, mailboxes, ends, link=Forgetful)
    worker.post(0, Kind.HELLO, {"n": 1})
    worker.post(0, Kind.READY, {"n": 2})
    worker.post(0, Kind.ANSWER, {"n": 3})
    found = [server.receive(patience=10.0) for _ in range(3)]
    assert [message and message.content["n"] for message in found] == [1, 2, 3]
    assert server.receive(patience=0.5) is None


def test_a_second_process_with_the_same_rank_ends_the_run(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server = Server(end(0, mailboxes, ends), 2)
    end(1, mailboxes, ends).post(0, Kind.HELLO)
    assert server.take(Kind.HELLO).sender == 1
    end(1, mailboxes, ends).post(0, Kind.HELLO)
    with pytest.raises(RunError, match="another process was started as rank 1 of this run"):
        server.take(Kind.ANSWER)


def test_a_process_of_an_earlier_run_is_not_listened_to(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    server = end(0, mailboxes, ends)
    end(1, mailboxes, ends).post(0, Kind.ANSWER, {"answer": "old"})
    assert server.receive(patience=0.5) is None
    assert not server.heard(1)


def test_silence_is_noticed_and_work_is_not_taken_for_silence(
    mailboxes: Mailboxes, ends: list[Endpoint]
) -> None:
    server, worker = end(0, mailboxes, ends, timeout=1.0), end(1, mailboxes, ends, timeout=1.0)
    worker.post(0, Kind.HELLO)
    assert server.receive(patience=10.0) is not None
    # Nothing but signs of life for three times as long as silence may last.
    assert server.receive(patience=3.0) is None
    worker.hush()
    started = time.monotonic()
    with pytest.raises(SilentError, match="rank 1 was silent for 1 s"):
        server.receive(patience=10.0)
    assert time.monotonic() - started < 3


def test_what_travels_is_what_pickle_makes_of_it(mailboxes: Mailboxes, ends: list[Endpoint]) -> None:
    """The transport in memory hides nothing: messages are bytes in between."""
    content = {"weights": "name", "state": None}
    end(0, mailboxes, ends).post(1, Kind.TASK, content)
    message = pickle.loads(mailboxes[1].get(timeout=10))
    assert message.get("model_params") == content
