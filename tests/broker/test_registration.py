"""Registration: the whole table first, changes at once, and no NameServer holds up another."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from appliance.broker.registration import PERIOD_NS, RETRY_NS, TIMEOUT_NS
from tests.broker.nameservers import Net, PaperNameServer, table_of
from tests.broker.paper import Desk, config, make_heritage
from tests.broker.test_send import send

ONE, TWO = "127.0.0.1:9876", "127.0.0.2:9876"
GOLDEN = Path(__file__).parent.parent / "golden" / "namesrv" / "broker_frames.json"


class Place:
    """A coordinator and its NameServers."""

    def __init__(self, *addresses: str, **broker: Any) -> None:
        self.net = Net(*addresses)
        shared = make_heritage(config(nameservers=addresses, **broker))
        self.desk = Desk(shared, connect=self.net.connect)

    @property
    def one(self) -> PaperNameServer:
        return self.net.servers[ONE]

    @property
    def two(self) -> PaperNameServer:
        return self.net.servers[TWO]

    def pass_ns(self, nanoseconds: int) -> None:
        self.desk.pass_ms(nanoseconds // 1_000_000)


def test_every_nameserver_hears_of_every_topic_at_once() -> None:
    place = Place(ONE, TWO)
    everything = sorted(topic.name for topic in place.desk.coordinator.state.topics)
    assert len(everything) >= 2
    assert place.one.registrations() == [everything]
    assert place.two.registrations() == [everything]


def test_a_registration_is_a_real_brokers() -> None:
    place = Place(ONE)
    (frame,) = (frame for frame in place.one.heard if frame.code == 103)
    captured = json.loads(GOLDEN.read_text())["plain_master_and_slave"]["frames"][0]["request"]
    wanted = captured["header"]
    assert frame.fields.keys() == wanted["extFields"].keys()
    assert frame.version == wanted["version"]
    assert frame.fields["brokerAddr"] == "127.0.0.1:10911"
    assert frame.fields["haServerAddr"] == "127.0.0.1:10912"
    for same in ("brokerId", "compressed", "enableActingMaster"):
        assert frame.fields[same] == wanted["extFields"][same]
    assert int(frame.fields["bodyCrc32"]) == zlib.crc32(frame.body) & 0x7FFFFFFF
    theirs = json.loads(captured["body_text"])["topicConfigSerializeWrapper"]
    assert table_of(frame).keys() == theirs.keys()
    ours, of_theirs = table_of(frame)["topicConfigTable"], theirs["topicConfigTable"]
    for name in ("SCHEDULE_TOPIC_XXXX", "BenchmarkTest", "SELF_TEST_TOPIC"):
        assert ours[name] == of_theirs[name]


def test_it_is_repeated() -> None:
    place = Place(ONE)
    place.one.registrations()
    place.pass_ns(PERIOD_NS - 10_000_000)
    assert place.one.registrations() == []
    place.pass_ns(10_000_000)
    assert len(place.one.registrations()) == 1


def test_a_new_topic_is_announced_alone() -> None:
    place = Place(ONE, TWO)
    place.one.registrations(), place.two.registrations()
    send(place.desk, "T")
    place.desk.run()
    assert place.one.registrations() == [["T"]]
    assert place.two.registrations() == [["T"]]


def test_the_whole_table_comes_first() -> None:
    """A NameServer refuses a new broker whose table has a single topic."""
    place = Place(ONE, TWO)
    place.two.up = False
    place.pass_ns(1_000_000_000)
    place.two.registrations()
    send(place.desk, "T")
    place.two.up = True
    place.pass_ns(5_000_000_000)
    told = place.two.registrations()
    assert len(told) == 1
    assert {"T", "TBW102"} < set(told[0])


def test_a_change_during_a_registration_follows_it() -> None:
    place = Place(ONE)
    place.one.registrations()
    place.one.silent = True
    place.pass_ns(PERIOD_NS)
    send(place.desk, "T")
    send(place.desk, "U")
    assert len(place.one.registrations()) == 1
    place.one.silent = False
    place.pass_ns(TIMEOUT_NS)
    place.pass_ns(RETRY_NS)
    (told,) = place.one.registrations()
    assert {"T", "U"} < set(told)


def test_a_dead_nameserver_holds_up_nobody() -> None:
    place = Place(ONE, TWO)
    place.one.up = False
    place.two.registrations()
    send(place.desk, "T")
    assert place.two.registrations() == [["T"]]
    place.pass_ns(PERIOD_NS)
    assert len(place.two.registrations()) == 1


def test_a_silent_nameserver_holds_up_nobody() -> None:
    place = Place(ONE, TWO)
    place.one.silent = True
    place.pass_ns(PERIOD_NS)
    place.two.registrations()
    send(place.desk, "T")
    assert place.two.registrations() == [["T"]]


def test_a_silent_nameserver_is_connected_to_anew() -> None:
    """Its host may have been replaced: the old connection would not tell for many minutes."""
    place = Place(ONE)
    place.one.silent = True
    place.pass_ns(PERIOD_NS)
    (link,) = place.desk.coordinator._registration.links
    connections = link.connections
    place.one.silent = False
    place.one.registrations()
    place.pass_ns(TIMEOUT_NS)
    assert link.connections == connections + 1
    assert len(place.one.registrations()) == 1


def test_who_comes_back_is_told_at_once() -> None:
    place = Place(ONE)
    place.one.up = False
    place.pass_ns(1_000_000_000)
    place.one.registrations()
    place.one.up = True
    for _ in range(5):
        place.pass_ns(1_000_000_000)
    assert len(place.one.registrations()) == 1


def test_a_refusal_is_tried_again() -> None:
    place = Place(ONE)
    place.one.registrations()
    place.one.code = 1
    place.pass_ns(PERIOD_NS)
    place.pass_ns(RETRY_NS)
    assert len(place.one.registrations()) == 2
    place.one.code = 0
    place.pass_ns(RETRY_NS)
    place.pass_ns(RETRY_NS)
    assert len(place.one.registrations()) == 1


def test_ordered_topics_are_taken_over() -> None:
    place = Place(ONE)
    send(place.desk, "T")
    place.one.body = b'{"table":{"T":"broker-a:4","nobody":"x"}}'
    place.pass_ns(PERIOD_NS)
    topic = place.desk.coordinator.state.topics.get("T")
    assert topic is not None
    assert topic.order
    assert place.one.registrations()[-1] == ["T"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"table":7}'])
def test_a_strange_answer_is_no_harm(body: bytes) -> None:
    place = Place(ONE)
    place.one.body = body
    place.pass_ns(PERIOD_NS)
    assert place.desk.coordinator.ready


def test_a_clean_end_is_told_to_all() -> None:
    place = Place(ONE, TWO)
    place.two.up = False
    place.pass_ns(1_000_000_000)
    assert place.desk.coordinator.stop(place.desk.now)
    (frame,) = (frame for frame in place.one.heard if frame.code == 104)
    assert frame.fields == {
        "brokerName": "broker-a",
        "brokerAddr": "127.0.0.1:10911",
        "clusterName": "DefaultCluster",
        "brokerId": "0",
    }


def test_a_silent_nameserver_does_not_hold_up_the_end() -> None:
    place = Place(ONE)
    place.one.silent = True
    assert not place.desk.coordinator.stop(place.desk.now)
    place.pass_ns(1_000_000_000)
    assert place.desk.coordinator.stop(place.desk.now)


def test_without_nameservers_there_is_nothing_to_do() -> None:
    desk = Desk()
    assert desk.coordinator.stop(desk.now)
