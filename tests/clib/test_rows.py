"""rows.c: one ConsumeQueue row a record, where it belongs, as consume_queue.py lays it out."""

from typing import Any

import numpy as np
import pytest

from appliance.commitlog.consume_queue import UNIT, UNIT_SIZE
from appliance.commitlog.record import tags_code
from clib import ffi, lib
from tests.clib.sends import KEY, Sends
from tools.fuzz_frames import batch_item


def expand(sends: Sends, first: int, last: int, *, most: int = 32) -> tuple[int, list[Any]]:
    """What ap_rows_expand returns, and the rows."""
    out, slots = ffi.new("ap_row[]", most), ffi.new("int32_t[]", [70, 71, 72])
    send, done = sends.send.header, sends.done.header
    count = int(lib.ap_rows_expand(send, done, first, last, slots, out, most))
    return count, [ffi.new("ap_row *", out[i])[0] for i in range(max(count, 0))]


def two_entries() -> Sends:
    """A single message, then a batch of three."""
    sends = Sends()
    connection = sends.engine.connect()
    body = (
        batch_item(b"a" * 9, b"TAGS\x01x\x02") + batch_item(b"b") + batch_item(b"cc", b"TAGS\x01y")
    )
    single = sends.message(connection, b"one", i="TAGS\x01z\x02" + KEY)
    assert sends.put(single, sends.message(connection, body, m="true")) == 2
    sends.store(0, physical=1000, offset=5)
    sends.store(1, physical=5000, offset=40)
    sends.done.entries["queue_row"][1] = 2
    return sends


def test_one_row_for_each_record() -> None:
    sends = two_entries()
    count, rows = expand(sends, 0, 2)
    assert count == 4
    sizes, at = [], 0
    data = sends.records(1)
    while at < len(data):
        sizes.append(int.from_bytes(data[at : at + 4]))
        at += sizes[-1]
    assert [row.size for row in rows] == [len(sends.records(0)), *sizes]
    assert [row.physical_offset for row in rows] == [
        *(1000, 5000),
        *(5000 + sizes[0], 5000 + sizes[0] + sizes[1]),
    ]
    assert [row.queue_offset for row in rows] == [5, 40, 41, 42]
    assert [row.tags_code for row in rows] == [tags_code("z"), tags_code("x"), 0, tags_code("y")]
    assert [(row.queue_row, row.slot) for row in rows] == [(0, 70), (2, 72), (2, 72), (2, 72)]


def test_refused_entries_have_no_row_and_full_is_told() -> None:
    sends = two_entries()
    assert expand(sends, 0, 2, most=3)[0] == lib.AP_EFULL
    assert expand(sends, 0, 2, most=4)[0] == 4
    sends.done.entries["code"][0] = 14
    count, rows = expand(sends, 0, 2)
    assert (count, rows[0].queue_offset) == (3, 40)


@pytest.mark.parametrize(
    ("position", "field", "value"),
    [(0, "arena_at", (1 << 20) - 8), (0, "record_count", 3), (1, "record_count", 1 << 17)],
)
def test_entries_that_lie(position: int, field: str, value: int) -> None:
    sends = two_entries()
    sends.entry(position)[field] = value
    assert expand(sends, position, position + 1, most=1 << 18)[0] == lib.AP_EINVAL


def test_units_as_they_lie_in_a_queue() -> None:
    _, rows = expand(two_entries(), 0, 2)
    array = ffi.new("ap_row[]", len(rows))
    for place, row in zip(array, rows, strict=True):
        ffi.memmove(ffi.addressof(place), ffi.addressof(row), ffi.sizeof("ap_row"))
    file = np.zeros(8 * UNIT_SIZE, np.uint8)
    addresses = [file.ctypes.data + UNIT_SIZE * place for place in (0, 3, 4, 7)]
    lib.ap_rows_write(array, ffi.new("uint64_t[]", addresses), len(rows))
    units = file.view(UNIT)
    for place, row in zip((0, 3, 4, 7), rows, strict=True):
        assert units[place].tolist() == (row.physical_offset, row.size, row.tags_code)
    assert not units[[1, 2, 5, 6]]["size"].any()


class Columns:
    """The columns of three queues whose current files have four rows each."""

    def __init__(self) -> None:
        self.files = np.zeros((3, 4 * UNIT_SIZE), np.uint8)
        addresses = [self.files.ctypes.data + 4 * UNIT_SIZE * i for i in range(3)]
        self.parts = {
            "next_offset": ffi.new("int64_t[]", [10, 20, 30]),
            "max_physical": ffi.new("int64_t[]", [100, 100, 100]),
            "address": ffi.new("uint64_t[]", addresses),
            "first_row": ffi.new("int64_t[]", [8, 20, 30]),
            "end_row": ffi.new("int64_t[]", [12, 24, 34]),
            "used": ffi.new("int64_t[]", 3),
            "dirty": ffi.new("uint8_t[]", 3),
        }
        self.slots = ffi.new("ap_slots *", self.parts)

    def follow(self, *rows: tuple[int, int, int]) -> int:
        """Rows of (slot, queue offset, physical offset), 50 bytes each."""
        array = ffi.new("ap_row[]", len(rows))
        for place, (slot, offset, physical) in zip(array, rows, strict=True):
            place.slot, place.queue_offset, place.physical_offset = slot, offset, physical
            place.size, place.tags_code = 50, -slot
        return int(lib.ap_rows_follow(self.slots, array, len(rows), 77))


def test_rows_that_simply_follow_are_written() -> None:
    columns = Columns()
    assert columns.follow((0, 10, 100), (1, 20, 150), (0, 11, 200)) == 3
    units = columns.files.view(UNIT)
    assert units[0][2:].tolist() == [(100, 50, 0), (200, 50, 0)]
    assert units[1][0].tolist() == (150, 50, -1)
    assert list(columns.parts["next_offset"]) == [12, 21, 30]
    assert list(columns.parts["max_physical"]) == [250, 200, 100]
    assert list(columns.parts["used"]) == [77, 77, 0] and list(columns.parts["dirty"]) == [1, 1, 0]


def test_the_first_row_that_does_not_follow_stops() -> None:
    good = (1, 20, 100)
    stops = {
        "a gap": (0, 11, 300),
        "a repeat": (0, 9, 300),
        "what is there already": (0, 10, 50),
        "behind the file": (2, 34, 300),
    }
    for name, row in stops.items():
        columns = Columns()
        columns.parts["next_offset"][2] = 34
        assert columns.follow(good, row, good) == 1, name
        assert not columns.files[[0, 2]].any(), name
    columns = Columns()
    columns.parts["address"][0] = 0
    assert columns.follow((0, 10, 300)) == 0


def test_readers_are_shown_each_queue_s_end() -> None:
    _, rows = expand(two_entries(), 0, 2)
    array, queues = ffi.new("ap_row[]", len(rows)), ffi.new("ap_queue[]", 3)
    for place, row in zip(array, rows, strict=True):
        ffi.memmove(ffi.addressof(place), ffi.addressof(row), ffi.sizeof("ap_row"))
    lib.ap_rows_show(queues, array, len(rows))
    assert [queue.max for queue in queues] == [6, 0, 43]
