"""Messages that a consumer could not consume: 36.

Runs in: coordinator.
Owns: nothing.
Fails: never; what is asked wrongly is refused with a code.

Peer: AbstractSendMessageProcessor.consumerSendMsgBack (broker.md section 4).
"""

from dataclasses import replace

from appliance.commitlog.record import Record, decode_properties, parse
from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import SUBSCRIPTION_GROUP_NOT_EXIST, SYSTEM_ERROR

from appliance.broker import names
from appliance.broker.effects import Append
from appliance.broker.kept.groups import GroupConfig
from appliance.broker.kept.topics import SYSTEM_FLAG_UNIT_SUBSCRIBED, TopicConfig
from appliance.broker.message import append
from appliance.broker.state import State

_HONOURS_MAX_VERSION = 121
_FIRST_LEVEL = 3
"""The delay level of a first retry: 10 s."""


def consumer_send_msg_back(request: Request, state: State) -> Append | Response:
    """Deliver a message to its group again, later; or, too often tried, to the dead letters."""
    asked = request.args
    group = state.groups.find(asked.group, now_ms=request.now_ms)
    if group is None:
        remark = f"subscription group not exist, {asked.group} {names.FAQ}"
        raise RefusedError(SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    if group.retry_queues <= 0:
        return Response()
    topic = _retry_topic(request, state, group)
    record = _record(asked.offset, state)
    properties = decode_properties(record.properties)
    properties.setdefault("RETRY_TOPIC", record.topic)
    properties.setdefault("ORIGIN_MESSAGE_ID", record.message_id)
    properties["WAIT"] = "false"
    again = replace(record, reconsume_times=record.reconsume_times + 1, version=0)
    level = asked.delayLevel
    if level < 0 or record.reconsume_times >= _times_max(request, group):
        return _dead(request, state, again, properties, record)
    properties["DELAY"] = str(level or _FIRST_LEVEL + record.reconsume_times)
    again = replace(again, topic=topic.name, queue_id=state.random.randrange(group.retry_queues))
    return append(again, properties, state, now_ms=request.now_ms)


def _retry_topic(request: Request, state: State, group: GroupConfig) -> TopicConfig:
    config = TopicConfig(
        name=names.retry_topic(group.name),
        read_queues=group.retry_queues,
        write_queues=group.retry_queues,
        system_flag=SYSTEM_FLAG_UNIT_SUBSCRIBED if request.args.unitMode else 0,
    )
    return state.topics.ensure(config, now_ms=request.now_ms)


def _record(physical_offset: int, state: State) -> Record:
    found = state.store.record(physical_offset)
    if found is None:
        raise RefusedError(SYSTEM_ERROR, f"look message by offset failed, {physical_offset}")
    return parse(found)


def _times_max(request: Request, group: GroupConfig) -> int:
    asked = request.args.maxReconsumeTimes
    if request.version >= _HONOURS_MAX_VERSION and asked is not None:
        return int(asked)
    return group.retry_times_max


def _dead(
    request: Request, state: State, again: Record, properties: dict[str, str], origin: Record
) -> Append:
    dead = TopicConfig(names.dead_letter_topic(request.args.group), 1, 1)
    state.topics.ensure(dead, now_ms=request.now_ms)
    properties["DELAY"] = "0"
    properties.setdefault("DLQ_ORIGIN_TOPIC", properties["RETRY_TOPIC"])
    properties.setdefault("DLQ_ORIGIN_MESSAGE_ID", origin.message_id)
    last = replace(again, topic=dead.name, queue_id=0)
    return append(last, properties, state, now_ms=request.now_ms)
