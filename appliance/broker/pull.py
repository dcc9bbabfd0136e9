"""Pulls that the frontends hand on, one by one: 11, 361.

Runs in: coordinator.
Owns: nothing.
Fails: never; what is asked wrongly is refused with a code.

Nothing is read here: a pull that is right after all (its group has just been created, say) goes
back to the frontend. Peer: PullMessageProcessor, whose order of checks is kept (broker.md 8).
"""

from dataclasses import replace

from appliance.net import fields
from appliance.net.frame import ROCKETMQ, Frame
from appliance.net.requests import RefusedError, Request
from appliance.net.responses import (
    INVALID_PARAMETER,
    NO_PERMISSION,
    SUBSCRIPTION_GROUP_NOT_EXIST,
    SUBSCRIPTION_NOT_EXIST,
    SUBSCRIPTION_NOT_LATEST,
    SUBSCRIPTION_PARSE_FAILED,
    SYSTEM_ERROR,
    TOPIC_NOT_EXIST,
)

from appliance.broker import names
from appliance.broker.effects import Again
from appliance.broker.kept.clients import Subscription
from appliance.broker.kept.groups import GroupConfig
from appliance.broker.kept.topics import TopicConfig
from appliance.broker.state import State

_HAS_SUBSCRIPTION = 1 << 2
"""In sysFlag: the request brings its own filter."""

_CLASS_FILTER = 1 << 3
"""In sysFlag: filters of that kind were given up long ago (remoting.md section 6.1)."""
_DECIDED = {"expressionType", "requestSource", "proxyFrowardClientId", "maxMsgBytes"}

# forbiddenType, which tells clients what they may not do (ForbiddenType).
_GROUP_FORBIDDEN, _TOPIC_FORBIDDEN, _BROADCAST_FORBIDDEN, _READ_FORBIDDEN = 2, 3, 4, 5


def pull_message(request: Request, state: State) -> Again:
    """Read a queue."""
    return _checked(request, state)


def lite_pull_message(request: Request, state: State) -> Again:
    """The same for clients that divide the queues themselves."""
    return _checked(request, state)


def _checked(request: Request, state: State) -> Again:
    group = _group(request, state)
    topic = _topic(request, state)
    queue = request.args.queueId
    if not 0 <= queue < topic.read_queues:
        remark = (
            f"queueId[{queue}] is illegal, topic:[{topic.name}] topicConfig.readQueueNums:"
            f"[{topic.read_queues}] consumer:[/{request.peer}]"
        )
        raise RefusedError(INVALID_PARAMETER, remark)
    if request.args.sysFlag & _HAS_SUBSCRIPTION:
        _refuse_filter(request.args.expressionType or "TAG")
        _refuse_unparsable(request.args.subscription)
    else:
        _subscribed(request, state, group)
    return Again(_plain(request))


def _plain(request: Request) -> Frame:
    """The same pull without what makes no difference any more, now that it was checked."""
    kept = {name: value for name, value in vars(request.args).items() if name not in _DECIDED}
    kept["sysFlag"] &= ~_CLASS_FILTER
    return replace(
        request.frame,
        fields=fields.encode(kept, request.row.asks),
        body=b"",
        serialization=ROCKETMQ,  # does not grow by escapes
    )


def _forbidden(remark: str, kind: int) -> RefusedError:
    refused = RefusedError(NO_PERMISSION, remark)
    refused.response.fields = {"forbiddenType": kind}
    return refused


def _group(request: Request, state: State) -> GroupConfig:
    name = request.args.consumerGroup
    group = state.groups.find(name, now_ms=request.now_ms)
    if group is None:
        remark = f"subscription group [{name}] does not exist, {names.FAQ}"
        raise RefusedError(SUBSCRIPTION_GROUP_NOT_EXIST, remark)
    if not group.consume_enabled:
        raise _forbidden(f"subscription group no permission, {name}", _GROUP_FORBIDDEN)
    return group


def _topic(request: Request, state: State) -> TopicConfig:
    name = request.args.topic
    topic = state.topics.get(name)
    if topic is None:
        remark = f"topic[{name}] not exist, apply first please! {names.FAQ}"
        raise RefusedError(TOPIC_NOT_EXIST, remark)
    if not topic.readable:
        raise _forbidden(f"the topic[{name}] pulling message is forbidden", _TOPIC_FORBIDDEN)
    return topic


def _refuse_filter(kind: str) -> None:
    """Only tags are served (enablePropertyFilter is false)."""
    if kind not in ("TAG", ""):
        remark = f"The broker does not support consumer to filter message by {kind}"
        raise RefusedError(SYSTEM_ERROR, remark)


def _refuse_unparsable(expression: str | None) -> None:
    """FilterAPI.buildSubscriptionData finds nothing between the bars, not even a blank."""
    if expression and not expression.replace("||", ""):
        raise RefusedError(SUBSCRIPTION_PARSE_FAILED, "parse the consumer's subscription failed")


def _subscribed(request: Request, state: State, group: GroupConfig) -> None:
    """What the group said in its heartbeats decides; the frontends are shown it on the way."""
    asked = request.args
    online = state.clients.consumers(group.name)
    if online is None:
        _refuse_unknown(request, state, "group info")
        return
    if online.broadcasting and not group.broadcast_enabled:
        remark = f"the consumer group[{group.name}] can not consume by broadcast way"
        raise _forbidden(remark, _BROADCAST_FORBIDDEN)
    if state.groups.forbidden(group.name, asked.topic):
        remark = f"the consumer group[{group.name}] is forbidden for topic[{asked.topic}]"
        raise _forbidden(remark, _READ_FORBIDDEN)
    subscription = online.subscriptions.get(asked.topic)
    if subscription is None:
        _refuse_unknown(request, state, "subscription")
    else:
        _refuse_subscription(subscription, asked.subVersion)
        state.subscriptions.show_one(group.name, subscription)


def _refuse_unknown(request: Request, state: State, what: str) -> None:
    """Nobody has told us, unless a predecessor was told and the clients are just not back."""
    known = None
    if state.recovering:
        known = state.subscriptions.version(request.args.consumerGroup, request.args.topic)
    if known is None or known < request.args.subVersion:
        raise RefusedError(SUBSCRIPTION_NOT_EXIST, f"the consumer's {what} not exist{names.FAQ}")


def _refuse_subscription(subscription: Subscription, version: int) -> None:
    if subscription.version < version:
        raise RefusedError(SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest")
    _refuse_filter(subscription.kind)
