"""The coordinator as a process: whole at every moment it may die, deaf to nonsense, never stuck."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from appliance import failpoint
from appliance.broker.kept.topics import TopicConfig
from appliance.coordinator import Coordinator
from appliance.net import frame as frames
from appliance.net.frame import ONEWAY, Frame
from appliance.net.requests import BY_CODE
from appliance.ring.ring import Ring
from clib import lib
from tests.broker.paper import Desk, make_heritage, page_of
from tests.broker.test_clients import beat, body, ids, notified
from tests.broker.test_send import header, properties, send


class Died(Exception):
    """The process is no more."""


# Deaths ------------------------------------------------------------------------------------------


class Mortal:
    """Counts the coordinator's moves on its rings, and ends it before or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
        self._desk = desk
        self._moves = 0
        self._last = 0
        self._alive = False
        for name in ("push", "release"):
            monkeypatch.setattr(Ring, name, self._counted(getattr(Ring, name)))

    def _counted(self, move: Any) -> Any:
        def counted(*args: Any, **fields: Any) -> Any:
            self._moves += self._alive
            if self._alive and self._moves == self._last:
                raise Died
            result = move(*args, **fields)
            if self._alive and self._moves == -self._last:
                raise Died
            return result

        return counted

    def step(self, *, last: int) -> bool:
        """One step; False when it died before its `last` move (after it, when negative)."""
        self._moves, self._last, self._alive = 0, last, True
        try:
            self._desk.coordinator.step(self._desk.now)
        except Died:
            return False
        finally:
            self._alive = False
        return True


