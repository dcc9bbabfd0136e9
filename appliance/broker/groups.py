"""Subscription groups by request: 200, 201, 207, 208, 352.

Runs in: coordinator.
Owns: nothing; the groups are `kept.groups`.
Fails: never; what is asked wrongly is refused with a code.

Peer: AdminBrokerProcessor (broker.md sections 1 and 16).
"""

from collections.abc import Iterator

from appliance.net import json_text
from appliance.net.json_text import MessageQueue
from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import (
    INVALID_PARAMETER,
    SUBSCRIPTION_GROUP_NOT_EXIST,
)

from appliance.broker import names
from appliance.broker.attributes import GROUP_ATTRIBUTES, altered
from appliance.broker.bodies import read_body
from appliance.broker.kept.groups import GroupConfig
from appliance.broker.state import State


def update_and_create_subscriptiongroup(request: Request, state: State) -> Response:
    """Create or change a group."""
    config = read_body(request, GroupConfig.from_json)
    fault = names.group_fault(config.name)
    if fault is not None:
        raise RefusedError(INVALID_PARAMETER, fault)
    present = state.groups.get(config.name)
    known = None if present is None else present.attributes
    attributes = altered(GROUP_ATTRIBUTES, config.attributes, known)
    state.groups.put(config.with_attributes(attributes), now_ms=request.now_ms)
    online = state.clients.consumers(config.name)
    if online is not None:
        state.subscriptions.show(online)  # it may read more now, or less
    return Response()


def delete_subscriptiongroup(request: Request, state: State) -> Response:
    """Forget a group, and what it has read if that is asked."""
    group = request.args.groupName
    if request.args.cleanOffset:
        state.offsets.remove_group(group, now_ms=request.now_ms)
    if group in state.groups:
        state.groups.remove(group, now_ms=request.now_ms)
    return Response()


def get_all_subscriptiongroup_config(request: Request, state: State) -> Response:
    """Every group in one body; without totalGroupNum clients take it as complete."""
    return Response(body=json_text.dumps(state.groups.to_json()))


def get_subscriptiongroup_config(request: Request, state: State) -> Response:
    """One group; asking creates it, as in Apache's broker."""
    config = state.groups.find(request.args.group, now_ms=request.now_ms)
    if config is None:
        raise RefusedError(SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker")
    return Response(body=json_text.dumps(config.to_json()))


def get_consume_stats(request: Request, state: State) -> Response:
    """How far a group is in each queue that it reads, online or not."""
    asked = request.args
    topics = [topic for topic in (asked.topicList or asked.topic or "").split(";") if topic]
    table: dict[MessageQueue, dict[str, int]] = {}
    for topic in topics or sorted(state.offsets.topics_of(asked.consumerGroup)):
        table.update(_topic_stats(state, asked.consumerGroup, topic))
    return Response(body=json_text.dumps({"consumeTps": 0.0, "offsetTable": table}))


def _topic_stats(
    state: State, group: str, topic: str
) -> Iterator[tuple[MessageQueue, dict[str, int]]]:
    """Nothing for a topic that the group, being online, does not subscribe to."""
    config = state.topics.get(topic)
    online = state.clients.consumers(group)
    unread = online is not None and online.subscriptions and topic not in online.subscriptions
    if config is None or unread:
        return
    for queue in range(config.read_queues):
        yield (
            MessageQueue(topic, state.config.broker.name, queue),
            _queue_stats(state, group, topic, queue),
        )


def _queue_stats(state: State, group: str, topic: str, queue: int) -> dict[str, int]:
    """lastTimestamp is when the last message that was read had been stored."""
    consumed = max(state.offsets.get(topic, group, queue), 0)
    read_at = state.store.store_time(topic, queue, consumed - 1) if consumed else 0
    return {
        "brokerOffset": state.store.bounds(topic, queue)[1],
        "consumerOffset": consumed,
        "lastTimestamp": max(read_at, 0),
        "pullOffset": consumed,
    }
