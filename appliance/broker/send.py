"""Sends that the frontends hand on, one by one: 10, 310, 320.

Runs in: coordinator.
Owns: nothing.
Fails: never; what is asked wrongly is refused with a code.

Why one comes here: its topic or queue is not known to the frontends, it lacks a UNIQ_KEY, it has
properties that ask for more than storing, or something is wrong with it. Peer:
SendMessageProcessor, whose order of checks is kept (broker.md section 3).
"""

from collections.abc import Callable
from dataclasses import replace

from appliance.commitlog.record import (
    COMPRESSED_FLAG,
    TRANSACTION_COMMIT,
    TRANSACTION_MASK,
    BatchItem,
    Record,
    RecordError,
    build,
    decode_batch,
    decode_properties,
    encode_properties,
    tags_code,
)
from appliance.config import RECORD_ROOM_SIZE
from appliance.net.requests import RefusedError, Request
from appliance.net.responses import (
    INVALID_PARAMETER,
    MESSAGE_ILLEGAL,
    NO_PERMISSION,
    SUBSCRIPTION_GROUP_NOT_EXIST,
    SYSTEM_ERROR,
    TOPIC_NOT_EXIST,
)

from appliance.broker import names
from appliance.broker.effects import Append
from appliance.broker.kept.topics import (
    PERM_INHERIT,
    SYSTEM_FLAG_UNIT,
    SYSTEM_FLAG_UNIT_SUBSCRIBED,
    TopicConfig,
)
from appliance.broker.message import append, delay_level, peer_host, refuse_size
from appliance.broker.state import REGION, State

_MULTI_TAGS_FLAG = 2
_COMPRESSION_MASK = 0x700
_ROW_SIZE = 16
"""What a record of a batch takes in the ring beside itself (appends.py)."""
_HONOURS_MAX_VERSION = 121
"""V3_4_9: clients from here on say themselves how often a message may be consumed."""


def send_message(request: Request, state: State) -> Append:
    """Store a message; headers with long names."""
    return _sent(request, state)


def send_message_v2(request: Request, state: State) -> Append:
    """Store a message; headers with one-letter names."""
    return _sent(request, state)


def send_batch_message(request: Request, state: State) -> Append:
    """Store several messages of one queue."""
    return _sent(request, state)


def _sent(request: Request, state: State) -> Append:
    """Producers look for the region in refusals too."""
    store: Callable[[Request, State], Append] = _batch if request.args.batch else _single
    if not request.body:
        raise RefusedError(SYSTEM_ERROR, "the message has no body")
    try:
        return store(request, state)
    except RefusedError as refused:
        refused.response.fields = {"MSG_REGION": REGION, "TRACE_ON": True}
        raise


def _single(request: Request, state: State) -> Append:
    topic = _topic(request, state)
    queue = _queue(request, state, topic)
    properties = decode_properties((request.args.properties or "").encode("utf-8", "replace"))
    _refuse_missing_key(topic, properties)
    topic_name, queue = _or_dead_letter(request, state, properties, topic.name, queue)
    _refuse_transaction(request, properties)
    _complete(properties, state)
    record = _record(request, topic, topic_name, queue)
    return append(record, properties, state, now_ms=request.now_ms)


def _record(request: Request, topic: TopicConfig, topic_name: str, queue: int) -> Record:
    asked = request.args
    multi = _MULTI_TAGS_FLAG if topic.filter_type == "MULTI_TAG" else 0
    return Record(
        topic=topic_name,
        body=request.body,
        queue_id=queue,
        flag=asked.flag,
        system_flag=asked.sysFlag | multi,
        born_timestamp=asked.bornTimestamp,
        born_host=peer_host(request.peer),
        reconsume_times=asked.reconsumeTimes or 0,
    )


def _complete(properties: dict[str, str], state: State) -> None:
    """What every stored message carries, and what none does."""
    properties.pop("POP_CK", None)
    properties.setdefault("UNIQ_KEY", f"{state.random.getrandbits(128):032X}")
    properties |= _origin(state)


def _origin(state: State) -> dict[str, str]:
    return {"MSG_REGION": REGION, "TRACE_ON": "true", "CLUSTER": state.config.broker.cluster}


# The topic and the queue -------------------------------------------------------------------------


def _topic(request: Request, state: State) -> TopicConfig:
    name = request.args.topic
    fault = names.topic_fault(name)
    if fault is not None:
        raise RefusedError(INVALID_PARAMETER, fault)
    if name in names.FORBIDDEN_TOPICS:
        raise RefusedError(NO_PERMISSION, f"Sending message to topic[{name}] is forbidden.")
    return state.topics.get(name) or _create_topic(request, state)


def _create_topic(request: Request, state: State) -> TopicConfig:
    """A topic comes to be from the template that the client names, if that lets itself inherit.

    Peer: TopicConfigManager.createTopicInSendMessageMethod; %RETRY% topics need no template.
    """
    name = request.args.topic
    retry = name.startswith(names.RETRY_PREFIX)
    unit = SYSTEM_FLAG_UNIT_SUBSCRIBED if retry else SYSTEM_FLAG_UNIT
    flag = unit if request.args.unitMode else 0
    template = state.topics.get(request.args.defaultTopic)
    if template is not None and _inherited(template, state):
        queues = max(0, min(request.args.defaultTopicQueueNums, template.write_queues))
        perm = template.perm & ~PERM_INHERIT
        filter_type = template.filter_type
        config = TopicConfig(name, queues, queues, perm, filter_type, system_flag=flag)
    elif retry:
        config = TopicConfig(name, 1, 1, system_flag=flag)
    else:
        remark = f"topic[{name}] not exist, apply first please!{names.FAQ}"
        raise RefusedError(TOPIC_NOT_EXIST, remark)
    state.topics.put(config, now_ms=request.now_ms)
    return config


