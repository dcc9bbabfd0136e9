"""Requests of brokers and clients: what the recordings do not show."""

import zlib

import pytest

from appliance.namesrv.settings import Settings
from appliance.net import json_text, requests
from appliance.net.frame import Frame
from tests.namesrv.wire import Bench, registration

IDENTITY = {"clusterName": "c", "brokerName": "b", "brokerAddr": "h:1", "brokerId": 0}
BODY = registration({"A": {}, "B": {}})


def register(bench: Bench, body: bytes = BODY, **header: object) -> Frame:
    fields = {**IDENTITY, "haServerAddr": "h:2", "enableActingMaster": False, **header}
    return bench.ask(requests.ask("REGISTER_BROKER", fields, body))


def route(bench: Bench, topic: str | None = "A", version: int = 479, **header: str) -> Frame:
    frame = requests.ask("GET_ROUTEINFO_BY_TOPIC", {"topic": topic, **header})
    frame.version = version
    return bench.ask(frame)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_checksum_is_taken_over_the_bytes_as_sent(bench: Bench) -> None:
    body = zlib.compress(BODY)
    crc = zlib.crc32(BODY) & 0x7FFFFFFF
    assert register(bench, bodyCrc32=crc + 1).remark == "crc32 not match"
    assert register(bench, bodyCrc32=crc).code == 0
    assert register(bench, body, bodyCrc32=crc).remark == "crc32 not match"


@pytest.mark.parametrize("name", ["clusterName", "brokerName", "brokerAddr"])
def test_a_broker_without_identity_is_refused(bench: Bench, name: str) -> None:
    assert register(bench, BODY, **{name: None}).code == 1
    assert bench.server.state.groups == {}


def test_an_unreadable_body_is_refused(bench: Bench) -> None:
    answer = register(bench, b"{")
    assert answer.code == 1
    assert answer.remark is not None
    assert answer.remark.startswith("the body of REGISTER_BROKER is not readable")


def test_a_route_without_topic_is_unknown(bench: Bench) -> None:
    answer = route(bench, None)
    assert answer.code == 17
    assert answer.remark is not None
    assert answer.remark.startswith("No topic route info in name server for the topic: null\n")


@pytest.mark.parametrize(
    ("version", "accept", "quoted"),
    [(400, None, False), (401, None, True), (0, "true", True), (0, "false", False)],
)
def test_keys_are_quoted_for_strict_readers(
    bench: Bench, version: int, accept: str | None, quoted: bool
) -> None:
    register(bench)
    header = {} if accept is None else {"acceptStandardJsonOnly": accept}
    body = route(bench, version=version, **header).body
    assert (b'{"0":"h:1"}' if quoted else b'{0:"h:1"}') in body


def test_an_address_is_json_too(bench: Bench) -> None:
    """Apache escapes the slash for strict readers."""
    register(bench, brokerName="a/b")
    assert b'"brokerName":"a\\/b"' in route(bench).body
    assert b'"brokerName":"a/b"' in route(bench, version=300).body


def test_a_route_waits_if_so_configured() -> None:
    bench = Bench(Settings(need_wait_for_service=True, wait_seconds_for_service=2))
    register(bench)
    assert route(bench).remark == "name server not ready"
    bench.pass_time(2000)
    assert route(bench).code == 0


def test_order_topics_are_shown_where_enabled() -> None:
    bench = Bench(Settings(order_message_enable=True))
    register(bench)
    assert "orderTopicConf" not in json_text.loads(route(bench).body)
    bench.server.state.kv = {"ORDER_TOPIC_CONFIG": {"A": "b:4"}}
    assert json_text.loads(route(bench).body)["orderTopicConf"] == "b:4"
    assert json_text.loads(register(bench).body) == {"table": {"A": "b:4"}}
    bench.server.state.settings.return_order_topic_config_to_broker = False
    assert register(bench).body == b""


def test_a_group_without_master_is_near_to_all_zones(bench: Bench) -> None:
    frame = requests.ask("REGISTER_BROKER", {**IDENTITY, "brokerId": 1}, BODY)
    frame.fields.update({"__ZONE_NAME": "za", "enableActingMaster": "false"})
    bench.ask(frame)
    zone = {"__ZONE_MODE": "true", "__ZONE_NAME": "other"}
    assert len(json_text.loads(route(bench, "A", 479, **zone).body)["brokerDatas"]) == 1
    frame.fields["brokerId"] = "0"
    bench.ask(frame)
    assert json_text.loads(route(bench, "A", 479, **zone).body)["brokerDatas"] == []
    for off in ({"__ZONE_NAME": "other"}, {**zone, "__ZONE_NAME": " "}):
        assert len(json_text.loads(route(bench, "A", 479, **off).body)["brokerDatas"]) == 1


def test_sign_of_life_needs_no_answer(bench: Bench) -> None:
    """A broker in acting mode says 322 one-way every second (section 14.8)."""
    register(bench, heartbeatTimeoutMillis=3000)
    for _ in range(10):
        bench.pass_time(1000)
        bench.tell(requests.ask("QUERY_DATA_VERSION", IDENTITY))
    assert "b" in bench.server.state.groups
    for _ in range(10):
        bench.pass_time(1000)
        bench.tell(requests.ask("BROKER_HEARTBEAT", IDENTITY))
    assert "b" in bench.server.state.groups
    bench.pass_time(8_001)
    assert "b" not in bench.server.state.groups


def test_the_member_topic_shows_the_true_group() -> None:
    """Brokers read their group from this route; nobody acts for a master in it."""
    topic = "rmq_sys_SYNC_BROKER_MEMBER_b"
    bench = Bench(Settings(support_acting_master=True))
    register(bench, registration({topic: {}, "A": {}}), brokerId=2, enableActingMaster=True)
    shown = [json_text.loads(route(bench, t).body)["brokerDatas"][0] for t in (topic, "A")]
    assert [data["brokerAddrs"] for data in shown] == [{"2": "h:1"}, {"0": "h:1"}]


def test_members_of_an_unknown_group(bench: Bench) -> None:
    answer = bench.ask(
        requests.ask("GET_BROKER_MEMBER_GROUP", {"clusterName": "c", "brokerName": "x"})
    )
    assert json_text.loads(answer.body) == {
        "brokerMemberGroup": {"brokerAddrs": {}, "brokerName": "x", "cluster": "c"}
    }