def ask_much(desk: Desk, client: int) -> list[int]:
    """Questions of every kind at once; the opaques of those that want an answer."""
    offsets = {"consumerGroup": "G", "topic": "T", "queueId": 0}
    back = {"offset": 0, "group": "G", "delayLevel": 1}
    return [
        desk.put(client, "SEND_MESSAGE_V2", header(i=properties(UNIQ_KEY="1")), b"one"),
        desk.put(client, "HEART_BEAT", body=body("a")),
        desk.put(client, "UPDATE_CONSUMER_OFFSET", {**offsets, "commitOffset": 3}),
        desk.put(client, "SEND_MESSAGE_V2", header(i=properties(UNIQ_KEY="2")), b"two"),
        desk.put(client, "CONSUMER_SEND_MSG_BACK", back),
        desk.put(
            client,
            "UPDATE_AND_CREATE_TOPIC",
            {"topic": "U", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6},
        ),
        desk.put(client, 9999),
        desk.put(client, "SEND_MESSAGE_V2", header(i=properties(UNIQ_KEY="3")), b"three"),
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_whenever_it_dies_nothing_is_lost_and_nothing_is_stored_twice(
    monkeypatch: pytest.MonkeyPatch, sign: int
) -> None:
    for last in itertools.count(1):
        desk = Desk()
        send(desk)
        client = desk.open()
        opaques = ask_much(desk, client)
        mortal = Mortal(monkeypatch, desk)
        deaths = 0
        for _ in range(6):
            if not mortal.step(last=sign * last):
                deaths += 1
                desk.restart()
            desk.writer.step(desk.now)
        monkeypatch.undo()
        desk.run()
        desk.pass_ms(2_000)
        check(desk, opaques)
        if not deaths:
            assert last > 10
            return


def check(desk: Desk, opaques: list[int]) -> None:
    assert all(desk.answers(opaque) for opaque in opaques), "every question has an answer"
    store, state = desk.coordinator.state.store, desk.coordinator.state
    assert store.bounds("T", 0) == (0, 4), "each message once"
    assert store.bounds("SCHEDULE_TOPIC_XXXX", 0) == (0, 1)
    assert store.bounds("%RETRY%G", 0) == (0, 1)
    assert state.offsets.get("T", "G", 0) == 3
    assert "U" in state.topics


@pytest.mark.parametrize("place", ["coordinator.handled", "coordinator.released"])
def test_failpoints(place: str) -> None:
    desk = Desk()
    client = desk.open()
    opaque = desk.put(client, "SEND_MESSAGE_V2", header(), b"x")

    def die(name: str) -> None:
        if name == place:
            raise Died

    failpoint.arm(die)
    try:
        with pytest.raises(Died):
            desk.coordinator.step(desk.now)
    finally:
        failpoint.arm(None)
    desk.restart()
    desk.run()
    assert desk.answer(opaque).code == 0
    assert desk.coordinator.state.store.bounds("T", 0) == (0, 1)


def test_a_successor_answers_what_was_stored_meanwhile() -> None:
    desk = Desk()
    opaque = desk.put(desk.open(), "SEND_MESSAGE_V2", header(i=properties(UNIQ_KEY="k")), b"x")
    desk.run(writing=False)
    desk.restart()
    desk.run()
    answer = desk.answer(opaque)
    assert (answer.code, answer.fields["transactionId"]) == (0, "k")
    assert page_of(desk.heritage).appended_origin[0] > 0


def test_after_a_death_nobody_is_told_half_a_group() -> None:
    desk = Desk()
    first, second = desk.open(1), desk.open(2)
    for connection, name in ((first, "a"), (second, "b")):
        beat(desk, connection, name)
    desk.pushes()
    desk.restart()
    assert desk.coordinator.state.recovering
    beat(desk, first, "a")
    answer = desk.ask(first, "GET_CONSUMER_LIST_BY_GROUP", {"consumerGroup": "G"})
    assert answer.code == 1, "clients keep what they have"
    beat(desk, second, "b")
    assert notified(desk) == []
    desk.pass_ms(1_000)
    assert notified(desk) == [first, second]
    assert ids(desk, first) == ["a", "b"]


def test_a_fresh_start_does_not_recover() -> None:
    assert not Desk().coordinator.state.recovering


def test_a_whole_restart_finds_everything_on_disk() -> None:
    desk = Desk()
    client = desk.open()
    beat(desk, client, "a")
    send(desk, d=3)
    fields = {"consumerGroup": "G", "topic": "T", "queueId": 0, "commitOffset": 1}
    desk.ask(client, "UPDATE_CONSUMER_OFFSET", fields)
    desk.coordinator.close()
    again = Desk(make_heritage(), desk.disk).coordinator.state
    topic = again.topics.get("T")
    assert topic is not None
    assert topic.write_queues == 3
    assert again.topics.version == desk.coordinator.state.topics.version
    assert again.offsets.get("T", "G", 0) == 1
    assert "G" in again.groups


# Room --------------------------------------------------------------------------------------------


@contextmanager
def deaf(desk: Desk) -> Iterator[None]:
    """The frontends do not listen meanwhile."""
    tell, desk._tell = desk._tell, []
    try:
        yield
    finally:
        desk._tell = tell


def test_a_frontend_that_does_not_listen_is_asked_no_more() -> None:
    desk = Desk()
    client, other = desk.open(1), desk.open(1, frontend=1)
    desk.run()
    opaques = []
    with deaf(desk):
        for _ in range(100):
            with full_at_times():
                opaques.append(desk.put(client, 9999))
            desk.run()
    assert 32 < len(opaques) < 100, "its rings fill up"
    desk.run()
    assert all(len(desk.answers(opaque)) == 1 for opaque in opaques)
    assert desk.ask(other, 9999).code == 3


@contextmanager
def full_at_times() -> Iterator[None]:
    """A full ring refuses the test's question."""
    try:
        yield
    except AssertionError:
        return


def test_a_writer_that_is_stuck_holds_questions_back_and_loses_none() -> None:
    desk = Desk()
    client = desk.open()
    opaques = []
    for _ in range(200):
        with full_at_times():
            opaques.append(desk.put(client, "SEND_MESSAGE_V2", header(), b"x"))
        desk.run(writing=False)
    assert 64 < len(opaques) < 200
    desk.run()
    assert all(len(desk.answers(opaque)) == 1 for opaque in opaques)
    assert desk.coordinator.state.store.bounds("T", 0)[1] == len(opaques)


def test_an_answer_that_is_too_long_says_so() -> None:
    desk = Desk()
    attributes = {"x": "y" * desk.heritage.limits.arena_size}
    desk.coordinator.state.topics.put(TopicConfig("T", 1, 1, attributes=attributes), now_ms=1)
    answer = desk.ask(desk.open(), "GET_ALL_TOPIC_CONFIG")
    assert (answer.code, answer.body) == (1, b"")
    assert "is over" in (answer.remark or "")


# Nonsense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\0\0", b"\0\xff\xff\xff", b"\7\0\0\0", b"\0\0\0\2{]", b"\1\0\0\3abc"]
)
def test_what_is_no_frame_ends_the_connection(data: bytes) -> None:
    desk = Desk()
    client = desk.open()
    desk.event(lib.AP_FRAME, client, data)
    desk.run()
    assert desk.kinds() == [lib.AP_CLOSE]


