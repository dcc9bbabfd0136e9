"""Groups: created by looking, kept as Apache keeps them, shown to the fast path."""

import json
from typing import Any

import pytest

from appliance.broker import names
from appliance.broker.kept.groups import GroupConfig, Groups
from appliance.ring.tables import GROUP_BROADCAST_ENABLE, GROUP_CONSUME_ENABLE
from tests.broker.kept.tables import NOW_MS, Kept, Shared

PATH = "/store/config/subscriptionGroup.json"


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def groups(shared: Shared) -> Groups:
    return Kept(shared).groups


def test_every_broker_has_the_system_groups(groups: Groups) -> None:
    assert {group.name for group in groups} == set(names.SYSTEM_GROUPS)


def test_looking_creates(shared: Shared, groups: Groups) -> None:
    found = groups.find("G", now_ms=NOW_MS)
    assert found is not None
    assert found.retry_times_max == 16
    assert shared.groups.find("G") >= 0
    shared.forget_memory()
    assert "G" in Kept(shared).groups


@pytest.mark.parametrize("name", ["", " ", "a b", "组", "g" * 249, None])
def test_an_illegal_name_is_not_created(groups: Groups, name: str | None) -> None:
    assert groups.find(name, now_ms=NOW_MS) is None


def test_nothing_is_created_when_that_is_forbidden(shared: Shared) -> None:
    groups = Groups(Kept(shared).file("g"), shared.groups, auto_create=False)
    assert groups.find("G", now_ms=NOW_MS) is None
    assert groups.find("CID_RMQ_SYS_x", now_ms=NOW_MS) is not None


def test_the_fast_path_sees_what_a_group_may(shared: Shared, groups: Groups) -> None:
    config = GroupConfig(
        groupName="G", consumeEnable=False, brokerId=3, whichBrokerWhenConsumeSlowly=2
    )
    groups.put(config, now_ms=NOW_MS)
    row = shared.groups.read(groups.row("G"))
    assert row is not None
    assert (row.flags, row.broker_id, row.slow_broker_id) == (GROUP_BROADCAST_ENABLE, 3, 2)
    groups.put(GroupConfig(groupName="G"), now_ms=NOW_MS)
    row = shared.groups.read(groups.row("G"))
    assert row is not None
    assert row.flags == GROUP_CONSUME_ENABLE | GROUP_BROADCAST_ENABLE


def test_the_forbidden_table_outlives_a_rewrite(shared: Shared) -> None:
    forbidden = {"G": {"T": 4}}
    file = {"forbiddenTable": forbidden, "subscriptionGroupTable": {"G": {"retryMaxTimes": 3}}}
    shared.disk.add(PATH, json.dumps(file).encode())
    groups = Kept(shared).groups
    assert groups.forbidden("G", "T")
    assert not groups.forbidden("G", "U")
    groups.find("H", now_ms=NOW_MS)
    kept: dict[str, Any] = json.loads(shared.disk.read(PATH))
    assert kept["forbiddenTable"] == forbidden
    assert kept["subscriptionGroupTable"]["G"]["retryMaxTimes"] == 3


def test_values_are_taken_as_fastjson_takes_them() -> None:
    config = GroupConfig.from_json(
        {"groupName": "G", "retryMaxTimes": "5", "consumeEnable": "false", "x": 1, "brokerId": None}
    )
    assert (config.retry_times_max, config.consume_enabled, config.broker_id) == (5, False, 0)
    assert "x" not in config.to_json()


def test_a_removed_group_is_gone(shared: Shared, groups: Groups) -> None:
    groups.find("G", now_ms=NOW_MS)
    row = groups.row("G")
    groups.remove("G", now_ms=NOW_MS)
    assert groups.row("G") == -1
    assert shared.groups.read(row) is None
    assert groups.name(row) == "G"
