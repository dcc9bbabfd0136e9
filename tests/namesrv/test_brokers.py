"""Brokers come and go: the rules that the recordings do not show."""

import pytest

from appliance.namesrv import brokers
from appliance.namesrv.brokers import Accepted, Arrival
from appliance.namesrv.registration import Registration
from appliance.namesrv.settings import Settings
from appliance.namesrv.state import BrokerKey, Close, DataVersion, Notify, QueueData, State

TWO = ("A", "B")


def arrival(broker_id: int = 0, **changes: object) -> Arrival:
    """A 5.x broker "b" of cluster "c" at 10.0.0.<id>."""
    who = Arrival(
        cluster="c",
        name="b",
        address=f"10.0.0.{broker_id}:1",
        id=broker_id,
        ha_address=f"10.0.0.{broker_id}:2",
        timeout_ms=1000,
        acting_master=False,
        zone=None,
        connection=100 + broker_id,
    )
    for name, value in changes.items():
        setattr(who, name, value)
    return who


def told(*topics: str, counter: int = 1, state: int = 0, queues: int = 4) -> Registration:
    table = {topic: QueueData("b", queues, queues, 6, 0) for topic in topics}
    return Registration(DataVersion(counter, state, 1), table, [])


def register(state: State, who: Arrival, what: Registration | None = None) -> Accepted | None:
    return brokers.register(state, who, told(*TWO) if what is None else what, now_ms=0)


def perms(state: State) -> set[int]:
    return {queues.perm for _, queues in state.queues_of("b")}


def leave(state: State, broker_id: int) -> None:
    brokers.unregister(state, BrokerKey("c", f"10.0.0.{broker_id}:1"), "b", broker_id)


def notified(state: State) -> list[tuple[str, dict[str, str]]]:
    return [(e.address, e.frame.fields) for e in state.take_effects() if isinstance(e, Notify)]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def acting() -> State:
    """Where slaves may act for their master, and brokers are told so."""
    return State(Settings(support_acting_master=True, notify_min_broker_id_changed=True))


def test_a_first_registration_of_one_topic_leaves_a_ghost(state: State) -> None:
    assert register(state, arrival(), told("A")) is None
    assert state.groups["b"].addresses == {}
    assert (state.topics, state.live) == ({}, {})
    assert register(state, arrival(), told()) == Accepted()
    assert register(state, arrival(), told("A")) == Accepted()
    assert "A" in state.topics


def test_an_equal_version_changes_nothing_known(state: State) -> None:
    register(state, arrival())
    register(state, arrival(), told("A", "C", queues=9))
    assert state.topics["A"]["b"].read_queue_count == 4
    assert state.topics["C"]["b"].read_queue_count == 9
    register(state, arrival(), told("A", counter=0, queues=9))
    assert state.topics["A"]["b"].read_queue_count == 9, "an older version is a different one"


def test_an_old_slave_never_supplies_topics(state: State) -> None:
    register(state, arrival(1, acting_master=None))
    assert state.topics == {}
    assert state.groups["b"].addresses == {1: "10.0.0.1:1"}


def test_the_lowest_slave_supplies_topics(state: State) -> None:
    """With WRITE, unless it may act for its master (section 14.13)."""
    register(state, arrival(2))
    assert perms(state) == {6}
    register(state, arrival(3, acting_master=True), told("C", "D"))
    assert state.topics.keys() == {"A", "B"}
    register(state, arrival(1, acting_master=True), told("A", "B", counter=2))
    assert perms(state) == {4}


def test_a_slave_learns_its_living_master(state: State) -> None:
    assert register(state, arrival(1)) == Accepted()
    register(state, arrival(0))
    assert register(state, arrival(1)) == Accepted("10.0.0.0:1", "10.0.0.0:2")
    del state.live[BrokerKey("c", "10.0.0.0:1")]
    assert register(state, arrival(1)) == Accepted()


def test_a_slave_is_promoted_in_place(state: State) -> None:
    register(state, arrival(0))
    register(state, arrival(1))
    register(state, arrival(0, address="10.0.0.1:1"))
    assert state.groups["b"].addresses == {0: "10.0.0.1:1"}


def test_a_deposed_master_does_not_come_back(state: State) -> None:
    register(state, arrival(0), told(*TWO, state=5))
    late = arrival(0, address="10.0.0.9:1")
    assert register(state, late, told(*TWO, state=4)) == Accepted()
    assert state.groups["b"].addresses == {0: "10.0.0.0:1"}
    assert late.key not in state.live
    assert register(state, late, told(*TWO, state=5)) == Accepted()
    assert state.groups["b"].addresses == {0: "10.0.0.9:1"}


