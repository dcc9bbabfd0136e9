"""How far groups have read: 14, 15.

Runs in: coordinator.
Owns: nothing; the offsets are `kept.offsets`.
Fails: never; what is asked wrongly is refused with a code.

Peer: ConsumerManageProcessor (broker.md section 6).
"""

from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import (
    QUERY_NOT_FOUND,
    SUBSCRIPTION_GROUP_NOT_EXIST,
    TOPIC_NOT_EXIST,
)

from appliance.broker.state import State


def query_consumer_offset(request: Request, state: State) -> Response:
    """How far a group has read a queue.

    Without a stored offset a young queue, of which the first message is still in memory, is read
    from its begin; of any other the client decides (consumeFromWhere).
    """
    asked = request.args
    offset = state.offsets.get(asked.topic, asked.consumerGroup, asked.queueId)
    if offset >= 0:
        return Response(fields={"offset": offset})
    if asked.setZeroIfNotFound is False:
        remark = "Not found, do not set to zero, maybe this group boot first"
        raise RefusedError(QUERY_NOT_FOUND, remark)
    if state.store.begin_in_memory(asked.topic, asked.queueId):
        return Response(fields={"offset": 0})
    remark = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"
    raise RefusedError(QUERY_NOT_FOUND, remark)


def update_consumer_offset(request: Request, state: State) -> Response:
    """A group has read so far. The queue is not checked, as in Apache's broker."""
    asked = request.args
    if asked.consumerGroup not in state.groups:
        raise RefusedError(SUBSCRIPTION_GROUP_NOT_EXIST, f"Group {asked.consumerGroup} not exist!")
    if asked.topic not in state.topics:
        raise RefusedError(TOPIC_NOT_EXIST, f"Topic {asked.topic} not exist!")
    state.offsets.commit(asked.topic, asked.consumerGroup, asked.queueId, asked.commitOffset)
    return Response()
