"""append.c: offsets as a plain count gives them, records in the log as record.py stamps them."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.commitlog.record import build, parse
from clib import ffi, lib
from tests.clib.sends import Sends, stamped
from tools.fuzz_frames import batch_item

FILE_BEGIN = 1 << 40
ROWS = 8


class Log:
    """A file of the log, the queue table's places and the writer's own next offsets."""

    def __init__(self, sends: Sends, *, size: int = 1 << 16) -> None:
        self.sends, self.size = sends, size
        self.file = ffi.new("uint8_t[]", size)
        self.places = ffi.new("ap_queue_place[]", ROWS)
        for place in self.places:
            place.moved_to = -1
        self.following = ffi.new("int64_t[]", [10 * row for row in range(ROWS)])
        self.extent = ffi.new("ap_extent *")

    def assign(self, first: int, last: int, *, begin: int = FILE_BEGIN, room: int = 1 << 16) -> int:
        self.extent.begin, self.extent.room, self.extent.timestamp = begin, room, 99
        send, done = self.sends.send.header, self.sends.done.header
        places, following = self.places, self.following
        return int(lib.ap_assign(send, done, first, last, places, following, self.extent))

    def append(
        self, first: int, last: int, *, size: int | None = None, begin: int = FILE_BEGIN
    ) -> int:
        send, done = self.sends.send.header, self.sends.done.header
        length = self.size if size is None else size
        return int(lib.ap_append(send, done, first, last, self.file, begin, length))

    def bytes(self, size: int) -> bytes:
        return bytes(ffi.buffer(self.file, size))

    def answer(self, position: int) -> tuple[int, int, int]:
        """(physical offset, queue offset, queue row)."""
        done = self.sends.done.entries[position & self.sends.done.mask]
        return int(done["physical_offset"]), int(done["queue_offset"]), int(done["queue_row"])


def messages(sends: Sends, sizes: list[int]) -> list[Any]:
    """Requests: a size below 0 is a batch of that many."""
    connection = sends.engine.connect()
    made = []
    for size in sizes:
        body = bytes(size) if size > 0 else batch_item(b"item") * -size
        made.append(sends.message(connection, body, m="true" if size < 0 else "false"))
    return made


sizes = st.integers(1, 900) | st.integers(-5, -1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(sizes, st.integers(0, ROWS - 1)), min_size=1, max_size=14))
def test_offsets_and_bytes_of_any_batch(parts: list[tuple[int, int]]) -> None:
    sends = Sends()
    log, rows = Log(sends), [row for _, row in parts]
    assert sends.put(*messages(sends, [size for size, _ in parts]), rows=rows) == len(parts)
    assert log.assign(0, len(parts)) == len(parts)
    expected, following = b"", [10 * row for row in range(ROWS)]
    for position, (_, row) in enumerate(parts):
        physical = FILE_BEGIN + len(expected)
        assert log.answer(position) == (physical, following[row], row)
        data, at = sends.records(position), 0
        for _ in range(int(sends.entry(position)["record_count"])):
            size = int.from_bytes(data[at : at + 4])
            physical = FILE_BEGIN + len(expected)
            record = data[at : at + size]
            expected += stamped(record, physical=physical, offset=following[row], timestamp=99)
            following[row] += 1
            at += size
    assert list(log.following) == following
    assert log.extent.end == FILE_BEGIN + len(expected)
    assert log.append(0, len(parts)) == len(expected)
    assert log.bytes(len(expected)) == expected
    assert log.append(0, len(parts)) == len(expected), "once more changes nothing"
    assert log.bytes(len(expected)) == expected
    queues = ffi.new("ap_queue[]", ROWS)
    for _ in range(2):
        lib.ap_advance(sends.send.header, sends.done.header, 0, len(parts), queues)
    assert [queues[row].next for row in rows] == [following[row] for row in rows]


def test_ipv6_hosts_are_stamped_at_their_places() -> None:
    sends = Sends(host="2001:db8::7")
    peer = bytes(range(16)) + (9).to_bytes(4)
    sends.put(sends.message(sends.engine.connect(peer=peer)))
    log = Log(sends)
    log.assign(0, 1)
    size = log.append(0, 1)
    record = parse(log.bytes(size))
    assert (record.queue_offset, record.physical_offset) == (0, FILE_BEGIN)
    assert (record.store_timestamp, record.born_host) == (99, peer)
    assert log.bytes(size) == build(record)


def test_what_does_not_fit_waits_for_the_next_file() -> None:
    sends = Sends()
    log = Log(sends)
    assert sends.put(*messages(sends, [500, 500, 500])) == 3
    size = int(sends.entry(0)["record_size"])
    assert log.assign(0, 3, room=2 * size) == 2
    assert log.extent.end == FILE_BEGIN + 2 * size and log.following[0] == 2
    assert log.assign(2, 3, room=size - 1) == lib.AP_EFULL
    assert log.assign(2, 3, room=size) == 1
    assert log.following[0] == 3


def test_rows_that_moved_are_followed_and_unbound_ones_reported() -> None:
    sends = Sends()
    log = Log(sends)
    assert sends.put(*messages(sends, [5, 5]), rows=[1, 2]) == 2
    log.places[1].moved_to = 4
    log.places[4].moved_to = 6
    log.following[6] = -1
    assert log.assign(0, 2) == lib.AP_EBIND and log.extent.missing == 6
    log.following[6] = 0
    log.following[2] = -1
    assert log.assign(0, 2) == 1, "the first one is bound"
    assert log.answer(0) == (FILE_BEGIN, 0, 6)
    assert log.assign(1, 2) == lib.AP_EBIND and log.extent.missing == 2


def test_a_request_to_bind_is_left_to_python() -> None:
    sends = Sends()
    log = Log(sends)
    sends.send.push(kind=lib.AP_BIND, queue_index=3, record_count=2)
    assert log.assign(0, 1) == lib.AP_EBIND and log.extent.missing == -1
    sends.store(0, physical=0, offset=0)
    assert log.append(0, 1) == 0


def test_refused_entries_are_not_copied() -> None:
    sends = Sends()
    log = Log(sends)
    assert sends.put(*messages(sends, [5, 5])) == 2
    sends.store(0, physical=FILE_BEGIN, offset=0, code=14)
    sends.store(1, physical=FILE_BEGIN + 8, offset=0)
    size = int(sends.entry(1)["record_size"])
    assert log.append(0, 2) == size
    assert log.bytes(8) == bytes(8) and parse(log.bytes(size + 8), 8).body == bytes(5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("record_size", 90),
        ("record_size", (1 << 32) - 1),
        ("record_count", 2),
        ("record_count", 0),
        ("arena_at", (1 << 20) - 64),
    ],
)
def test_entries_that_lie_touch_nothing_else(field: str, value: int) -> None:
    sends = Sends()
    log = Log(sends, size=4096)
    sends.put(*messages(sends, [300]))
    sends.store(0, physical=FILE_BEGIN, offset=0)
    sends.entry(0)[field] = value
    assert log.append(0, 1) == lib.AP_EINVAL


@pytest.mark.parametrize("physical", [FILE_BEGIN - 1, FILE_BEGIN + 4096, -(1 << 63), (1 << 63) - 1])
def test_places_outside_the_file(physical: int) -> None:
    sends = Sends()
    log = Log(sends, size=4096)
    sends.put(*messages(sends, [300]))
    sends.store(0, physical=physical, offset=0)
    assert log.append(0, 1) == lib.AP_EINVAL
    assert log.bytes(4096) == bytes(4096)


def test_the_last_byte_of_a_file() -> None:
    sends = Sends()
    sends.put(*messages(sends, [300]))
    size = int(sends.entry(0)["record_size"])
    log = Log(sends, size=size)
    sends.store(0, physical=FILE_BEGIN, offset=0)
    assert log.append(0, 1, size=size - 1) == lib.AP_EINVAL
    assert log.append(0, 1) == size
