"""Heartbeats and who is connected: 34, 35, 38, 46, 203, 204.

Runs in: coordinator.
Owns: nothing; the registry is `kept.clients`.
Fails: never; what is asked wrongly is refused with a code.

Peers: ClientManageProcessor, ConsumerManageProcessor, AdminBrokerProcessor (broker.md section 5).
"""

from typing import Any, NamedTuple

from appliance.net import json_text
from appliance.net.frame import LANGUAGES
from appliance.net.requests import RefusedError, Request, Response
from appliance.net.responses import (
    CONSUMER_NOT_ONLINE,
    SUBSCRIPTION_PARSE_FAILED,
    SYSTEM_ERROR,
)

from appliance.broker import names
from appliance.broker.bodies import read_body
from appliance.broker.effects import Push
from appliance.broker.kept.clients import ConsumerBeat, Member, Subscription
from appliance.broker.kept.topics import SYSTEM_FLAG_UNIT_SUBSCRIBED, TopicConfig
from appliance.broker.state import State


class _Beat(NamedTuple):
    """A heartbeat's body (HeartbeatData)."""

    client_id: str
    fingerprint: int
    """Not 0: a heartbeat V2."""
    without_subscriptions: bool
    consumers: list[ConsumerBeat]
    producers: list[str]

    @staticmethod
    def from_json(value: dict[str, Any]) -> "_Beat":
        fingerprint = int(value.get("heartbeatFingerprint") or 0)
        return _Beat(
            client_id=str(value.get("clientID") or ""),
            fingerprint=fingerprint,
            without_subscriptions=fingerprint != 0 and bool(value.get("withoutSub")),
            consumers=list(map(ConsumerBeat.from_json, value.get("consumerDataSet") or ())),
            producers=[
                str(data.get("groupName") or "") for data in value.get("producerDataSet") or ()
            ],
        )


def heart_beat(request: Request, state: State) -> list[Push | Response]:
    """A client says that it lives, which groups it is in and what it subscribed to.

    Peer: ClientManageProcessor.heartBeat. A heartbeat V2 may come without the subscriptions; the
    answer tells whether they must be sent again.
    """
    beat = read_body(request, _Beat.from_json)
    member = Member(
        connection=request.connection,
        client_id=beat.client_id,
        language=request.language,
        version=request.version,
        peer=request.peer,
        seen_ns=state.now.monotonic_ns,
    )
    pushes: list[Push] = []
    resend = beat.fingerprint == 0
    for consumer in beat.consumers:
        resend |= _fingerprint_changed(state, consumer.group, beat.fingerprint)
        pushes += _register(request, state, member, consumer, keep=beat.without_subscriptions)
        resend |= _remember_fingerprint(state, consumer.group, beat.fingerprint)
    for group in beat.producers:
        state.clients.register_producer(member, group)
    fields = {"IS_SUPPORT_HEART_BEAT_V2": True, "IS_SUB_CHANGE": resend}
    return [*pushes, Response(fields=fields)]


def _fingerprint_changed(state: State, group: str, fingerprint: int) -> bool:
    known = state.clients.consumers(group)
    return known is not None and known.fingerprint not in (0, fingerprint)


def _remember_fingerprint(state: State, group: str, fingerprint: int) -> bool:
    """Whether the subscriptions must be sent again because none is known.

    Apache says no here, and a broker that was restarted then knows none (remoting.md section 7.1).
    """
    known = state.clients.consumers(group)
    if known is None:
        return True
    known.fingerprint = fingerprint
    return not known.subscriptions


def _register(
    request: Request, state: State, member: Member, beat: ConsumerBeat, *, keep: bool
) -> list[Push]:
    config = state.groups.find(beat.group, now_ms=request.now_ms)
    if config is not None:
        _create_retry_topic(request, state, beat, queues=config.retry_queues)
    changed = state.clients.register_consumer(member, beat, keep=keep)
    group = state.clients.consumers(beat.group)
    assert group is not None, "it was just registered"
    state.subscriptions.show(group)
    return state.notices(group) if changed and not group.broadcasting else []


