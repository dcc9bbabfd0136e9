"""send.py: which sends are plain, what records and answers say, and what a full ring means."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from appliance.clock import Now
from appliance.commitlog.record import decode_properties, encode_message_id, parse, tags_code
from appliance.net import frame as frames
from appliance.net.frame import ROCKETMQ, Frame
from appliance.net.poll import SocketLimits, Sockets
from appliance.net.send import BUSY, REFUSED, TOO_LONG, SendPath, build_facts
from appliance.ring.tables import TOPIC_PULL
from clib import lib
from tests.fakes.line import BORN_MS, PEER, Line, batch, pull, send
from tests.fakes.world_parts import Memory, Producer, killed_at

NOW = Now(1, 1)
MESSAGE_MAX = 1000
SYSTEM_BUSY = 2
STORE_HOST = bytes((192, 0, 2, 1)) + (10911).to_bytes(4)


class Scene:
    """A frontend's sockets and send path, one client, and a writer of paper."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.memory.topic("T")
        self.rings = Producer(self.memory)
        self.following = self.starts = 0
        self.restart()

    def restart(self) -> None:
        """The frontend dies, with its connections; a successor begins."""
        limits = SocketLimits(connections_max=8, frame_max=1 << 17, backlog_max=1 << 18)
        self.starts += 1
        self.sockets = Sockets(limits, first_serial=self.starts << 20)
        self.client = Line(self.sockets)
        build = build_facts("TestCluster", "192.0.2.1", 10911, MESSAGE_MAX)
        rings = Producer(self.memory)
        self.ring = rings.ring
        self.path = SendPath(self.sockets, self.memory.topics, build, rings.ring, rings.done)

    def take(self) -> tuple[list[int], int]:
        """What has come is scanned and taken."""
        self.sockets.wait(0, NOW)
        count = self.sockets.scan(self.memory.topics.table, self.memory.groups.table)
        taken = self.path.take(count)
        self.sockets.flush()
        return taken

    def store(self, code: int = 0) -> None:
        """The writer's part: every entry is answered."""
        ring, done = self.rings.ring, self.rings.done
        for position in range(ring.tail, ring.head):
            answer, entry = done.entries[position & done.mask], self.entry(position)
            answer["sequence"], answer["code"] = position, code
            answer["physical_offset"] = 1000 * position
            answer["queue_offset"] = self.following
            self.following += int(entry["record_count"])
        done.publish(ring.head)
        ring.release(ring.head)

    def complete(self) -> list[Frame]:
        """The answers that clients then get."""
        self.path.complete()
        self.sockets.flush()
        return self.client.hear()

    def entry(self, position: int) -> Any:
        return self.ring.entries[position & self.ring.mask]

    def record(self, position: int) -> Any:
        return parse(bytes(self.ring.data(position, int(self.entry(position)["record_size"]))))


@contextmanager
def scene_of() -> Iterator[Scene]:
    scene = Scene()
    with scene.memory:
        yield scene
        scene.sockets.shut()
        scene.client.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


# Plain or not -------------------------------------------------------------------------------------

PLAIN = {
    "as clients send it": send(),
    "with all names": send(name="SEND_MESSAGE"),
    "with a binary header": send(),
    "one-way": send(oneway=True),
    "to the last queue": send(queueId=1),
    "with tags, keys and what is the user's": send(
        properties={"TAGS": "A", "KEYS": "a b", "u": "1"}
    ),
    "as long as may be": send(body=bytes(MESSAGE_MAX)),
    "compressed": send(sysFlag=0x101),
    "not waiting for the disk": send(properties={"WAIT": "false"}),
    "a retry of the client": send(reconsumeTimes=3),
    "a batch": batch(b"a", b"b"),
}
PLAIN["with a binary header"].serialization = ROCKETMQ

