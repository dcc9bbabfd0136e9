"""table.c: beside tests/ring/test_tables.py, what damage, collisions and a writer at work do."""

import threading
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from appliance.ring import tables
from appliance.ring.layout import dtype
from appliance.ring.region import PrivateSegments
from appliance.ring.tables import TopicTable
from clib import ffi, lib

ROWS = 8


def topics(rows_max: int = ROWS) -> TopicTable:
    return TopicTable(tables.create_named(PrivateSegments(), "topics", "ap_topic", rows_max))


def publish(table: TopicTable, name: str, value: int = 0) -> int:
    return table.publish(
        name,
        queue_base=value,
        read_queues=value,
        write_queues=value,
        perm=value,
        flags=value,
        system_flag=value,
    )


def slots(table: TopicTable) -> Any:
    return ffi.cast("uint32_t *", ffi.cast("uint8_t *", table.table) + ffi.sizeof("ap_table"))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=30)
)
def test_a_table_is_a_dictionary_until_it_is_full(names: list[str]) -> None:
    table, model = topics(), dict[str, int]()
    for name in names:
        if name in model or len(model) < ROWS:
            assert publish(table, name) == model.setdefault(name, len(model))
        else:
            assert table.find(name) == -1
            with pytest.raises(tables.TableFull):
                publish(table, name)
    assert {name: table.find(name) for name in model} == model


def test_sizes_that_no_name_has() -> None:
    table = topics()
    data = ffi.new("uint8_t[]", 300)
    for size in (0, 256, 300, 1 << 63):
        assert lib.ap_table_find(table.table, data, size) == -1
        assert lib.ap_table_claim(table.table, data, size) == lib.AP_EINVAL


def test_a_table_without_slots_has_no_names() -> None:
    empty = ffi.new("ap_table *")
    assert lib.ap_table_find(empty, b"a", 1) == -1


@pytest.mark.parametrize("slot", [ROWS + 1, 1 << 31, (1 << 32) - 1])
def test_slots_that_point_nowhere(slot: int) -> None:
    table = topics()
    publish(table, "a")
    for at in range(int(table.table.slots_max)):
        slots(table)[at] = slot
    assert table.find("a") == -1
    assert lib.ap_table_claim(table.table, b"b", 1) == lib.AP_EFULL


def test_a_table_all_of_whose_slots_are_taken_is_searched_once() -> None:
    table = topics()
    publish(table, "a")
    for at in range(int(table.table.slots_max)):
        slots(table)[at] = 1
    assert table.find("a") == 0 and table.find("b") == -1
    assert lib.ap_table_claim(table.table, b"b", 1) == lib.AP_EFULL


def test_a_crash_between_row_and_slot_wastes_a_row() -> None:
    table = topics()
    publish(table, "a")
    table.table.count += 1
    assert publish(table, "b") == 2
    assert (table.find("a"), table.find("b")) == (0, 2)


def test_rows_that_are_none() -> None:
    table, copy = topics(), ffi.new("ap_topic *")
    size = ffi.sizeof("ap_topic")
    assert lib.ap_table_read(table.table, 0, copy, size) == 0
    assert lib.ap_table_read(table.table, ROWS, copy, size) == lib.AP_EINVAL
    assert lib.ap_table_read(table.table, 0, copy, size + 1) == lib.AP_EINVAL
    lib.ap_table_commit(table.table, ROWS, 1)
    assert table.version == 0


def test_keys_fill_every_place_and_no_more() -> None:
    rows = np.zeros(8, dtype("ap_offset"))
    memory = ffi.cast("void *", rows.ctypes.data)
    size = rows.itemsize
    keys = [0xDEADBEEF << i for i in range(8)]
    places = [lib.ap_keyed_claim(memory, 8, size, key) for key in keys]
    assert sorted(places) == list(range(8))
    assert [lib.ap_keyed_find(memory, 8, size, key) for key in keys] == places
    assert [lib.ap_keyed_claim(memory, 8, size, key) for key in keys] == places
    assert lib.ap_keyed_claim(memory, 8, size, 1) == lib.AP_EFULL
    assert lib.ap_keyed_find(memory, 8, size, 1) == -1
    assert lib.ap_keyed_find(memory, 8, size, 0) == -1
    assert lib.ap_keyed_claim(memory, 8, size, 0) == lib.AP_EFULL


def test_a_reader_beside_the_writer_sees_whole_rows_of_the_right_name() -> None:
    """Outcomes allowed: no row yet, or one whose numbers were all written together."""
    count = 4096
    table = topics(rows_max=count)
    stop, wrong = threading.Event(), list[str]()

    def look() -> None:
        reader = TopicTable(table._region)
        at = 0
        while not stop.is_set():
            at = (at + 1) % count
            row = reader.find(f"topic-{at}")
            if row >= 0 and reader.name(row) != f"topic-{at}":
                wrong.append(f"topic-{at} is row {row}")
            copy = reader.read(row) if row >= 0 else None
            if copy is not None and len({copy.perm, copy.flags, copy.queue_base}) != 1:
                wrong.append(f"topic-{at} is torn")

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(count):
        publish(table, f"topic-{number}", number)
        publish(table, f"topic-{number // 2}", number)
    stop.set()
    thread.join()
    assert wrong == []
