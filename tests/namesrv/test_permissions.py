"""Write permissions taken and given: how long they last."""

from appliance.net import json_text, requests
from appliance.net.frame import Frame
from tests.namesrv.test_routes import register, route
from tests.namesrv.wire import Bench, registration


def perm(bench: Bench) -> int:
    return int(json_text.loads(route(bench).body)["queueDatas"][0]["perm"])


def wipe(bench: Bench, name: str = "b") -> Frame:
    return bench.ask(requests.ask("WIPE_WRITE_PERM_OF_BROKER", {"brokerName": name}))


def test_a_wiped_permission_lasts_until_the_version_changes() -> None:
    bench = Bench()
    register(bench)
    assert wipe(bench).fields == {"wipeTopicCount": "2"}
    assert perm(bench) == 4
    register(bench)
    assert perm(bench) == 4
    register(bench, registration({"A": {}, "B": {}}, counter=2))
    assert perm(bench) == 6


def test_adding_makes_read_only_topics_writable() -> None:
    bench = Bench()
    register(bench, registration({"A": {"perm": 4}, "TBW102": {"perm": 7}}))
    answer = bench.ask(requests.ask("ADD_WRITE_PERM_OF_BROKER", {"brokerName": "b"}))
    assert answer.fields == {"addTopicCount": "2"}
    assert {q.perm for _, q in bench.server.state.queues_of("b")} == {6}


def test_an_unknown_broker_has_no_topics() -> None:
    assert wipe(Bench(), "x").fields == {"wipeTopicCount": "0"}