NOT_PLAIN = {
    "an unknown topic": send("other"),
    "a topic that needs advice": send("advice"),
    "a topic that is being changed": send("changing"),
    "a topic that was removed": send("removed"),
    "no such queue": send(queueId=2),
    "any queue": send(queueId=-1),
    "an empty body": send(body=b""),
    "a body that is too long": send(body=bytes(MESSAGE_MAX + 1)),
    "properties that leave no room for ours": send(properties={"p": "x" * 32700}),
    "a half message": send(sysFlag=0x4),
    "the end of a transaction": send(sysFlag=0x8),
    "an inner batch": send(sysFlag=0x80),
    "a name that needs a longer record": send("t" * 128),
    "no unique key": send(key=""),
    "a logical queue": send(),
    "a number that is none": send(queueId="x"),
    "a batch that does not add up": send(name="SEND_BATCH_MESSAGE", body=b"x" * 30, batch=True),
    **{
        f"the property {name}": send(properties={name: "1"})
        for name in ("DELAY", "TIMER_DELAY_SEC", "TIMER_DELIVER_MS", "TRAN_MSG", "POP_CK")
    },
}
NOT_PLAIN["a logical queue"].fields["lo"] = "true"


@pytest.mark.parametrize("what", PLAIN)
def test_plain_sends_go_to_the_writer(scene: Scene, what: str) -> None:
    scene.client.ask(PLAIN[what])
    assert scene.take() == ([], 1)
    assert scene.ring.poll() == (0, 1)


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_whatever_is_not_plain_is_left_to_others(scene: Scene, what: str) -> None:
    scene.memory.topic("advice", flags=TOPIC_PULL)
    for name in ("changing", "removed", "t" * 128):
        scene.memory.topic(name)
    scene.memory.topics.remove("removed")
    lib.ap_table_claim(scene.memory.topics.table, b"changing", len("changing"))
    scene.client.ask(NOT_PLAIN[what])
    assert scene.take() == ([0], 0)
    assert scene.ring.poll() == (0, 0)


def test_the_others_are_told_in_order(scene: Scene) -> None:
    for frame in (pull(), send(), send(key=""), Frame(34), send(), Frame(0, flag=1)):
        scene.client.ask(frame)
    assert scene.take() == ([0, 2, 3, 5], 2)


def test_nothing_to_take(scene: Scene) -> None:
    assert scene.take() == ([], 0)


# Records and entries ------------------------------------------------------------------------------


def test_the_record_says_what_was_sent(scene: Scene) -> None:
    tags = {"TAGS": "TagA"}
    scene.client.ask(send(body=b"body", queueId=1, flag=5, reconsumeTimes=2, properties=tags))
    scene.take()
    record, entry = scene.record(0), scene.entry(0)
    assert (record.topic, record.body, record.queue_id, record.flag) == ("T", b"body", 1, 5)
    assert (record.born_timestamp, record.reconsume_times) == (BORN_MS, 2)
    assert (record.born_host, record.store_host) == (PEER, STORE_HOST)
    assert decode_properties(record.properties) == {
        "UNIQ_KEY": "k",
        "TAGS": "TagA",
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "CLUSTER": "TestCluster",
    }
    assert int(entry["queue_index"]) == scene.memory.row("T", 1)
    assert (int(entry["tags_code"]), int(entry["record_count"])) == (tags_code("TagA"), 1)
    assert int(entry["connection"]) == scene.client.connection


def test_ipv6_hosts_are_told_in_full() -> None:
    build = build_facts("C", "2001:db8::1", 10911, MESSAGE_MAX)
    assert build.store_host_size == 20
    assert bytes(build.store_host)[:4] == bytes.fromhex("20010db8")


# Answers ------------------------------------------------------------------------------------------


def test_what_a_send_is_answered(scene: Scene) -> None:
    opaque = scene.client.ask(send(queueId=1))
    scene.take()
    assert (scene.path.pending, scene.path.idle, scene.complete()) == (False, False, [])
    scene.following = 7
    scene.store()
    assert scene.path.pending
    (answer,) = scene.complete()
    assert (answer.code, answer.opaque, answer.flag, answer.remark) == (0, opaque, 1, None)
    assert answer.fields == {
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "msgId": encode_message_id(STORE_HOST, 0),
        "queueId": "1",
        "queueOffset": "7",
        "transactionId": "k",
    }
    assert (answer.language, answer.version, answer.body) == (frames.PYTHON, frames.VERSION, b"")
    assert (scene.path.pending, scene.path.idle) == (False, True)


def test_a_batch_is_answered_with_all_its_ids(scene: Scene) -> None:
    scene.client.ask(batch(b"a", b"bb", b"ccc"))
    scene.take()
    scene.store()
    (answer,) = scene.complete()
    offsets = [int(one[-8:], 16) for one in answer.fields["msgId"].split(",")]
    first, second = (after - before for before, after in pairwise(offsets))
    assert (offsets[0], second - first) == (0, 1), "each record begins where the one before ends"
    assert "transactionId" not in answer.fields and answer.fields["queueOffset"] == "0"