def test_unknown_codes() -> None:
    desk = Desk()
    client = desk.open()
    answer = desk.ask(client, 9999)
    assert (answer.code, answer.remark) == (3, " request type 9999 not supported")
    assert desk.ask(client, "REGISTER_BROKER").code == 3
    opaque = desk.put(client, 9999, flag=ONEWAY)
    desk.run()
    assert desk.answers(opaque) == []


def test_responses_are_nobodys() -> None:
    desk = Desk()
    client = desk.open()
    desk.event(lib.AP_FRAME, client, frames.encode(Frame(0, 7, frames.RESPONSE))[4:])
    desk.run()
    assert desk.told == []


def test_every_served_code_survives_an_empty_request() -> None:
    desk = Desk()
    client = desk.open()
    for code in sorted(desk.coordinator._handlers):
        opaque = desk.put(client, code)
        desk.run()
        assert desk.answers(opaque) or desk.kinds()[-1] == lib.AP_AGAIN, code


STRANGE = ["", "\0", "x" * 300, "-1", "99999999999999999999", "\ud800", "true", "%", "T", "G"]


def test_every_served_code_survives_strange_fields() -> None:
    desk = Desk()
    send(desk)
    client = desk.open()
    for code, text in itertools.product(sorted(desk.coordinator._handlers), STRANGE):
        fields = {field.wire: text for field in BY_CODE[code].asks}
        for data in (b"", b"{}", b'{"groupName":7,"mqSet":{},"consumerDataSet":{"a":1}}'):
            opaque = desk.put(client, code, fields, data)
            desk.run()
            assert desk.answers(opaque) or desk.kinds()[-1] == lib.AP_AGAIN, (code, text)


def test_a_client_nobody_announced() -> None:
    desk = Desk()
    assert desk.ask(77, "SEND_MESSAGE_V2", header(), b"x").code == 0


# Sleep -------------------------------------------------------------------------------------------


def test_it_sleeps_no_longer_than_it_may() -> None:
    desk = Desk()
    assert desk.coordinator.ready
    assert desk.coordinator.sleep_ms(desk.now) == 1000
    send(desk, i=properties(DELAY=1))
    desk.pass_ms(400)
    assert desk.coordinator.sleep_ms(desk.now) == 600
    desk.pass_ms(4_500)
    assert desk.coordinator.sleep_ms(desk.now) == 100


def test_it_is_not_ready_before_every_queue_is_known() -> None:
    desk = Desk()
    fresh = Coordinator(make_heritage(), desk.disk, desk.now)
    fresh.step(desk.now)
    assert not fresh.ready
    fresh.state.topics._queues.offsets["bound"][:] = 1
    fresh.step(desk.now)
    assert fresh.ready


def test_it_does_not_sleep_over_news() -> None:
    desk = Desk()
    assert not desk.coordinator.pending()
    desk.put(desk.open(), "SEND_MESSAGE_V2", header(), b"x")
    assert desk.coordinator.pending()
    desk.coordinator.step(desk.now)
    assert not desk.coordinator.pending()
    desk.writer.step(desk.now)
    assert desk.coordinator.pending()
    with deaf(desk):
        desk.run()
    assert not desk.coordinator.pending()
