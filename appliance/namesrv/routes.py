"""Requests of brokers and clients about who is there and who serves what.

Runs in: nameserver.
Owns: nothing; brokers.py keeps the tables. Formats: nameserver.md sections 3 to 8.
Fails: with response codes.
"""

import zlib
from typing import Any

from appliance.net.json_text import dumps, loads
from appliance.net.requests import Request, Response
from appliance.net.responses import SYSTEM_ERROR, TOPIC_NOT_EXIST

from appliance.namesrv import brokers, registration
from appliance.namesrv.config import ORDER_TOPIC_CONFIG
from appliance.namesrv.state import (
    BROKER_TIMEOUT_MS,
    MASTER_ID,
    WRITE,
    BrokerGroup,
    BrokerKey,
    QueueData,
    State,
)

VERSION_STRICT_JSON = 401
"""MQVersion ordinal V4_9_4: clients from here on read integer keys in quotes."""
SYNC_MEMBERS_PREFIX = "rmq_sys_SYNC_BROKER_MEMBER_"
"""Brokers read their group through these topics' routes, so nobody acts for a master there."""

_NOT_SET = "not set any response code"
"""The remark that Apache leaves on some answers; kept, since it is what clients see."""


def register_broker(request: Request, state: State) -> Response:
    """A broker says that it lives and what it serves. Peer: `registerBroker`."""
    args = request.args
    if None in (args.clusterName, args.brokerName, args.brokerAddr):
        return Response(SYSTEM_ERROR, "clusterName, brokerName or brokerAddr is null")
    if args.bodyCrc32 and args.bodyCrc32 != zlib.crc32(request.body) & 0x7FFFFFFF:
        return Response(SYSTEM_ERROR, "crc32 not match")
    told = registration.read(
        request.body,
        broker_name=args.brokerName,
        version=request.version,
        compressed=bool(args.compressed),
    )
    accepted = brokers.register(state, _arrival(request), told, request.now_ms)
    if accepted is None:
        return Response(SYSTEM_ERROR, "register broker failed")
    fields = {"haServerAddr": accepted.ha_address, "masterAddr": accepted.master_address}
    return Response(fields=fields, body=_order_topics(state))


def unregister_broker(request: Request, state: State) -> Response:
    """A broker leaves. Peer: `unregisterBroker`."""
    args = request.args
    key = BrokerKey(args.clusterName, args.brokerAddr)
    brokers.unregister(state, key, args.brokerName, args.brokerId)
    return Response()


def broker_heartbeat(request: Request, state: State) -> Response:
    """A broker lives; unknown ones get the same answer. Peer: `brokerHeartbeat`."""
    args = request.args
    brokers.refresh(state, BrokerKey(args.clusterName, args.brokerAddr), request.now_ms)
    return Response()


def query_data_version(request: Request, state: State) -> Response:
    """Whether a broker need register again; also a sign of life. Peer: `queryBrokerTopicConfig`."""
    args = request.args
    key = BrokerKey(args.clusterName, args.brokerAddr)
    asked = registration.data_version(loads(request.body) if request.body else None)
    brokers.refresh(state, key, request.now_ms)
    live = state.live.get(key)
    if live is None:
        return Response(fields={"changed": True})
    body = dumps(live.version._asdict())
    return Response(fields={"changed": live.version != asked}, body=body)


def get_routeinfo_by_topic(request: Request, state: State) -> Response:
    """Where a topic's queues are. Peer: `ClientRequestProcessor.getRouteInfoByTopic`."""
    settings, topic = state.settings, request.args.topic
    waited_ms = request.now_ms - state.started_ms
    if settings.need_wait_for_service and waited_ms < settings.wait_seconds_for_service * 1000:
        return Response(SYSTEM_ERROR, "name server not ready")
    names = state.topics.get(topic, {})
    groups = [state.groups[name] for name in names if name in state.groups]
    if not groups:
        return Response(TOPIC_NOT_EXIST, _no_route(topic))
    zone = _zone(request)
    if zone is not None:
        removed = {group.name for group in groups if not _in_zone(group, zone)}
        groups = [group for group in groups if group.name not in removed]
        names = {name: queues for name, queues in names.items() if name not in removed}
    quoted = zone is None and _reads_strict_json(request)
    return Response(body=dumps(_route(state, topic, groups, names), quoted=quoted))


