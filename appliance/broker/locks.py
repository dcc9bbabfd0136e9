"""Queue locks of orderly consumers: 41, 42.

Runs in: coordinator.
Owns: nothing; the locks are `kept.locks`.
Fails: never; an unreadable body is refused with a code.

Peer: AdminBrokerProcessor.lockBatchMQ, unlockBatchMQ (broker.md section 7).
"""

from typing import Any, NamedTuple

from appliance.net import json_text
from appliance.net.json_text import MessageQueue
from appliance.net.requests import Request, Response

from appliance.broker.bodies import read_body
from appliance.broker.state import State


class _Asked(NamedTuple):
    group: str
    client: str
    queues: list[MessageQueue]

    @staticmethod
    def from_json(body: dict[str, Any]) -> "_Asked":
        queues = [json_text.queue_of(queue) for queue in body.get("mqSet") or ()]
        return _Asked(str(body.get("consumerGroup")), str(body.get("clientId")), queues)


def lock_batch_mq(request: Request, state: State) -> Response:
    """Take or renew locks; the answer holds the queues that the client now has."""
    asked = read_body(request, _Asked.from_json)
    granted = state.locks.lock(*asked, now_ns=state.now.monotonic_ns)
    return Response(body=json_text.dumps({"lockOKMQSet": [queue._asdict() for queue in granted]}))


def unlock_batch_mq(request: Request, state: State) -> Response:
    """Give up locks; those of other clients are left alone."""
    state.locks.unlock(*read_body(request, _Asked.from_json))
    return Response()