def _create_retry_topic(request: Request, state: State, beat: ConsumerBeat, *, queues: int) -> None:
    topic = names.retry_topic(beat.group)
    if topic in state.topics or names.topic_fault(topic) is not None:
        return
    read = [state.topics.get(subscription.topic) for subscription in beat.subscriptions]
    config = TopicConfig(
        name=topic,
        read_queues=queues,
        write_queues=queues,
        order=any(config is not None and config.order for config in read),
        system_flag=SYSTEM_FLAG_UNIT_SUBSCRIBED if beat.unit_mode else 0,
    )
    state.topics.put(config, now_ms=request.now_ms)


def unregister_client(request: Request, state: State) -> list[Push | Response]:
    """A client leaves a group in order. Peer: ClientManageProcessor.unregisterClient."""
    if request.args.producerGroup is not None:
        state.clients.unregister_producer(request.connection, request.args.producerGroup)
    if request.args.consumerGroup is None:
        return [Response()]
    group = state.clients.unregister_consumer(request.connection, request.args.consumerGroup)
    return [*([] if group is None else state.left(group)), Response()]


def get_consumer_list_by_group(request: Request, state: State) -> Response:
    """The client ids among which clients divide the queues.

    While the registry is filled again after a restart of the coordinator a part of the group must
    not be taken for the whole: clients keep what they have when this fails.
    """
    if state.recovering:
        raise RefusedError(SYSTEM_ERROR, "the broker is asking its clients who they are, try again")
    group = state.clients.consumers(request.args.consumerGroup)
    if group is None:
        remark = f"no consumer for this group, {request.args.consumerGroup}"
        raise RefusedError(SYSTEM_ERROR, remark)
    ids = [member.client_id for member in group.members.values()]
    return Response(body=json_text.dumps({"consumerIdList": ids}))


def check_client_config(request: Request, state: State) -> Response:
    """Whether a filter expression can be served; only tags can.

    Peer: ClientManageProcessor.checkClientConfig.
    """
    subscription = read_body(request, _asked_subscription)
    if subscription is None:
        raise RefusedError(SUBSCRIPTION_PARSE_FAILED, "the request names no subscription")
    if subscription.by_tags:
        return Response()
    remark = f"The broker does not support consumer to filter message by {subscription.kind}"
    raise RefusedError(SYSTEM_ERROR, remark)


def _asked_subscription(body: dict[str, Any]) -> Subscription | None:
    data = body.get("subscriptionData")
    return None if data is None else Subscription.from_json(data)


def get_consumer_connection_list(request: Request, state: State) -> Response:
    """A group's live consumers and what they read."""
    group = state.clients.consumers(request.args.consumerGroup)
    if group is None:
        remark = f"the consumer group[{request.args.consumerGroup}] not online"
        raise RefusedError(CONSUMER_NOT_ONLINE, remark)
    beat = group.beat
    enums = {
        "consumeFromWhere": beat.consume_from,
        "consumeType": beat.consume_type,
        "messageModel": beat.message_model,
    }
    table = {topic: one.to_json() for topic, one in group.subscriptions.items()}
    body = {
        "connectionSet": [_connection(member) for member in group.members.values()],
        **{name: value for name, value in enums.items() if value is not None},
        "subscriptionTable": table,
    }
    return Response(body=json_text.dumps(body))


def get_producer_connection_list(request: Request, state: State) -> Response:
    """A group's live producers."""
    members = state.clients.producers(request.args.producerGroup)
    if not members:
        raise RefusedError(
            SYSTEM_ERROR, f"the producer group[{request.args.producerGroup}] not exist"
        )
    body = {"connectionSet": [_connection(member) for member in members]}
    return Response(body=json_text.dumps(body))


def _connection(member: Member) -> dict[str, Any]:
    return {
        "clientAddr": member.peer,
        "clientId": member.client_id,
        "language": LANGUAGES[member.language],
        "version": member.version,
    }
