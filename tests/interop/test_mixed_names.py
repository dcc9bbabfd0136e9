"""Brokers and NameServers of both kinds together: each must take the other's for its own kind."""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.interop.admin import check, mqadmin
from tests.interop.brokers import HOST, Apache, Appliance, await_until, free_ports
from tests.interop.java_client import PREPARE_SECONDS, Player, java_command
from tests.interop.names import Names, seconds_until
from tests.interop.program import Program
from tests.scenes.client import connected, create_topic, send

WITH_APACHE = os.environ.get("CI") == "true" or "INTEROP_PEER" in os.environ

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(PREPARE_SECONDS),
    pytest.mark.skipif(
        not WITH_APACHE,
        reason="needs the real Apache servers and tools: INTEROP_PEER=1 starts them",
    ),
]

SCENARIOS = ("send_sync", "push_clustering", "topic_auto_created")
QUEUES = 3
FLOW = 200
"""Messages that must pass to show that they do."""
FLOW_SECONDS = 30.0

# How soon a NameServer must know. A connection that cannot be opened is given up after 3 s, by
# Apache's brokers and by ours: whatever takes less has not waited for a dead NameServer.
AT_ONCE_SECONDS = 1.0
SOON_SECONDS = 3.0
APACHE_BROKER_SECONDS = 20.0
"""A real broker may miss its NameServer at first, and register 10 s later (nameserver.md 9)."""


@pytest.fixture(scope="module")
def apache_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apache]:
    """The real NameServer; a broker comes beside it only when it is wanted."""
    with closing(Apache(tmp_path_factory.mktemp("apache"))) as apache:
        apache.start_nameserver()
        yield apache


def folder(parent: Path, name: str) -> Path:
    """A folder for one more server."""
    made = parent / name
    made.mkdir()
    return made


def play(nameserver: str, home: Path) -> None:
    """A few scenarios of the official client."""
    with closing(Player(nameserver, "m", home, "JSON")) as player:
        for scenario in SCENARIOS:
            player.play(scenario)


# The real broker at our NameServer -------------------------------------------------------------


def test_apache_broker_at_our_nameserver(tmp_path: Path) -> None:
    # Without topics of their own making ours takes no part: all of the client's go to theirs.
    settings = {"cluster": "Ours", "name": "ours", "auto_create_topics": False}
    ours = Appliance(folder(tmp_path, "ours"), broker=settings)
    their_settings = {"brokerClusterName": "Theirs", "brokerName": "theirs"}
    theirs = Apache(folder(tmp_path, "theirs"), their_settings)
    names = Names(ours.nameserver)
    with closing(ours), closing(theirs), ThreadPoolExecutor() as pool:
        ours.start()
        theirs.start_broker(ours.nameserver)
        both = {"ours": ours.address, "theirs": theirs.address}
        seconds_until("both brokers known", lambda: names.brokers() == both, APACHE_BROKER_SECONDS)

        listed = pool.submit(mqadmin, ours.nameserver, "clusterList")
        play(ours.nameserver, tmp_path)
        for cluster, broker in (("Ours", ours), ("Theirs", theirs)):
            row = rf"{cluster} +{cluster.lower()} +0 +{re.escape(broker.address)} +V5_3_3 "
            assert re.search(row, listed.result()), listed.result()

        with connected(theirs.ports.broker) as client:
            send(client, "last")
        await_until("its topic is known", lambda: names.route("last") is not None)
        theirs.begin_stop()
        seconds_until("route gone", lambda: names.route("last") is None, SOON_SECONDS)
        assert names.brokers() == {"ours": ours.address}
        ours.stop()


# Our broker at the real NameServer -------------------------------------------------------------


def test_our_broker_at_apache_nameserver(apache_names: Apache, tmp_path: Path) -> None:
    names = Names(apache_names.nameserver)
    with closing(Appliance(tmp_path, nameservers=[apache_names.nameserver])) as ours:
        ours.start()
        await_route(names, "TBW102", "after the start", SOON_SECONDS)
        play(apache_names.nameserver, tmp_path)

        with connected(ours.ports.broker) as client:
            send(client, "fresh")
        await_route(names, "fresh", "of a topic that a send made", AT_ONCE_SECONDS)
        (queues,) = names.route("fresh")["queueDatas"]
        assert queues["brokerName"] == "broker-a"
        assert (queues["readQueueNums"], queues["writeQueueNums"], queues["perm"]) == (4, 4, 6)

        ours.stop()
        assert names.route("fresh") is None
        ours.start()
        await_route(names, "fresh", "after another start", SOON_SECONDS)
        ours.close()
        seconds_until("route gone once killed", lambda: names.route("fresh") is None, SOON_SECONDS)


def await_route(names: Names, topic: str, when: str, seconds: float) -> None:
    """Wait until a topic has a route."""
    seconds_until(f"route {when}", lambda: names.route(topic) is not None, seconds)


# Several NameServers ---------------------------------------------------------------------------


@contextmanager
def mute_server() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"{HOST}:{listener.getsockname()[1]}"


def nobody() -> str:
    """An address where nobody listens."""
    return f"{HOST}:{free_ports().nameserver}"


def test_many_nameservers(apache_names: Apache, tmp_path: Path) -> None:
    keeper_settings = {"name": "keeper", "auto_create_topics": False}
    keeper = Appliance(folder(tmp_path, "keeper"), broker=keeper_settings)
    living = [keeper.nameserver, apache_names.nameserver]
    with mute_server() as mute, closing(keeper):
        keeper.start()
        broker = Appliance(folder(tmp_path, "broker"), nameservers=[nobody(), mute, *living])
        with closing(broker):
            check_start(broker, living)
            with closing(traffic(";".join(living), tmp_path)) as load:
                check_nameserver_killed(keeper)
                check_nameservers_away(keeper, apache_names, load)
            broker.stop()
        keeper.stop()