def test_answers_come_in_the_order_of_the_sends_and_one_way_gets_none(scene: Scene) -> None:
    opaques = [scene.client.ask(send(oneway=number % 3 == 1)) for number in range(9)]
    scene.take()
    scene.store()
    heard = [answer.opaque for answer in scene.complete()]
    assert heard == [opaque for number, opaque in enumerate(opaques) if number % 3 != 1]


@pytest.mark.parametrize(("code", "remark"), [(14, REFUSED), (13, TOO_LONG)])
def test_what_the_writer_refuses_is_answered_so(scene: Scene, code: int, remark: str) -> None:
    opaque = scene.client.ask(send())
    scene.client.ask(send(oneway=True))
    scene.take()
    scene.store(code=code)
    (answer,) = scene.complete()
    assert (answer.code, answer.opaque, answer.remark) == (code, opaque, remark)
    assert scene.path.idle


def test_what_is_stored_less_safely_than_asked_has_one_answer(scene: Scene) -> None:
    scene.client.ask(send())
    scene.take()
    scene.store(code=10)
    (answer,) = scene.complete()
    assert (answer.code, answer.fields["queueOffset"]) == (10, "0")


def test_who_is_gone_gets_no_answer(scene: Scene) -> None:
    scene.client.ask(send())
    scene.take()
    scene.sockets.close(scene.client.connection)
    assert scene.sockets.closed() == [scene.client.connection]
    scene.store()
    other = Line(scene.sockets)
    scene.path.complete()
    scene.sockets.flush()
    assert other.hear() == []
    other.close()


# A full ring --------------------------------------------------------------------------------------


def test_a_full_ring_is_flow_control(scene: Scene) -> None:
    room = scene.ring.capacity
    opaques = [scene.client.ask(send()) for _ in range(room + 2)]
    scene.client.ask(send(oneway=True))
    assert scene.take() == ([], room + 3)
    assert scene.ring.head == room
    refused = scene.client.hear()
    assert [(a.code, a.opaque, a.remark) for a in refused] == [
        (SYSTEM_BUSY, opaque, BUSY) for opaque in opaques[-2:]
    ]


def test_room_is_free_only_when_it_is_answered(scene: Scene) -> None:
    room = scene.ring.capacity
    for _ in range(room):
        scene.client.ask(send())
    scene.take()
    scene.store()
    scene.client.ask(send())
    scene.take()
    assert [answer.code for answer in scene.client.hear()] == [SYSTEM_BUSY]
    assert len(scene.complete()) == room
    scene.client.ask(send())
    scene.take()
    assert scene.ring.head == room + 1 and scene.client.hear() == []


def test_a_full_arena_is_flow_control_too(scene: Scene) -> None:
    fits = scene.ring.arena_size // 8192
    scene.path = SendPath(
        scene.sockets,
        scene.memory.topics,
        build_facts("C", "127.0.0.1", 1, 8192),
        scene.ring,
        scene.rings.done,
    )
    for _ in range(fits + 1):
        scene.client.ask(send(body=bytes(8100)))
        scene.take()
    assert scene.ring.head < fits + 1
    assert {answer.code for answer in scene.client.hear()} == {SYSTEM_BUSY}


# Deaths -------------------------------------------------------------------------------------------


def test_a_frontend_that_dies_before_it_publishes_has_sent_nothing(scene: Scene) -> None:
    scene.client.ask(send(body=b"lost"))
    with killed_at("frontend.built"):
        scene.take()
    scene.restart()
    assert (scene.ring.poll(), scene.path.idle) == ((0, 0), True)
    scene.client.ask(send(body=b"next"))
    scene.take()
    assert scene.record(0).body == b"next"


@pytest.mark.parametrize("place", ["frontend.published", "frontend.answered"])
def test_a_successor_answers_nobody_and_frees_the_room(scene: Scene, place: str) -> None:
    scene.client.ask(send())
    with killed_at(place):
        scene.take()
        scene.store()
        scene.complete()
    scene.restart()
    if place == "frontend.published":
        scene.store()
    assert (scene.path.idle, scene.complete()) == (False, [])
    assert scene.path.idle
    scene.client.ask(send())
    scene.take()
    scene.store()
    assert [answer.code for answer in scene.complete()] == [0]
