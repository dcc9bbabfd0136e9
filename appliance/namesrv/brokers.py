"""Brokers come and go: registration, silence, closed connections, and what follows for topics.

Runs in: nameserver.
Owns: the steps of nameserver.md sections 5 (registration) and 7 (liveness, unregistering).
Fails: never; what a broker may not do is told in the result.

Apache queues unregistrations for a worker thread; here each is applied at once, which nobody can
tell from a short queue. Rules cite `RouteInfoManager` by method where they surprise.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.net.frame import ONEWAY
from appliance.net.requests import ask

from appliance.namesrv.registration import Registration
from appliance.namesrv.state import (
    MASTER_ID,
    WRITE,
    BrokerGroup,
    BrokerKey,
    Close,
    LiveBroker,
    Notify,
    State,
)


@dataclass(slots=True)
class Arrival:
    """Who registers: the header of request 103, and the connection it came on."""

    cluster: str
    name: str
    address: str
    id: int
    ha_address: str | None
    timeout_ms: int
    acting_master: bool | None
    """None from brokers that are too old to say; their slaves never supply topics."""
    zone: str | None
    connection: int

    @property
    def key(self) -> BrokerKey:
        """Where the live table keeps it."""
        return BrokerKey(self.cluster, self.address)


@dataclass(slots=True)
class Accepted:
    """What a slave is told: its master's addresses, where that is known and alive."""

    master_address: str | None = None
    ha_address: str | None = None


def register(state: State, who: Arrival, told: Registration, now_ms: int) -> Accepted | None:
    """Apply a registration (`registerBroker`); None refuses it.

    A refused broker stays visible as a group without addresses, as in Apache. A broker that lost a
    conflict is not told: it gets an empty `Accepted`.
    """
    state.clusters.setdefault(who.cluster, set()).add(who.name)
    first = who.name not in state.groups
    group = state.groups.setdefault(who.name, BrokerGroup(who.name, who.cluster))
    group.acting_master, group.zone = bool(who.acting_master), who.zone
    new_minimum = bool(group.addresses) and who.id < min(group.addresses)
    _drop_other_ids(group, who)
    if _outdated(state, group, who, told):
        state.live.pop(who.key, None)
        return Accepted()
    if who.id not in group.addresses:
        if len(told.topics) == 1:
            return None
        first = True
    group.addresses[who.id] = who.address
    if _supplies_topics(group, who):
        _take_topics(state, group, who, told, first)
    state.live[who.key] = LiveBroker(
        now_ms, who.timeout_ms, told.version, who.connection, who.ha_address
    )
    _take_filter_servers(state, who, told)
    if new_minimum:
        _notify(state, group, ha_address=who.ha_address)
    return _master_of(state, group, who)


def refresh(state: State, key: BrokerKey, now_ms: int) -> None:
    """A sign of life by request 322 or 904; it does not rebind the connection."""
    if key in state.live:
        state.live[key].seen_ms = now_ms


def unregister(state: State, key: BrokerKey, name: str, broker_id: int | None) -> None:
    """Forget a broker, and what only it served (`unRegisterBroker`).

    The id only decides whether the group is told of a new minimum; addresses are what is removed.
    """
    state.live.pop(key, None)
    state.filter_servers.pop(key, None)
    group = state.groups.get(name)
    if group is None:
        return
    was_minimum = bool(group.addresses) and broker_id == min(group.addresses)
    group.addresses = {k: v for k, v in group.addresses.items() if v != key.address}
    if not group.addresses:
        _remove_group(state, group, key.cluster)
    else:
        _without_master(state, group)
        if was_minimum and group.acting_master:
            _notify(state, group, offline_address=key.address)


def connection_closed(state: State, connection: int) -> None:
    """Unregister what registered last on it (`onChannelDestroy`)."""
    for key in [key for key, live in state.live.items() if live.connection == connection]:
        _lost(state, key)


def expire(state: State, now_ms: int) -> None:
    """Unregister brokers that were silent for too long, and close their connections."""
    overdue = [k for k, live in state.live.items() if live.seen_ms + live.timeout_ms < now_ms]
    for key in overdue:
        state.effects.append(Close(state.live[key].connection, f"broker {key.address} is silent"))
        _lost(state, key)


def _lost(state: State, key: BrokerKey) -> None:
    """Unregister by address alone."""
    for group in state.groups.values():
        for broker_id, address in group.addresses.items():
            if address == key.address and group.cluster == key.cluster:
                unregister(state, key, group.name, broker_id)
                return
    state.live.pop(key, None)
    state.filter_servers.pop(key, None)


