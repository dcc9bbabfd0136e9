"""The servers that scenes are played on, each with a fresh store, and what must be left of them.

Runs in: pytest.
Owns: the servers, one for each file of scenes.
Fails: AssertionError when one does not start, ends with another code than 0, or leaves anything.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.brokers import Apache, Appliance, process_row
from tests.scenes.client import Client, connected, create_topic

BROKERS = ["appliance", *(["apache"] if "INTEROP_PEER" in os.environ else [])]
"""INTEROP_PEER=1 plays the scenes on the real broker, too: it must meet every expectation."""


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An appliance; in the end it must have left nothing behind."""
    appliance = Appliance(tmp_path_factory.mktemp("appliance"))
    try:
        appliance.start()
        pids = [appliance.supervisor, *appliance.children().values()]
        yield appliance
        appliance.stop()
        assert_nothing_left(appliance.supervisor, pids)
    finally:
        appliance.close()


def assert_nothing_left(supervisor: int, pids: list[int]) -> None:
    """No process, and no shared memory of that supervisor's."""
    assert [pid for pid in pids if process_row(pid)] == []
    assert [path.name for path in Path("/dev/shm").glob(f"appliance-*-{supervisor}-*")] == []


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apache]:
    """The real one."""
    apache = Apache(tmp_path_factory.mktemp("apache"))
    try:
        apache.start()
        yield apache
        apache.stop()
    finally:
        apache.close()


@pytest.fixture(scope="module", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Appliance | Apache:
    """Ours, and the real one for comparison."""
    broker: Appliance | Apache = request.getfixturevalue(request.param)
    return broker


@pytest.fixture
def client(broker: Appliance | Apache) -> Iterator[Client]:
    with connected(broker.ports.broker) as client:
        yield client


@pytest.fixture
def other(broker: Appliance | Apache) -> Iterator[Client]:
    """A second client."""
    with connected(broker.ports.broker) as client:
        yield client


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other scene uses."""
    return re.sub("[^a-zA-Z0-9_-]", "-", request.node.name)[:100]


@pytest.fixture
def made(client: Client, topic: str) -> str:
    """A topic of four queues that is there."""
    create_topic(client, topic)
    return topic
