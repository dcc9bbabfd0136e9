"""Lists of topics, and topics by themselves: what the recordings do not show."""

import pytest

from appliance.namesrv.settings import Settings
from appliance.net import json_text, requests
from tests.namesrv.test_routes import register, route
from tests.namesrv.wire import Bench

LISTS = {
    "GET_TOPICS_BY_CLUSTER": {"cluster": "c"},
    "GET_UNIT_TOPIC_LIST": {},
    "GET_HAS_UNIT_SUB_TOPIC_LIST": {},
    "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST": {},
    "GET_ALL_TOPIC_LIST_FROM_NAMESERVER": {},
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_can_be_switched_off(name: str) -> None:
    settings = Settings(enable_topic_list=False, enable_all_topic_list=False)
    answer = Bench(settings).ask(requests.ask(name, LISTS[name]))
    assert (answer.code, answer.remark) == (1, "disable")


@pytest.mark.parametrize("name", [*LISTS, "GET_SYSTEM_TOPIC_LIST_FROM_NS"])
def test_lists_of_an_empty_nameserver(name: str) -> None:
    answer = Bench().ask(requests.ask(name, LISTS.get(name, {})))
    assert json_text.loads(answer.body) == {"topicList": []}


def test_a_topic_is_deleted_in_one_cluster() -> None:
    bench = Bench()
    register(bench)
    register(bench, clusterName="d", brokerName="e", brokerAddr="h:9")
    delete = requests.ask("DELETE_TOPIC_IN_NAMESRV", {"topic": "A", "clusterName": "d"})
    assert bench.ask(delete).code == 0
    assert bench.server.state.topics["A"].keys() == {"b"}
    delete.fields["clusterName"] = "unknown"
    bench.ask(delete)
    assert bench.server.state.topics["A"].keys() == {"b"}
    del delete.fields["clusterName"]
    bench.ask(delete)
    assert "A" not in bench.server.state.topics


def test_a_topic_is_registered_up_to_the_first_unknown_broker() -> None:
    bench = Bench()
    register(bench)
    body = b'{"queueDatas":[{"brokerName":"b","perm":4},{"brokerName":"x"},{"brokerName":"b"}]}'
    assert bench.ask(requests.ask("REGISTER_TOPIC_IN_NAMESRV", {"topic": "N"}, body)).code == 0
    assert "N" not in bench.server.state.topics, "a new topic is stored whole or not"
    bench.ask(requests.ask("REGISTER_TOPIC_IN_NAMESRV", {"topic": "A"}, body))
    assert bench.server.state.topics["A"]["b"].perm == 4, "an old one keeps what came before"
    assert route(bench).code == 0


def test_a_topic_needs_a_name() -> None:
    assert Bench().ask(requests.ask("REGISTER_TOPIC_IN_NAMESRV", {})).code == 1