# Steps of a registration ------------------------------------------------------------------------


def _drop_other_ids(group: BrokerGroup, who: Arrival) -> None:
    """An address has one id: a slave that becomes master in place gives up its own."""
    for broker_id in [k for k, v in group.addresses.items() if v == who.address and k != who.id]:
        del group.addresses[broker_id]


def _outdated(state: State, group: BrokerGroup, who: Arrival, told: Registration) -> bool:
    """Whether a living broker of a later master epoch holds the id at another address."""
    holder = group.addresses.get(who.id)
    if holder is None or holder == who.address:
        return False
    live = state.live.get(BrokerKey(who.cluster, holder))
    return live is not None and live.version.stateVersion > told.version.stateVersion


def _supplies_topics(group: BrokerGroup, who: Arrival) -> bool:
    """The master, or the "prime" slave: the lowest id, of a broker new enough to say so."""
    prime_slave = who.acting_master is not None and who.id == min(group.addresses)
    return who.id == MASTER_ID or prime_slave


def _take_topics(
    state: State, group: BrokerGroup, who: Arrival, told: Registration, first: bool
) -> None:
    """An equal DataVersion freezes what is known, also where queue counts differ."""
    known = state.live.get(who.key)
    changed = first or known is None or known.version != told.version
    if state.settings.delete_topic_with_broker_registration and not told.mappings:
        _drop_unlisted_topics(state, who.name, told.topics.keys())
    read_only = who.id != MASTER_ID and group.acting_master
    for topic, queues in told.topics.items():
        brokers = state.topics.setdefault(topic, {})
        if changed or who.name not in brokers:
            brokers[who.name] = queues
            queues.perm &= ~(WRITE if read_only else 0)
    if changed:
        for topic, info in told.mappings.items():
            state.mappings.setdefault(topic, {})[str(info.get("bname"))] = info


def _drop_unlisted_topics(state: State, broker_name: str, listed: Iterable[str]) -> None:
    """Not for a single topic: that is how 5.x brokers announce one more (section 5, danger)."""
    keep = set(listed)
    if len(keep) == 1:
        return
    for topic in [topic for topic, _ in state.queues_of(broker_name) if topic not in keep]:
        state.remove_topic(topic, {broker_name})


def _take_filter_servers(state: State, who: Arrival, told: Registration) -> None:
    if told.filter_servers:
        state.filter_servers[who.key] = told.filter_servers
    elif told.filter_servers is not None:
        state.filter_servers.pop(who.key, None)


def _master_of(state: State, group: BrokerGroup, who: Arrival) -> Accepted:
    master = group.addresses.get(MASTER_ID)
    if who.id == MASTER_ID or master is None:
        return Accepted()
    live = state.live.get(BrokerKey(who.cluster, master))
    return Accepted() if live is None else Accepted(master, live.ha_address)


# What follows for the group ---------------------------------------------------------------------


def _remove_group(state: State, group: BrokerGroup, cluster: str) -> None:
    del state.groups[group.name]
    names = state.clusters.get(cluster, set())
    names.discard(group.name)
    if not names:
        state.clusters.pop(cluster, None)
    for topic in [topic for topic, _ in state.queues_of(group.name)]:
        state.remove_topic(topic, {group.name})


def _without_master(state: State, group: BrokerGroup) -> None:
    """Nobody can write to a group whose slaves act for their master."""
    if group.acting_master and MASTER_ID not in group.addresses:
        for _, queues in state.queues_of(group.name):
            queues.perm &= ~WRITE


def _notify(
    state: State,
    group: BrokerGroup,
    *,
    offline_address: str | None = None,
    ha_address: str | None = None,
) -> None:
    """Tell the group its minimum id: all that remain, or all but the one that is new."""
    if not state.settings.notify_min_broker_id_changed:
        return
    minimum = min(group.addresses)
    frame = ask(
        "NOTIFY_MIN_BROKER_ID_CHANGE",
        {
            "minBrokerId": minimum,
            "minBrokerAddr": group.addresses[minimum],
            "offlineBrokerAddr": offline_address,
            "haBrokerAddr": ha_address,
        },
        flag=ONEWAY,
    )
    everyone = offline_address is not None or len(group.addresses) == 1
    for broker_id, address in group.addresses.items():
        if everyone or broker_id != minimum:
            state.effects.append(Notify(address, frame))