def get_broker_cluster_info(request: Request, state: State) -> Response:
    """All clusters and brokers. Peer: `getAllClusterInfo`."""
    clusters = {cluster: sorted(names) for cluster, names in state.clusters.items()}
    groups = {name: group.body() for name, group in state.groups.items()}
    return Response(body=dumps({"brokerAddrTable": groups, "clusterAddrTable": clusters}))


def get_broker_member_group(request: Request, state: State) -> Response:
    """A master and its slaves, as they are. Peer: `getBrokerMemberGroup`."""
    args = request.args
    group = state.groups.get(args.brokerName)
    members = {
        "brokerAddrs": {} if group is None else group.addresses,
        "brokerName": args.brokerName,
        "cluster": args.clusterName,
    }
    return Response(remark=_NOT_SET, body=dumps({"brokerMemberGroup": members}))


def _arrival(request: Request) -> brokers.Arrival:
    args, fields = request.args, request.frame.fields
    said = "enableActingMaster" in fields
    timeout_ms = args.heartbeatTimeoutMillis
    return brokers.Arrival(
        cluster=args.clusterName,
        name=args.brokerName,
        address=args.brokerAddr,
        id=args.brokerId,
        ha_address=args.haServerAddr,
        timeout_ms=BROKER_TIMEOUT_MS if timeout_ms is None else timeout_ms,
        acting_master=bool(args.enableActingMaster) if said else None,
        zone=fields.get("__ZONE_NAME"),
        connection=request.connection,
    )


def _order_topics(state: State) -> bytes:
    """Ordered topics for the broker, as soon as anybody has configured one."""
    table = state.kv.get(ORDER_TOPIC_CONFIG)
    if table is None or not state.settings.return_order_topic_config_to_broker:
        return b""
    return dumps({"table": table})


def _no_route(topic: str | None) -> str:
    shown = "null" if topic is None else topic
    return (
        f"No topic route info in name server for the topic: {shown}\n"
        "See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
    )


def _route(
    state: State, topic: str, groups: list[BrokerGroup], names: dict[str, QueueData]
) -> dict[str, Any]:
    """A TopicRouteData; absent members are left out."""
    route: dict[str, Any] = {
        "brokerDatas": [_shown_group(state, topic, group, names) for group in groups],
        "filterServerTable": _filter_servers(state, groups),
        "queueDatas": [queues.body() for queues in names.values()],
    }
    if topic in state.mappings:
        route["topicQueueMappingByBroker"] = state.mappings[topic]
    order = state.kv.get(ORDER_TOPIC_CONFIG, {}).get(topic)
    if order is not None and state.settings.order_message_enable:
        route["orderTopicConf"] = order
    return route


def _shown_group(
    state: State, topic: str, group: BrokerGroup, names: dict[str, QueueData]
) -> dict[str, object]:
    """The group, with the slave that acts for a lost master in the master's place (section 8)."""
    acts = (
        state.settings.support_acting_master
        and not topic.startswith(SYNC_MEMBERS_PREFIX)
        and group.acting_master
        and group.addresses
        and MASTER_ID not in group.addresses
        and not names[group.name].perm & WRITE
    )
    if not acts:
        return group.body()
    minimum = min(group.addresses)
    slaves = {key: value for key, value in group.addresses.items() if key != minimum}
    return group.body({MASTER_ID: group.addresses[minimum], **slaves})


def _filter_servers(state: State, groups: list[BrokerGroup]) -> dict[str, list[str]]:
    keys = (BrokerKey(group.cluster, a) for group in groups for a in group.addresses.values())
    return {key.address: state.filter_servers[key] for key in keys if key in state.filter_servers}


def _reads_strict_json(request: Request) -> bool:
    return request.version >= VERSION_STRICT_JSON or bool(request.args.acceptStandardJsonOnly)


def _zone(request: Request) -> str | None:
    """The zone that a client wants to stay in (`ZoneRouteRPCHook`)."""
    fields = request.frame.fields
    name = fields.get("__ZONE_NAME", "").strip()
    return name if name and fields.get("__ZONE_MODE", "").lower() == "true" else None


def _in_zone(group: BrokerGroup, zone: str) -> bool:
    """A group that lost its master is near to everybody."""
    return MASTER_ID not in group.addresses or (group.zone or "").lower() == zone.lower()
