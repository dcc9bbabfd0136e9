"""The unmodified official Java client, used in every way, on the appliance and on Apache."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.brokers import Apache, Appliance, await_until
from tests.interop.java_client import PREPARE_SECONDS, SCENARIO_SECONDS, Player, scenario_names
from tests.interop.names import Names

pytestmark = [pytest.mark.interop, pytest.mark.timeout(PREPARE_SECONDS + SCENARIO_SECONDS)]

WITH_APACHE = os.environ.get("CI") == "true" or "INTEROP_PEER" in os.environ

on_apache = pytest.mark.skipif(
    not WITH_APACHE, reason="the real Apache broker is for comparison: INTEROP_PEER=1 starts it"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((Appliance, "JSON"), id="appliance-json"),
        pytest.param((Appliance, "ROCKETMQ"), id="appliance-binary"),
        pytest.param((Apache, "JSON"), id="apache-json", marks=on_apache),
    ],
)
def player(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Player]:
    """A client of a fresh broker; the broker must end in order as well."""
    kind, serialization = request.param
    folder: Path = tmp_path_factory.mktemp("interop")
    broker: Appliance | Apache = kind(folder)
    try:
        broker.start()
        # A real broker may register only ten seconds after it has started.
        names = Names(broker.nameserver)
        await_until("first registration", lambda: names.route("TBW102") is not None, 40)
        player = Player(broker.nameserver, "t", folder, serialization)
        try:
            yield player
        finally:
            player.close()
        broker.stop()
    finally:
        broker.close()


@pytest.mark.parametrize("scenario", scenario_names())
def test_scenario(player: Player, scenario: str) -> None:
    player.play(scenario)
