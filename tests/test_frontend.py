"""frontend.py: between clients, a writer and a coordinator of paper, through everybody's death."""

import logging
import os
import select
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from appliance.frontend import HEART_BEAT, Frontend, make_sockets
from appliance.heritage import COORDINATOR, FRONTEND, WRITER
from appliance.journal import LINES_A_SECOND
from appliance.net import frame as frames
from appliance.net.frame import RESPONSE, Frame
from appliance.net.send import BUSY
from appliance.ring.ring import Ring
from appliance.writer import Writer
from clib import lib
from tests.fakes.clock import FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.line import (
    COMMIT,
    PEER_TEXT,
    SUBSCRIPTION,
    SUSPEND,
    Line,
    batch,
    pull,
    records,
    send,
)
from tests.fakes.world_parts import HandSyncer, Memory, killed_at

SYSTEM_ERROR, SYSTEM_BUSY, NOT_FOUND = 1, 2, 19
MS = 1_000_000


class Heard(NamedTuple):
    """One entry of the ask ring."""

    kind: int
    connection: int
    data: bytes
    values: tuple[int, ...]


class Scene:
    """One frontend with a real writer; the test is the coordinator."""

    def __init__(self) -> None:
        self.memory = Memory(log_file_size=1 << 16)
        self.disk, self.clock, self.syncer = FakeDisk(), FakeClock(), HandSyncer()
        heritage = self.memory.heritage
        self.writer = Writer(heritage, self.disk, self.syncer, self.clock)
        self._ask, self._tell = (
            Ring(heritage.ask[0], "ap_frame"),
            Ring(heritage.tell[0], "ap_frame"),
        )
        self.rows = heritage.doorbells.rows
        self.rows[WRITER].ready = self.rows[COORDINATOR].ready = 1
        self.rows[COORDINATOR].generation = 1
        self.memory.topic("T")
        self.memory.group("G")
        self.lines: list[Line] = []
        self.restart()

    def restart(self) -> None:
        """The frontend dies, with its connections; a successor begins."""
        self.rows[FRONTEND].generation += 1
        self.sockets = make_sockets(0, self.memory.heritage)
        self.sockets.net.now_ns = self.clock.ns  # when those come who come before the first step
        self.frontend = Frontend(0, self.memory.heritage, self.sockets, self.disk)

    def connect(self) -> Line:
        line = Line(self.sockets)
        self.lines.append(line)
        return line

    def step(self) -> int:
        return self.frontend.step(self.clock.now())

    def run(self) -> None:
        """Frontend and writer step until there is nothing more to do."""
        for _ in range(100):
            if not self.step() + self.writer.step(self.clock.now()):
                return
        raise AssertionError("it never comes to rest")

    def heard(self, kinds: tuple[int, ...] = ()) -> list[Heard]:
        """What the coordinator has been asked since the last call, or of some kinds alone."""
        first, last = self._ask.poll()
        found = [self._entry(position) for position in range(first, last)]
        self._ask.release(last)
        return [one for one in found if not kinds or one.kind in kinds]

    def _entry(self, position: int) -> Heard:
        entry = self._ask.entries[position & self._ask.mask]
        data = bytes(self._ask.data(position, int(entry["size"])))
        values = tuple(int(value) for value in entry["values"])
        return Heard(int(entry["kind"]), int(entry["connection"]), data, values)

    def tell(self, kind: int, connection: int, data: bytes = b"") -> None:
        """The coordinator's word."""
        assert self._tell.push(data, kind=kind, connection=connection, size=len(data))

    def fill_ask(self) -> None:
        """The coordinator does not keep up."""
        while self._ask.push(kind=lib.AP_COMMIT, size=0):
            pass

    def woken(self, process: int) -> bool:
        poll = select.poll()
        poll.register(self.memory.heritage.doorbells.bells[process], select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self.sockets.shut()
        for line in self.lines:
            line.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    with made.memory:
        yield made
        made.close()


@pytest.fixture
def line(scene: Scene) -> Line:
    """A client that the coordinator knows."""
    made = scene.connect()
    scene.step()
    scene.heard()
    return made


def kinds(heard: list[Heard]) -> list[int]:
    return [one.kind for one in heard]


# The beginning ------------------------------------------------------------------------------------


def test_nothing_is_read_before_writer_and_coordinator_are_ready(scene: Scene) -> None:
    line = scene.connect()
    line.ask(send())
    for process in (WRITER, COORDINATOR):
        scene.rows[process].ready = 0
        assert (scene.step(), scene.heard(), scene.frontend.sleep_ms(scene.clock.now())) == (
            0,
            [],
            5,
        )
        scene.rows[process].ready = 1
    scene.run()
    assert [answer.code for answer in line.hear()] == [0]


def test_the_coordinator_first_hears_that_the_frontend_is_new(scene: Scene) -> None:
    line = scene.connect()
    line.ask(Frame(HEART_BEAT))
    scene.step()
    reset, opened, asked = scene.heard()
    assert reset.kind == lib.AP_RESET
    assert opened == Heard(lib.AP_OPENED, line.connection, PEER_TEXT.encode(), opened.values)
    assert (asked.kind, asked.connection) == (lib.AP_FRAME, line.connection)


def test_listeners_and_the_bell_are_served() -> None:
    with Memory() as memory, socket.create_server(("127.0.0.1", 0)) as listener:
        memory.heritage.listeners[FRONTEND] = [listener]
        memory.heritage.doorbells.rows[FRONTEND].generation = 2
        sockets = make_sockets(0, memory.heritage)
        with socket.create_connection(listener.getsockname(), timeout=10):
            assert sockets.wait(10_000, FakeClock().now()) == 1
            sockets.receive()
            ((connection, _),) = sockets.opened()
            assert connection >> 52 == 2
        os.eventfd_write(memory.heritage.doorbells.bells[FRONTEND], 1)
        assert sockets.wait(10_000, FakeClock().now()) >= 1
        sockets.shut()


# The fast path ------------------------------------------------------------------------------------


def test_a_message_goes_to_the_writer_and_comes_back_by_a_pull(scene: Scene, line: Line) -> None:
    scene.memory.heritage.doorbells.announce_sleep(WRITER)
    line.ask(send(body=b"hello"))
    scene.step()
    assert scene.woken(WRITER)
    scene.run()
    line.ask(pull())
    scene.run()
    sent, found = line.hear()
    assert (sent.code, sent.fields["queueOffset"], found.code) == (0, "0", 0)
    assert [record.body for record in records(found.body)] == [b"hello"]
    assert scene.heard() == [], "the coordinator has nothing to do with it"


def test_many_clients_are_answered_each_in_order(scene: Scene) -> None:
    lines = [scene.connect() for _ in range(5)]
    for number in range(4):
        for line in lines:
            line.ask(batch(b"a", b"b") if number % 2 else send(queueId=1))
    scene.run()
    for line in lines:
        assert [answer.opaque for answer in line.hear()] == [1, 2, 3, 4]
    assert scene.memory.max("T", 0) + scene.memory.max("T", 1) == 5 * 6


def test_a_commit_inside_a_pull_is_passed_on(scene: Scene, line: Line) -> None:
    line.ask(pull(sysFlag=SUBSCRIPTION | COMMIT, commitOffset=7))
    scene.step()
    ((kind, connection, _, values),) = scene.heard()
    assert (kind, connection) == (lib.AP_COMMIT, line.connection)
    assert values == (scene.memory.groups.find("G"), scene.memory.topics.find("T"), 0, 7)
    assert len(line.hear()) == 1


def test_a_long_poll_is_counted_and_woken_by_the_writer(scene: Scene, line: Line) -> None:
    line.ask(pull(sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=500))
    scene.run()
    assert (scene.rows[FRONTEND].parked, line.hear()) == (1, [])
    assert scene.frontend.sleep_ms(scene.clock.now()) == 501
    scene.memory.heritage.doorbells.announce_sleep(FRONTEND)
    scene.connect().ask(send(body=b"new"))
    scene.step()
    scene.writer.step(scene.clock.now())
    assert scene.woken(FRONTEND) and scene.frontend.pending()
    scene.step()
    assert (scene.rows[FRONTEND].parked, scene.frontend.pending()) == (0, False)
    (answer,) = line.hear()
    assert [record.body for record in records(answer.body)] == [b"new"]


def test_a_long_poll_has_an_end(scene: Scene, line: Line) -> None:
    line.ask(pull(sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=500))
    scene.run()
    scene.clock.advance(500 * MS)
    assert scene.step() == 1
    assert [answer.code for answer in line.hear()] == [NOT_FOUND]
    assert scene.frontend.sleep_ms(scene.clock.now()) == 1000


def test_expired_files_are_let_go(scene: Scene, line: Line) -> None:
    line.ask(send())
    scene.run()
    line.ask(pull())
    scene.run()
    scene.memory.watermarks.move("expired", 1 << 16)
    scene.clock.advance(5_000 * MS)
    scene.step()
    assert scene.frontend._pulls._log.files() == []


# The coordinator's part ---------------------------------------------------------------------------


def test_everything_else_goes_to_the_coordinator_in_order(scene: Scene, line: Line) -> None:
    asked = [
        Frame(HEART_BEAT, body=b"{}"),
        send("unknown"),
        pull(group="unknown"),
        Frame(9999),
        Frame(0, flag=RESPONSE),
    ]
    scene.memory.heritage.doorbells.announce_sleep(COORDINATOR)
    for frame in asked:
        line.ask(frame)
    line.ask(send())
    scene.run()
    assert scene.woken(COORDINATOR)
    heard = scene.heard()
    assert kinds(heard) == [lib.AP_FRAME] * 5
    assert [frames.decode(one.data) for one in heard] == asked
    assert len(line.hear()) == 1


def test_its_answers_reach_the_client_and_it_may_close(scene: Scene, line: Line) -> None:
    answer = Frame(0, 5, flag=RESPONSE)
    scene.tell(lib.AP_FRAME, line.connection, frames.encode(answer))
    scene.tell(lib.AP_FRAME, 12345, frames.encode(answer))
    assert scene.frontend.pending()
    assert scene.step() == 2
    assert line.hear() == [answer] and not scene.frontend.pending()
    scene.tell(lib.AP_FRAME, line.connection, frames.encode(answer))
    scene.tell(lib.AP_CLOSE, line.connection)
    scene.step()
    complete, _ = frames.split(line.socket.recv(1 << 16))
    assert len(complete) == 1 and line.socket.recv(1) == b""
    assert kinds(scene.heard()) == [lib.AP_CLOSED]


def test_a_pull_that_it_finds_nothing_wrong_with_is_served_again(scene: Scene, line: Line) -> None:
    line.ask(send(body=b"x"))
    scene.run()
    asked = pull(group="new", sysFlag=SUBSCRIPTION | COMMIT, commitOffset=0)
    opaque = line.ask(asked)
    scene.step()
    ((_, connection, data, _),) = scene.heard()
    scene.memory.group("new")
    scene.tell(lib.AP_AGAIN, connection, data)
    scene.step()
    answer = line.hear()[-1]
    assert (answer.code, answer.opaque) == (0, opaque)
    assert [record.body for record in records(answer.body)] == [b"x"]
    assert kinds(scene.heard()) == [lib.AP_COMMIT]


def test_a_pull_is_served_again_only_once(scene: Scene, line: Line) -> None:
    opaque = line.ask(pull(group="unknown"))
    scene.step()
    ((_, connection, data, _),) = scene.heard()
    scene.tell(lib.AP_AGAIN, connection, data)
    scene.step()
    (answer,) = line.hear()
    assert (answer.code, answer.opaque) == (SYSTEM_ERROR, opaque)
    assert scene.heard() == []


def test_a_coordinator_that_does_not_keep_up_is_answered_for(scene: Scene, line: Line) -> None:
    scene.fill_ask()
    opaque = line.ask(Frame(HEART_BEAT))
    line.ask(Frame(HEART_BEAT, flag=2))
    line.ask(Frame(0, flag=RESPONSE))
    line.ask(send())
    scene.run()
    busy, sent = sorted(line.hear(), key=lambda answer: answer.opaque)
    assert (busy.code, busy.opaque, busy.remark) == (SYSTEM_BUSY, opaque, BUSY)
    assert sent.code == 0, "sends have their own ring"
    scene.heard()
    line.ask(Frame(HEART_BEAT))
    scene.step()
    assert kinds(scene.heard()) == [lib.AP_FRAME]


def test_who_came_and_went_is_told_late_but_in_order(scene: Scene, line: Line) -> None:
    scene.fill_ask()
    other = scene.connect()
    other.ask(Frame(HEART_BEAT))
    scene.step()
    assert [answer.code for answer in other.hear()] == [SYSTEM_BUSY], "he is not known yet"
    line.close()
    scene.step()
    scene.heard()
    other.ask(Frame(HEART_BEAT))
    scene.step()
    heard = scene.heard()
    assert [(one.kind, one.connection) for one in heard] == [
        (lib.AP_OPENED, other.connection),
        (lib.AP_CLOSED, line.connection),
        (lib.AP_FRAME, other.connection),
    ]


def test_a_new_coordinator_hears_of_everybody(scene: Scene, line: Line) -> None:
    silent = scene.connect()
    for body in (b"first", b"second"):
        line.ask(Frame(HEART_BEAT, body=body))
    scene.step()
    scene.heard()
    scene.rows[COORDINATOR].generation += 1
    scene.step()
    heard = scene.heard()
    assert [(one.kind, one.connection) for one in heard] == [
        (lib.AP_OPENED, line.connection),
        (lib.AP_FRAME, line.connection),
        (lib.AP_OPENED, silent.connection),
    ]
    assert frames.decode(heard[1].data).body == b"second"
    scene.step()
    assert scene.heard() == []


# Connections --------------------------------------------------------------------------------------


def test_who_is_gone_is_forgotten(scene: Scene, line: Line) -> None:
    line.ask(Frame(HEART_BEAT))
    line.ask(pull(sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=500))
    scene.step()
    assert scene.rows[FRONTEND].parked == 1
    line.close()
    scene.step()
    assert scene.rows[FRONTEND].parked == 0
    assert kinds(scene.heard()) == [lib.AP_FRAME, lib.AP_CLOSED]
    scene.rows[COORDINATOR].generation += 1
    scene.step()
    assert scene.heard() == []


def test_peers_at_fault_are_logged_but_do_not_flood(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(LINES_A_SECOND + 3):
        scene.connect().put(b"\xff" * 8)
    scene.step()
    assert caplog.text.count("a frame of an impossible length") == LINES_A_SECOND
    scene.clock.advance(1_000 * MS)
    scene.connect().put(b"\xff" * 8)
    scene.step()
    assert "3 more lines of this kind" in caplog.text
    assert f"{PEER_TEXT}: connection closed: a frame of an impossible length" in caplog.text


def test_the_idle_are_closed(scene: Scene, line: Line) -> None:
    idle_ns = scene.memory.heritage.limits.idle_ns
    scene.clock.advance(idle_ns + 1)
    busy = scene.connect()
    busy.ask(Frame(HEART_BEAT))
    scene.step()
    scene.step()
    assert line.socket.recv(1) == b"" and len(busy.hear()) == 0
    assert scene.heard()[-1][:2] == (lib.AP_CLOSED, line.connection)


def test_it_sleeps_on_its_sockets_once_it_may_read_them(scene: Scene, line: Line) -> None:
    bells, now = scene.memory.heritage.doorbells, scene.clock.now()
    line.ask(send())
    scene.frontend.wait(10_000, now)
    assert scene.step() == 1
    scene.frontend.stop(now)
    line.ask(send())
    bells.announce_sleep(FRONTEND)
    bells.wake(FRONTEND)
    scene.frontend.wait(10_000, now)
    assert not scene.woken(FRONTEND), "only the bell wakes who reads no more"
    scene.frontend.wait(0, now)


# The end ------------------------------------------------------------------------------------------


def test_a_stop_answers_what_was_sent_and_reads_no_more(scene: Scene, line: Line) -> None:
    line.ask(send())
    scene.step()
    assert not scene.frontend.stop(scene.clock.now())
    line.ask(send())
    scene.step()
    scene.writer.step(scene.clock.now())
    scene.step()
    assert scene.frontend.stop(scene.clock.now())
    assert [answer.opaque for answer in line.hear()] == [1]
    scene.frontend.close()
    with pytest.raises(ConnectionResetError):
        line.socket.recv(1)


def test_what_is_ready_when_it_closes_is_sent(scene: Scene, line: Line) -> None:
    line.ask(send())
    scene.step()
    scene.writer.step(scene.clock.now())
    scene.frontend.close()
    assert line.socket.recv(1 << 16) != b""


@pytest.mark.parametrize("place", ["frontend.built", "frontend.published", "frontend.answered"])
def test_a_successor_takes_over_the_rings(scene: Scene, line: Line, place: str) -> None:
    line.ask(send(body=b"old"))
    with killed_at(place):
        scene.run()
    scene.sockets.shut()
    scene.restart()
    successor = scene.connect()
    opaque = successor.ask(send(body=b"new"))
    scene.run()
    (answer,) = successor.hear()
    assert (answer.code, answer.opaque) == (0, opaque)
    assert scene.memory.max("T") == (1 if place == "frontend.built" else 2)
    assert kinds(scene.heard()) == [lib.AP_RESET, lib.AP_OPENED]
    assert scene.frontend.stop(scene.clock.now()), "nothing waits for its answer"
