"""Names: what a NameServer says of a broker's topics, and a broker among several NameServers.

The first part is played on the real servers as well (INTEROP_PEER=1).
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.net import json_text
from tests.interop.brokers import HOST, Apache, Appliance, await_until
from tests.scenes.client import Client, connected, create_topic, send

QUOTED_FROM = 401
"""V4_9_4: clients from here on read strict JSON (remoting.md section 3)."""


@pytest.fixture
def names(broker: Appliance | Apache) -> Iterator[Client]:
    """A client of the NameServer."""
    with connected(broker.ports.nameserver) as client:
        yield client


def route(names: Client, topic: str, *, version: int = QUOTED_FROM, **fields: object) -> Any:
    """A topic's route as text; "" while there is none."""
    answer = names.ask("GET_ROUTEINFO_BY_TOPIC", {"topic": topic, **fields}, version=version)
    assert answer.code in (0, 17)
    return answer.body.decode()


def await_route(names: Client, topic: str, **fields: Any) -> Any:
    """The route, once it has come round."""
    await_until(f"the route of {topic}", lambda: route(names, topic) != "", 5)
    return route(names, topic, **fields)


def test_the_route_of_a_topic(broker: Appliance | Apache, names: Client, made: str) -> None:
    found = json.loads(await_route(names, made))
    assert [(one["brokerName"], one["cluster"]) for one in found["brokerDatas"]] == [
        ("broker-a", "DefaultCluster")
    ]
    assert found["brokerDatas"][0]["brokerAddrs"] == {"0": f"{HOST}:{broker.ports.broker}"}
    queues = {"readQueueNums": 4, "writeQueueNums": 4, "perm": 6, "topicSysFlag": 0}
    assert found["queueDatas"] == [{"brokerName": "broker-a", **queues}]


@pytest.mark.parametrize(
    ("version", "fields", "key"),
    [
        pytest.param(QUOTED_FROM, {}, '"0"', id="a new client"),
        pytest.param(QUOTED_FROM - 1, {}, "0", id="an old client"),
        pytest.param(0, {"acceptStandardJsonOnly": True}, '"0"', id="one that asks for it"),
    ],
)
def test_both_styles_of_keys(
    names: Client, made: str, version: int, fields: dict[str, object], key: str
) -> None:
    text = await_route(names, made, version=version, **fields)
    assert f'"brokerAddrs":{{{key}:' in text


def test_a_topic_that_is_created_by_itself_is_found_at_once(
    client: Client, names: Client, topic: str
) -> None:
    assert route(names, topic) == ""
    send(client, topic, d=2)
    found = json.loads(await_route(names, topic))
    assert found["queueDatas"][0]["writeQueueNums"] == 2


def test_a_topic_that_is_changed(client: Client, names: Client, made: str) -> None:
    await_route(names, made)
    create_topic(client, made, queues=6, perm=4)
    await_until("the change", lambda: '"perm":4' in route(names, made), 5)
    assert json.loads(route(names, made))["queueDatas"][0]["readQueueNums"] == 6


def test_a_topic_that_nobody_has(names: Client) -> None:
    answer = names.ask("GET_ROUTEINFO_BY_TOPIC", {"topic": "NoSuchTopic"})
    assert answer.code == 17
    assert (answer.remark or "").startswith(
        "No topic route info in name server for the topic: NoSuchTopic"
    )


def test_the_cluster(broker: Appliance | Apache, names: Client) -> None:
    found = json_text.loads(names.ask("GET_BROKER_CLUSTER_INFO").body)
    assert found["clusterAddrTable"] == {"DefaultCluster": ["broker-a"]}
    assert found["brokerAddrTable"]["broker-a"]["brokerAddrs"] == {
        0: f"{HOST}:{broker.ports.broker}"
    }


# Several NameServers -----------------------------------------------------------------------------


@contextmanager
def running(appliance: Appliance) -> Iterator[Appliance]:
    try:
        appliance.start()
        yield appliance
    finally:
        appliance.close()


def test_of_several_nameservers_some_are_of_no_use(tmp_path: Path) -> None:
    """One is dead, one listens and never answers: the third is told all the same, at start, when
    a topic comes, when it was away, and in the end."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Appliance(tmp_path / "first", broker={"name": "broker-n"})
    with running(first), socket.create_server((HOST, 0)) as mute:
        dead, silent = "127.0.0.1:1", f"{HOST}:{mute.getsockname()[1]}"
        others = [dead, first.nameserver, silent]
        with running(Appliance(tmp_path / "second", nameservers=others)) as second:
            with connected(second.ports.broker) as client:
                create_topic(client, "Shared")
            await_brokers(first, {"broker-a", "broker-n"})
            with connected(first.ports.nameserver) as names:
                await_route(names, "Shared")
            first.stop()
            first.start()
            await_brokers(first, {"broker-a", "broker-n"})
            with connected(first.ports.nameserver) as names:
                await_route(names, "Shared")
            second.stop()
            await_brokers(first, {"broker-n"})
        first.stop()


def await_brokers(appliance: Appliance, wanted: set[str]) -> None:
    """Wait until the NameServer knows exactly these."""
    with connected(appliance.ports.nameserver) as names:

        def known() -> set[str]:
            answer = names.ask("GET_BROKER_CLUSTER_INFO")
            return set(json_text.loads(answer.body)["brokerAddrTable"])

        await_until(f"{wanted} to be known", lambda: known() == wanted, 5)