def test_topics_that_are_not_listed_go_if_so_configured(state: State) -> None:
    state.settings.delete_topic_with_broker_registration = True
    register(state, arrival(), told("A", "B", "C"))
    register(state, arrival(), told("A", "B"))
    assert state.topics.keys() == {"A", "B"}
    register(state, arrival(), told("D", counter=2))
    assert state.topics.keys() == {"A", "B", "D"}, "one topic is an announcement, not the list"


def test_filter_servers_follow_the_list(state: State) -> None:
    what = told(*TWO)
    what.filter_servers = ["f:1"]
    register(state, arrival(), what)
    assert state.filter_servers == {BrokerKey("c", "10.0.0.0:1"): ["f:1"]}
    what.filter_servers = None
    register(state, arrival(), what)
    assert state.filter_servers
    what.filter_servers = []
    register(state, arrival(), what)
    assert state.filter_servers == {}


def test_the_last_to_leave_takes_everything(state: State) -> None:
    register(state, arrival(0))
    register(state, arrival(1))
    leave(state, 0)
    assert state.topics.keys() == {"A", "B"}
    assert perms(state) == {6}, "nobody acts for the master: permissions stay"
    leave(state, 1)
    assert (state.topics, state.groups, state.clusters, state.live) == ({}, {}, {}, {})


def test_a_topic_of_two_brokers_stays_with_one(state: State) -> None:
    register(state, arrival(0))
    register(state, arrival(0, name="other", address="10.0.0.7:1"), told("A", "Z"))
    leave(state, 0)
    assert {topic: set(names) for topic, names in state.topics.items()} == {
        "A": {"other"},
        "Z": {"other"},
    }


def test_leaving_twice_or_unknown_is_fine(state: State) -> None:
    leave(state, 0)
    register(state, arrival(0))
    leave(state, 0)
    leave(state, 0)
    assert state.groups == {}


def test_a_closed_connection_unregisters_what_it_registered_last(state: State) -> None:
    register(state, arrival(0, connection=1))
    register(state, arrival(0, connection=2))
    brokers.connection_closed(state, 1)
    assert "b" in state.groups
    brokers.connection_closed(state, 2)
    assert "b" not in state.groups


def test_silence_beyond_the_brokers_own_limit(state: State) -> None:
    register(state, arrival(0))
    brokers.expire(state, 1000)
    assert "b" in state.groups
    brokers.refresh(state, BrokerKey("c", "10.0.0.0:1"), 600)
    brokers.refresh(state, BrokerKey("c", "unknown"), 600)
    brokers.expire(state, 1600)
    assert "b" in state.groups
    brokers.expire(state, 1601)
    assert "b" not in state.groups
    assert state.take_effects() == [Close(100, "broker 10.0.0.0:1 is silent")]
    assert state.take_effects() == []


def test_a_living_broker_whose_group_is_gone_is_forgotten(state: State) -> None:
    register(state, arrival(0))
    state.groups.clear()
    brokers.connection_closed(state, 100)
    assert state.live == {}


def test_the_group_is_told_of_a_lost_master(acting: State) -> None:
    for broker_id in (0, 1, 2):
        register(acting, arrival(broker_id, acting_master=True))
    assert notified(acting) == []
    leave(acting, 0)
    said = {"minBrokerId": "1", "minBrokerAddr": "10.0.0.1:1", "offlineBrokerAddr": "10.0.0.0:1"}
    assert notified(acting) == [("10.0.0.1:1", said), ("10.0.0.2:1", said)]
    assert perms(acting) == {4}
    leave(acting, 2)
    assert notified(acting) == [], "the minimum has not changed"


def test_the_others_are_told_of_a_new_minimum(acting: State) -> None:
    register(acting, arrival(2))
    assert notified(acting) == []
    register(acting, arrival(1))
    said = {"minBrokerId": "1", "minBrokerAddr": "10.0.0.1:1", "haBrokerAddr": "10.0.0.1:2"}
    assert notified(acting) == [("10.0.0.2:1", said)]
    register(acting, arrival(0, address="10.0.0.1:1"))
    assert [address for address, _ in notified(acting)] == ["10.0.0.2:1"]


def test_nobody_is_told_where_slaves_do_not_act(acting: State) -> None:
    for broker_id in (0, 1):
        register(acting, arrival(broker_id))
    leave(acting, 0)
    assert notified(acting) == []
    assert perms(acting) == {6}