def _inherited(template: TopicConfig, state: State) -> bool:
    """A left over TBW102 gives nothing to anybody once topics are not to be created."""
    forbidden = template.name == names.AUTO_CREATE_TOPIC and not (
        state.config.broker.auto_create_topics
    )
    return bool(template.perm & PERM_INHERIT) and not forbidden


def _queue(request: Request, state: State, topic: TopicConfig) -> int:
    """The queue asked for; a negative one leaves it to us."""
    queue = int(request.args.queueId)
    if queue >= topic.queue_count:
        remark = f"request queueId[{queue}] is illegal, {topic} Producer: {request.peer}"
        raise RefusedError(INVALID_PARAMETER, remark)
    if queue >= 0:
        return queue
    if topic.write_queues == 0:
        raise RefusedError(INVALID_PARAMETER, f"topic[{topic.name}] has no queue to write to")
    return state.random.randrange(topic.write_queues)


# What is refused ---------------------------------------------------------------------------------


def _refuse_missing_key(topic: TopicConfig, properties: dict[str, str]) -> None:
    if topic.compacted and "KEYS" not in properties:
        raise RefusedError(MESSAGE_ILLEGAL, "Required message key is missing")


def _refuse_transaction(request: Request, properties: dict[str, str]) -> None:
    """Half messages need somebody who asks how they ended; until then nobody may send them."""
    kind = request.args.sysFlag & TRANSACTION_MASK
    prepared = properties.get("TRAN_MSG", "").lower() == "true"
    if prepared or kind not in (0, TRANSACTION_COMMIT):
        remark = "the broker sending transaction message is forbidden: transactions are not served"
        raise RefusedError(NO_PERMISSION, remark)


def _or_dead_letter(
    request: Request, state: State, properties: dict[str, str], topic: str, queue: int
) -> tuple[str, int]:
    """Where a message that a consumer sends again goes: on to its group, or to the dead letters.

    Peer: SendMessageProcessor.handleRetryAndDLQ. A group that holds a queue lock consumes in
    order: what it sends again it has given up.
    """
    if not topic.startswith(names.RETRY_PREFIX):
        return topic, queue
    name = topic.removeprefix(names.RETRY_PREFIX)
    group = state.groups.find(name, now_ms=request.now_ms)
    if group is None:
        remark = f"subscription group not exist, {name} {names.FAQ}"
        raise RefusedError(SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    most = group.retry_times_max
    if request.version >= _HONOURS_MAX_VERSION and request.args.maxReconsumeTimes is not None:
        most = request.args.maxReconsumeTimes
    gave_up = state.locks.any_live(name, now_ns=state.now.monotonic_ns)
    if (request.args.reconsumeTimes or 0) <= most and not gave_up:
        return topic, queue
    properties["DELAY"] = "-1"
    dead = TopicConfig(names.dead_letter_topic(name), 1, 1)
    return state.topics.ensure(dead, now_ms=request.now_ms).name, 0


# Batches -----------------------------------------------------------------------------------------


def _batch(request: Request, state: State) -> Append:
    """Each message of a batch becomes a record of its own, with what the outer header says."""
    topic = _topic(request, state)
    queue = _queue(request, state, topic)
    if topic.name.startswith(names.RETRY_PREFIX):
        remark = f"batch request does not support retry group {topic.name}"
        raise RefusedError(MESSAGE_ILLEGAL, remark)
    outer = decode_properties((request.args.properties or "").encode("utf-8", "replace"))
    _refuse_transaction(request, outer)
    refuse_size(len(request.body), 0, state)
    return _items(request, state, _record(request, topic, topic.name, queue))


def _items(request: Request, state: State, outer: Record) -> Append:
    records, tags, size = [], [], 0
    for item in _decoded(request.body):
        properties = decode_properties(item.properties)
        if delay_level(properties) > 0:
            raise RefusedError(MESSAGE_ILLEGAL, "a batch holds no delayed messages")
        text = encode_properties(properties | _origin(state))
        refuse_size(len(item.body), len(text), state)
        record = replace(
            outer,
            body=item.body,
            properties=text,
            flag=item.flag,
            store_host=state.store_host,
            system_flag=outer.system_flag & ~(COMPRESSED_FLAG | _COMPRESSION_MASK),
        )
        records.append(build(record))
        size += len(records[-1]) + _ROW_SIZE
        refuse_size(size - RECORD_ROOM_SIZE, 0, state)  # together they are one append
        tags.append(tags_code(properties.get("TAGS")))
    queue = outer.queue_id
    return Append(outer.topic, queue, tuple(records), tuple(tags), answered_queue_id=queue)


def _decoded(body: bytes) -> list[BatchItem]:
    try:
        return decode_batch(body)
    except RecordError as error:
        raise RefusedError(MESSAGE_ILLEGAL, f"the batch does not add up: {error}") from error
