"""Kill one process, or all: others take their places, and nothing acknowledged is lost.

Few messages and single kills at once, in both flush modes; tests/faults/test_kill_processes.py does
it for long under the load of the official client.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from appliance.net.frame import Frame
from tests.interop.brokers import Appliance, await_until, kill, process_row
from tests.scenes.client import (
    Client,
    connected,
    create_topic,
    heartbeat,
    members,
    message,
    properties,
    pull,
    read_queue,
    send,
    subscription,
)
from tests.scenes.conftest import assert_nothing_left

pytestmark = pytest.mark.faults


@pytest.fixture(params=["sync", "async"])
def appliance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Appliance]:
    """Running; in the end it must have left nothing."""
    appliance = Appliance(tmp_path, flush=request.param)
    try:
        appliance.start()
        yield appliance
        pids = [appliance.supervisor, *appliance.children().values()]
        appliance.stop()
        assert_nothing_left(appliance.supervisor, pids)
    finally:
        appliance.close()


ENDED = (OSError, AssertionError)
"""What a client meets when its connection ends: the latter while it waits for an answer."""


class Books:
    """What a producer was told about its messages, to be compared with what a consumer finds."""

    def __init__(self, appliance: Appliance, topic: str = "Books") -> None:
        self.appliance = appliance
        self.topic = topic
        self.acknowledged: dict[int, bytes] = {}
        self._numbers = count()
        with self.client() as client:
            create_topic(client, topic, queues=1)

    def client(self) -> contextlib.AbstractContextManager[Client]:
        return connected(self.appliance.ports.broker)

    def send(self, number_of_messages: int) -> None:
        """So many, each acknowledged before the next; a new connection when one breaks."""
        goal = len(self.acknowledged) + number_of_messages
        deadline = time.monotonic() + 20
        while len(self.acknowledged) < goal:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {goal}"
            with contextlib.suppress(*ENDED), self.client() as client:
                while len(self.acknowledged) < goal:
                    sent = self.send_at_once(client, 1)
                    self._enter(client.next_answer(), sent)

    def send_at_once(self, client: Client, number_of_messages: int) -> dict[int, bytes]:
        """So many in one piece; their bodies by opaque, for `settle`."""
        asked = [self._frame(client) for _ in range(number_of_messages)]
        client.put(*asked)
        return {frame.opaque: frame.body for frame in asked}

    def settle(self, client: Client, sent: dict[int, bytes]) -> None:
        """Reads the answers, or as many as come before the connection ends."""
        with contextlib.suppress(*ENDED):
            for _ in sent:
                self._enter(client.next_answer(), sent)

    def _frame(self, client: Client) -> Frame:
        body = b"%d" % next(self._numbers)
        fields = message(self.topic, i=properties(UNIQ_KEY=body.decode()))
        return client.frame("SEND_MESSAGE_V2", fields, body)

    def _enter(self, answer: Frame, sent: dict[int, bytes]) -> None:
        assert answer.code in (0, 2), answer
        if answer.code == 0:
            self.acknowledged[int(answer.fields["queueOffset"])] = sent[answer.opaque]

    def check(self) -> None:
        """Everything acknowledged lies where it was said to lie, and nothing lies twice."""
        with self.client() as client:
            end = client.ask("GET_MAX_OFFSET", {"topic": self.topic, "queueId": 0})
            found = read_queue(client, self.topic, int(end.fields["offset"]))
        stored = [one.body for one in found]
        assert {at: stored[at] for at in self.acknowledged} == self.acknowledged
        assert len(set(stored)) == len(stored)


def replaced(appliance: Appliance, name: str, old: int) -> None:
    """Waits until another process runs under that name."""
    await_until(f"another {name}", lambda: appliance.children().get(name, old) != old)


CHILDREN = ["writer", "coordinator", "nameserver", "frontend-0", "frontend-1"]


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_is_replaced_and_all_goes_on(appliance: Appliance, name: str) -> None:
    books = Books(appliance)
    books.send(20)
    old = appliance.children()[name]
    with books.client() as client:
        sent = books.send_at_once(client, 1000)
        kill(old)
        books.settle(client, sent)
    replaced(appliance, name, old)
    books.send(20)
    books.check()
    assert f"{name} was killed by SIGKILL" in appliance.log.read_text()


def test_a_killed_coordinator_forgets_nothing(appliance: Appliance) -> None:
    """Offsets are in shared memory, topics on disk; the frontends tell who is connected."""
    books = Books(appliance)
    with books.client() as client, books.client() as other:
        for number, one in enumerate((client, other)):
            beat = heartbeat(f"m{number}", "G", subscription("Books"))
            assert one.ask("HEART_BEAT", body=beat).code == 0
        offset = {"consumerGroup": "G", "topic": "Books", "queueId": 0, "commitOffset": 77}
        assert client.ask("UPDATE_CONSUMER_OFFSET", offset).code == 0
        old = appliance.children()["coordinator"]
        kill(old)
        assert client.ask("QUERY_CONSUMER_OFFSET", offset).fields == {"offset": "77"}
        await_until("its members again", lambda: members(client, "G") == ["m0", "m1"])
        assert pull(client, "Books", consumerGroup="G", sysFlag=0, subVersion=1).code == 19
        send(other, "Books")


def test_a_killed_nameserver_learns_the_routes_again(appliance: Appliance) -> None:
    Books(appliance)
    old = appliance.children()["nameserver"]
    kill(old)
    replaced(appliance, "nameserver", old)
    with connected(appliance.ports.nameserver) as names:
        route = {"topic": "Books"}
        await_until(
            "the route", lambda: names.ask("GET_ROUTEINFO_BY_TOPIC", route).code == 0, seconds=10
        )


@pytest.mark.parametrize("name", ["writer", "frontend-0"])
def test_a_signal_to_a_child_is_not_one_to_all(appliance: Appliance, name: str) -> None:
    """SIGTERM makes it end in order; it is started again, and the others never hear of it."""
    books = Books(appliance)
    before = appliance.children()
    os.kill(before[name], signal.SIGTERM)
    replaced(appliance, name, before[name])
    books.send(5)
    books.check()
    after = appliance.children()
    assert {one for one in before if before[one] != after[one]} == {name}


@pytest.mark.parametrize("everybody", [False, True], ids=["supervisor", "all"])
def test_after_the_supervisor_is_killed(appliance: Appliance, everybody: bool) -> None:
    """Its children end by themselves and leave nothing in /dev/shm; if all die at once, the next
    start sweeps up. Either way it finds all that was acknowledged."""
    books = Books(appliance)
    books.send(50)
    old, children = appliance.supervisor, list(appliance.children().values())
    with books.client() as client:
        sent = books.send_at_once(client, 1000)
        for pid in [old, *(children if everybody else [])]:
            kill(pid)
        books.settle(client, sent)
    await_until("their end", lambda: not any(map(process_row, children)), seconds=10)
    if not everybody:
        await_until("a clean /dev/shm", lambda: not left_in_memory(old), seconds=5)
    appliance.start()
    assert_nothing_left(old, children)
    books.check()
    books.send(20)
    books.check()


def left_in_memory(supervisor: int) -> list[Path]:
    return list(Path("/dev/shm").glob(f"appliance-*-{supervisor}-*"))


def test_a_stop_drains(appliance: Appliance, tmp_path: Path) -> None:
    """What was acknowledged before the end is there afterwards, and the store was closed well."""
    books = Books(appliance)
    with books.client() as client:
        sent = books.send_at_once(client, 2000)
        appliance.stop()
        books.settle(client, sent)
    assert books.acknowledged
    assert not (tmp_path / "store" / "abort").exists()
    appliance.start()
    assert (tmp_path / "store" / "abort").exists()
    books.check()
