"""Topics by request: 17, 21, 202, 215, 351.

Runs in: coordinator.
Owns: nothing; the topics are `kept.topics`.
Fails: never; what is asked wrongly is refused with a code.

Peer: AdminBrokerProcessor (broker.md sections 1 and 16).
"""

from typing import Any

from appliance.net import json_text
from appliance.net.json_text import MessageQueue
from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import INVALID_PARAMETER, TOPIC_NOT_EXIST

from appliance.broker import names
from appliance.broker.attributes import TOPIC_ATTRIBUTES, altered, parse_edits
from appliance.broker.kept.topics import QUEUES_MAX, TopicConfig
from appliance.broker.state import State

_PERM_MAX = 7


def update_and_create_topic(request: Request, state: State) -> Response:
    """Create or change a topic; the NameServers hear of it at once."""
    asked = request.args
    _refuse_name(asked.topic)
    _refuse_numbers(asked)
    edits = parse_edits(asked.attributes)
    if edits.get("+message.type") == "MIXED":
        raise RefusedError(INVALID_PARAMETER, "MIXED message type is not supported.")
    present = state.topics.get(asked.topic)
    attributes = altered(TOPIC_ATTRIBUTES, edits, None if present is None else present.attributes)
    config = TopicConfig(
        name=asked.topic,
        read_queues=asked.readQueueNums,
        write_queues=asked.writeQueueNums,
        perm=asked.perm,
        filter_type=asked.topicFilterType or "SINGLE_TAG",
        system_flag=asked.topicSysFlag or 0,
        order=asked.order,
        attributes=attributes,
    )
    if config != present:
        state.topics.put(config, now_ms=request.now_ms)
    return Response()


def _refuse_name(topic: str | None) -> None:
    fault = names.topic_fault(topic)
    if fault is None and topic is not None and names.is_system_topic(topic):
        fault = f"The topic[{topic}] is conflict with system topic."
    if fault is not None:
        raise RefusedError(INVALID_PARAMETER, fault)


def _refuse_numbers(asked: Any) -> None:
    for name in ("readQueueNums", "writeQueueNums"):
        count = getattr(asked, name)
        if not 0 <= count <= QUEUES_MAX:
            raise RefusedError(INVALID_PARAMETER, f"{name} {count} is not within 0..{QUEUES_MAX}")
    if not 0 <= asked.perm <= _PERM_MAX:
        raise RefusedError(INVALID_PARAMETER, f"perm {asked.perm} is not within 0..{_PERM_MAX}")
    if (asked.topicSysFlag or 0) < 0:
        raise RefusedError(INVALID_PARAMETER, f"topicSysFlag {asked.topicSysFlag} is negative")
    if asked.topicFilterType not in (None, "SINGLE_TAG", "MULTI_TAG"):
        raise RefusedError(INVALID_PARAMETER, f"topicFilterType {asked.topicFilterType} is unknown")


def delete_topic_in_broker(request: Request, state: State) -> Response:
    """Forget a topic. That there is none is as good."""
    topic = request.args.topic
    if topic is None or not topic.strip():
        raise RefusedError(INVALID_PARAMETER, "The specified topic is blank.")
    if names.is_system_topic(topic):
        raise RefusedError(INVALID_PARAMETER, f"The topic[{topic}] is conflict with system topic.")
    if topic in state.topics:
        state.topics.remove(topic, now_ms=request.now_ms)
    return Response()


def get_all_topic_config(request: Request, state: State) -> Response:
    """Every topic in one body; without totalTopicNum clients take it as complete."""
    mapping = {
        "mappingDataVersion": state.topics.version.to_json(),
        "topicQueueMappingDetailMap": {},
        "topicQueueMappingInfoMap": {},
    }
    return Response(body=json_text.dumps({**state.topics.to_json(), **mapping}))


def get_topic_config(request: Request, state: State) -> Response:
    """One topic."""
    topic = request.args.topic
    config = state.topics.get(topic)
    if config is None:
        raise RefusedError(TOPIC_NOT_EXIST, f"No topic in this broker. topic: {topic}")
    return Response(body=json_text.dumps(config.to_json()))


def get_topic_stats_info(request: Request, state: State) -> Response:
    """How far each queue goes, and when it last got a message."""
    topic = request.args.topic
    config = state.topics.get(topic)
    if config is None:
        raise RefusedError(TOPIC_NOT_EXIST, f"topic[{topic}] not exist")
    broker = state.config.broker.name
    table = {
        MessageQueue(topic, broker, queue): _queue_stats(state, topic, queue)
        for queue in range(config.queue_count)
    }
    return Response(body=json_text.dumps({"offsetTable": table, "topicPutTps": 0.0}))


def _queue_stats(state: State, topic: str, queue: int) -> dict[str, int]:
    begin, end = state.store.bounds(topic, queue)
    last = max(state.store.store_time(topic, queue, end - 1), 0) if end > begin else 0
    return {"lastUpdateTimestamp": last, "maxOffset": end, "minOffset": begin}
