"""What a NameServer tells, asked on a fresh connection each time: it may be another by now.

Runs in: pytest.
Owns: nothing.
Fails: AssertionError on an answer that is neither what was asked for nor "there is none".
"""

import time
from collections.abc import Callable
from typing import Any

from appliance.net import json_text
from appliance.net.frame import Frame
from appliance.net.responses import SUCCESS, TOPIC_NOT_EXIST
from tests.interop.brokers import await_until
from tests.scenes.client import connected


class Names:
    """A NameServer at `host:port`, on this host."""

    def __init__(self, address: str) -> None:
        self._port = int(address.rpartition(":")[2])

    def ask(self, *request: Any) -> Frame:
        """The answer to a request that must succeed."""
        with connected(self._port) as client:
            answer = client.ask(*request)
        assert answer.code == SUCCESS, answer
        return answer

    def route(self, topic: str) -> Any:
        """A topic's route with its lists in order; None while there is none, or no NameServer."""
        try:
            with connected(self._port) as client:
                answer = client.ask("GET_ROUTEINFO_BY_TOPIC", {"topic": topic})
        except (OSError, AssertionError):  # The latter: it went before it had answered.
            return None
        if answer.code == TOPIC_NOT_EXIST:
            return None
        assert answer.code == SUCCESS, answer
        route = json_text.loads(answer.body)
        for rows in (route["brokerDatas"], route["queueDatas"]):
            rows.sort(key=lambda row: row["brokerName"])
        return route

    def brokers(self) -> dict[str, str]:
        """The masters: name and address."""
        table = json_text.loads(self.ask("GET_BROKER_CLUSTER_INFO").body)["brokerAddrTable"]
        return {name: row["brokerAddrs"][0] for name, row in table.items()}


def seconds_until(what: str, reached: Callable[[], bool], seconds: float) -> float:
    """Wait for something that may take so long; how long it took, which is printed as well."""
    began = time.monotonic()
    await_until(what, reached, seconds)
    took = time.monotonic() - began
    print(f"{took:6.3f} s  {what}")
    return took