def check_start(broker: Appliance, living: list[str]) -> None:
    """Those that live know the broker soon, whoever else does not, and they know the same."""
    began = time.monotonic()
    broker.start()
    took = time.monotonic() - began
    print(f"{took:6.3f} s  start")
    assert took < SOON_SECONDS
    for address in living:
        await_route(Names(address), "TBW102", f"at {address}", SOON_SECONDS)
    with connected(broker.ports.broker) as client:
        create_topic(client, "traffic", QUEUES)
    for address in living:
        await_route(Names(address), "traffic", f"of a new topic at {address}", AT_ONCE_SECONDS)
    one, other = (Names(address).route("traffic") for address in living)
    assert one == other


def check_nameserver_killed(keeper: Appliance) -> None:
    """Its successor hears of the broker by itself."""
    names, pid = Names(keeper.nameserver), keeper.children()["nameserver"]
    os.kill(pid, signal.SIGKILL)
    await_until("another one", lambda: keeper.children().get("nameserver", pid) != pid)
    await_route(names, "traffic", "after a kill of the NameServer", SOON_SECONDS)


def check_nameservers_away(keeper: Appliance, apache: Apache, load: Program) -> None:
    """Clients that know their routes notice nothing, and the routes are back soon after."""
    flow(load)
    keeper.stop()
    apache.stop()
    flow(load)
    keeper.start()
    await_route(Names(keeper.nameserver), "traffic", "at our NameServer, back", SOON_SECONDS)
    apache.start_nameserver()
    await_route(Names(apache.nameserver), "traffic", "at the real NameServer, back", SOON_SECONDS)
    flow(load)


def traffic(nameservers: str, home: Path) -> Program:
    """The official client, sending and consuming (interop.Traffic)."""
    words = ["--namesrv", nameservers, "--topic", "traffic"]
    return Program(java_command("Traffic", home, *words), home / "Traffic.log")


def flow(load: Program) -> None:
    """Wait until many more messages have passed, from the producer to the consumer; none failed."""

    def counts() -> list[int]:
        _, sent, _, failed, _, consumed = load.line(FLOW_SECONDS).split()
        assert failed == "0", load.tail()
        return [int(sent), int(consumed)]

    load.lines_so_far()
    wanted = [count + FLOW for count in counts()]
    await_until(
        f"{FLOW} messages more",
        lambda: all(count >= least for count, least in zip(counts(), wanted, strict=True)),
        FLOW_SECONDS,
    )


# The official admin tool -----------------------------------------------------------------------


@pytest.fixture(params=["appliance", "apache"])
def broker(
    request: pytest.FixtureRequest, apache_names: Apache, tmp_path: Path
) -> Iterator[Appliance | Apache]:
    """A broker with a NameServer of its own kind."""
    if request.param == "apache":
        apache_names.start_broker(apache_names.nameserver)
        yield apache_names
        return
    with closing(Appliance(tmp_path)) as appliance:
        appliance.start()
        yield appliance
        appliance.stop()


def test_admin_tool(broker: Appliance | Apache, tmp_path: Path) -> None:
    names = Names(broker.nameserver)
    await_route(names, "TBW102", "after the start", APACHE_BROKER_SECONDS)
    check(broker.nameserver, changes(broker))
    asked = {"namespace": "space", "key": "key"}
    assert names.ask("GET_KV_CONFIG", asked).fields["value"] == "value"
    with closing(traffic(broker.nameserver, tmp_path)) as load:
        flow(load)
        check(broker.nameserver, questions(broker))


def changes(broker: Appliance | Apache) -> dict[str, list[str]]:
    """Commands that change something, and what they must say."""
    return {
        f"updateTopic -c DefaultCluster -t traffic -r {QUEUES} -w {QUEUES}": [
            rf"create topic to {re.escape(broker.address)} success",
            rf"topicName=traffic, readQueueNums={QUEUES}, writeQueueNums={QUEUES}, perm=RW-",
        ],
        "updateKvConfig -s space -k key -v value": [
            "create or update kv config to namespace success"
        ],
    }


def questions(broker: Appliance | Apache) -> dict[str, list[str]]:
    """Commands that only ask, and what they must say while there is traffic."""
    address = re.escape(broker.address)
    client = rf"@\S+ +{HOST}:\d+ +JAVA +V5_3_3"
    return {
        "topicList": ["(?m)^traffic$", "(?m)^TBW102$", "(?m)^%RETRY%traffic_consumer$"],
        "topicRoute -t traffic": [
            rf'"brokerAddrs":\{{0:"{address}"',
            '"brokerName":"broker-a"',
            f'"perm":6,\\s+"readQueueNums":{QUEUES}',
        ],
        "topicStatus -t traffic": [
            rf"broker-a +{queue} +0 +[1-9]\d* +\d{{4}}-" for queue in range(QUEUES)
        ],
        "clusterList": [rf"DefaultCluster +broker-a +0 +{address} +V5_3_3 "],
        "consumerProgress -g traffic_consumer": [
            *(rf"traffic +broker-a +{queue} +[1-9]\d* +\d+" for queue in range(QUEUES)),
            r"Consume TPS: +\d",
        ],
        "consumerConnection -g traffic_consumer": [
            client,
            r"(?m)^traffic +\*",
            "ConsumeType: CONSUME_PASSIVELY",
            "MessageModel: CLUSTERING",
        ],
        "producerConnection -g traffic_producer -t traffic": [client],
        "getNamesrvConfig": [rf"listenPort += +{broker.ports.nameserver}\b"],
    }
