"""Requests about lists of topics, and topics by themselves.

Runs in: nameserver.
Owns: nothing. Formats: nameserver.md section 3.
Fails: with response codes.
"""

from collections.abc import Callable, Iterable

from appliance.net.json_text import dumps
from appliance.net.requests import Request, Response
from appliance.net.responses import SYSTEM_ERROR

from appliance.namesrv import registration
from appliance.namesrv.state import UNIT, UNIT_SUBSCRIPTION, State


def get_all_topic_list_from_nameserver(request: Request, state: State) -> Response:
    """Every topic. Peer: `getAllTopicList`."""
    return _topic_list(state.topics, state.settings.enable_all_topic_list)


def get_topics_by_cluster(request: Request, state: State) -> Response:
    """The topics of a cluster's brokers. Peer: `getTopicsByCluster`."""
    names = state.clusters.get(request.args.cluster, set())
    found = (topic for topic, brokers in state.topics.items() if names & brokers.keys())
    return _topic_list(found, state.settings.enable_topic_list)


def get_system_topic_list_from_ns(request: Request, state: State) -> Response:
    """Names of clusters and brokers, which are topics too. Peer: `getSystemTopicList`."""
    names = {*state.clusters, *(name for names in state.clusters.values() for name in names)}
    body: dict[str, object] = {"topicList": sorted(names)}
    addresses = (next(iter(g.addresses.values())) for g in state.groups.values() if g.addresses)
    if address := next(addresses, None):
        body["brokerAddr"] = address
    return Response(body=dumps(body))


def get_unit_topic_list(request: Request, state: State) -> Response:
    """Topics with the unit bit. Peer: `getUnitTopics`."""
    return _by_flag(state, lambda flag: bool(flag & UNIT))


def get_has_unit_sub_topic_list(request: Request, state: State) -> Response:
    """Topics with subscriptions by unit. Peer: `getHasUnitSubTopicList`."""
    return _by_flag(state, lambda flag: bool(flag & UNIT_SUBSCRIPTION))


def get_has_unit_sub_ununit_topic_list(request: Request, state: State) -> Response:
    """Those of them without the unit bit. Peer: `getHasUnitSubUnUnitTopicList`."""
    return _by_flag(state, lambda flag: flag & (UNIT | UNIT_SUBSCRIPTION) == UNIT_SUBSCRIPTION)


def delete_topic_in_namesrv(request: Request, state: State) -> Response:
    """Forget a topic, in one cluster or in all; an unknown one is fine. Peer: `deleteTopic`."""
    topic, cluster = request.args.topic, request.args.clusterName
    everywhere = set(state.topics.get(topic, {}))
    state.remove_topic(topic, state.clusters.get(cluster, set()) if cluster else everywhere)
    return Response()


def register_topic_in_namesrv(request: Request, state: State) -> Response:
    """A broker announces one topic. Peer: `registerTopic`, which stops at an unknown broker."""
    topic = request.args.topic
    if topic is None:
        return Response(SYSTEM_ERROR, "topic is null")
    brokers = state.topics.get(topic, {})
    for queues in registration.route_queues(request.body):
        if queues.broker_name not in state.groups:
            return Response()
        brokers[queues.broker_name] = queues
    if brokers:
        state.topics[topic] = brokers
    return Response()


def _by_flag(state: State, wanted: Callable[[int], bool]) -> Response:
    """Topics whose flag is wanted; brokers that disagree are judged by the first."""
    flags = ((topic, next(iter(b.values())).sys_flag) for topic, b in state.topics.items() if b)
    found = (topic for topic, flag in flags if wanted(flag))
    return _topic_list(found, state.settings.enable_topic_list)


def _topic_list(topics: Iterable[str], enabled: bool) -> Response:
    if not enabled:
        return Response(SYSTEM_ERROR, "disable")
    return Response(body=dumps({"topicList": list(topics)}))
