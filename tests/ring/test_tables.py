"""Shared tables: a row keeps its number, a reader sees a whole row or none, limits are answers."""

import pytest

from appliance.ring import tables
from appliance.ring.region import PrivateSegments
from appliance.ring.tables import (
    SUB_ALL,
    SUB_OTHER,
    SUB_TAGS,
    OffsetTable,
    QueueTable,
    SubscriptionTable,
    TableFull,
    TopicTable,
)
from clib import lib


def topics(rows_max: int = 8) -> TopicTable:
    return TopicTable(tables.create_named(PrivateSegments(), "topics", "ap_topic", rows_max))


def publish(table: TopicTable, name: str, queue_base: int = 0) -> int:
    return table.publish(
        name, queue_base=queue_base, read_queues=4, write_queues=4, perm=6, flags=3, system_flag=0
    )


def test_a_topic_is_found_by_its_name() -> None:
    table = topics()
    assert table.find("a") == -1
    row = publish(table, "a", queue_base=5)
    assert table.find("a") == row and table.name(row) == "a"
    copy = table.read(row)
    assert copy is not None and copy.queue_base == 5


def test_a_topic_made_again_keeps_its_row() -> None:
    table = topics()
    row = publish(table, "a")
    table.remove("a")
    assert table.read(row) is None and int(table.rows["flags"][row]) == 0
    assert publish(table, "a") == row


def test_a_row_that_is_being_written_is_not_read() -> None:
    table = topics()
    row = publish(table, "a")
    lib.ap_table_claim(table.table, b"a", 1)
    assert table.read(row) is None
    lib.ap_table_commit(table.table, row, 1)
    assert table.read(row) is not None


def test_names_of_255_bytes_and_a_full_table() -> None:
    table = topics(rows_max=4)
    names = [f"%RETRY%{i}".ljust(255, "x") for i in range(4)]
    assert [publish(table, name) for name in names] == [0, 1, 2, 3]
    assert [table.find(name) for name in names] == [0, 1, 2, 3]
    with pytest.raises(TableFull, match="limit is 4"):
        publish(table, "one more")
    assert table.find("x" * 256) == -1


def test_subscriptions_are_kept_by_group_and_topic() -> None:
    region = tables.create_keyed(PrivateSegments(), "s", "ap_subscription", 16)
    table = SubscriptionTable(region)
    table.put(1, 2, version=7, kind=SUB_TAGS, codes=[5, -6])
    table.put(2, 1, version=8, kind=SUB_ALL, codes=[])
    found = table.get(1, 2)
    assert found is not None and (found.version, found.codes.tolist()) == (7, [5, -6])
    table.remove(1, 2)
    assert table.get(1, 2) is None and table.get(2, 1) is not None
    table.put(3, 3, version=1, kind=SUB_TAGS, codes=list(range(500)))
    many = table.get(3, 3)
    assert many is not None and many.kind == SUB_OTHER


def test_offsets_go_both_ways_and_are_listed() -> None:
    table = OffsetTable(tables.create_keyed(PrivateSegments(), "o", "ap_offset", 16))
    assert table.get(0, 0, 0) == -1
    table.put(0, 0, 0, 0)
    table.put(3, 4, 5, 100)
    table.put(3, 4, 5, 90)
    assert table.get(0, 0, 0) == 0 and table.get(3, 4, 5) == 90
    assert sorted(table.items()) == [(0, 0, 0, 0), (3, 4, 5, 90)]
    table.remove(3, 4, 5)
    assert table.get(3, 4, 5) == -1 and list(table.items()) == [(0, 0, 0, 0)]


def test_a_successor_sees_the_same_rows() -> None:
    region = tables.create_keyed(PrivateSegments(), "o", "ap_offset", 4)
    first = OffsetTable(region)
    for queue in range(4):
        first.put(1, 1, queue, queue)
    second = OffsetTable(region)
    assert [second.get(1, 1, queue) for queue in range(4)] == [0, 1, 2, 3]
    with pytest.raises(TableFull):
        for queue in range(4, 40):
            second.put(1, 1, queue, queue)


def test_queue_rows_are_handed_out_once_and_can_move() -> None:
    region = tables.create_queues(PrivateSegments(), 16)
    table = QueueTable(region)
    assert table.allocate(3, 4) == 0 and table.allocate(5, 4) == 4
    assert table.places["topic_row"][:8].tolist() == [3] * 4 + [5] * 4
    base = QueueTable(region).allocate(3, 8)
    table.move(0, 4, base)
    assert table.places["moved_to"][:4].tolist() == [8, 9, 10, 11]
    with pytest.raises(TableFull):
        QueueTable(region).allocate(9, 1)
