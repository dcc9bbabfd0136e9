"""Tables in shared memory with one writing process: topics, groups, subscriptions, offsets and
queues.

Named rows keep their number for the life of the regions: a topic that is deleted and made again has
its old row.

Runs in: all read; the coordinator writes all but the queues' offsets, which are the writer's.
Owns: the layout of these regions.
Fails: TableFull when a limit of config.Limits is reached; the caller answers that the broker is
       full.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clib import ffi, lib

from appliance.ring.layout import address_of, dtype
from appliance.ring.region import Region, Segments

TABLE = dtype("ap_table").itemsize
PAGE = 4096

TOPIC_SEND, TOPIC_PULL = lib.AP_TOPIC_SEND, lib.AP_TOPIC_PULL
GROUP_CONSUME_ENABLE, GROUP_BROADCAST_ENABLE = (
    lib.AP_GROUP_CONSUME_ENABLE,
    lib.AP_GROUP_BROADCAST_ENABLE,
)
SUB_ALL, SUB_TAGS, SUB_OTHER = lib.AP_SUB_ALL, lib.AP_SUB_TAGS, lib.AP_SUB_OTHER
CODES_MAX = lib.AP_CODES_MAX
ROW_BITS = 20  # of a topic's and a group's number in a key
QUEUE_BITS = 22


class TableFull(RuntimeError):
    """No row is left; the message names the limit."""


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def create_named(segments: Segments, what: str, struct: str, rows_max: int) -> Region:
    """A table of rows found by name."""
    assert rows_max < 1 << ROW_BITS
    slots, row_size = _power_of_two(2 * rows_max), dtype(struct).itemsize
    region = segments.create(what, TABLE + 4 * slots + rows_max * row_size)
    head = region.struct("ap_table")
    head.rows_max, head.row_size, head.slots_max = rows_max, row_size, slots
    return region


def create_keyed(segments: Segments, what: str, struct: str, rows_max: int) -> Region:
    """A table of rows found by a 64-bit key; half empty at most."""
    count = _power_of_two(2 * rows_max)
    region = segments.create(what, PAGE + count * dtype(struct).itemsize)
    region.struct("ap_region").reserved[0] = count
    return region


def create_queues(segments: Segments, rows_max: int) -> Region:
    """Places (the coordinator's), then offsets (the writer's)."""
    size = dtype("ap_queue_place").itemsize + dtype("ap_queue").itemsize
    region = segments.create("queues", PAGE + rows_max * size)
    region.struct("ap_region").reserved[0] = rows_max
    return region


class NamedTable:
    """Rows of `struct` found by name; `rows` shows all of them (columns by field name)."""

    struct = "ap_topic"

    def __init__(self, region: Region) -> None:
        self._region = region  # the table is a pointer into it
        self.table = region.struct("ap_table")
        begin = TABLE + 4 * int(self.table.slots_max)
        self.rows = region.view(self.struct, begin, int(self.table.rows_max))
        self.names = self.rows["name"]
        self.pointer = ffi.cast(self.struct + " *", region.address + begin)
        self._copy = ffi.new(self.struct + " *")

    @property
    def version(self) -> int:
        """Moves with every change of any row."""
        return int(lib.ap_load(ffi.addressof(self.table, "version")))

    @property
    def count(self) -> int:
        """Rows ever used: numbers below this are rows."""
        return int(self.table.count)

    def find(self, name: str) -> int:
        """The row of a name, -1 when it never had one; a removed name keeps its row."""
        data = name.encode()
        return int(lib.ap_table_find(self.table, data, len(data)))

    def name(self, row: int) -> str:
        """The name of a row."""
        it = self.names[row]
        return bytes(it["name"][: int(it["name_size"])]).decode()

    def read(self, row: int) -> Any | None:
        """A consistent copy of a row (cffi struct, reused by the next call); None when it is not
        alive."""
        size = dtype(self.struct).itemsize
        return self._copy if lib.ap_table_read(self.table, row, self._copy, size) == 1 else None

    def remove(self, name: str) -> None:
        """The name is no longer there; its number stays reserved for it."""
        if self.find(name) >= 0:
            row = self._claim(name)
            self.rows["flags"][row] = 0
            lib.ap_table_commit(self.table, row, 0)

    def _claim(self, name: str) -> int:
        data = name.encode()
        row = int(lib.ap_table_claim(self.table, data, len(data)))
        if row < 0:
            raise TableFull(f"no row left for {name!r}: the limit is {int(self.table.rows_max)}")
        return row

    def _fill(self, name: str, **fields: int) -> int:
        row = self._claim(name)
        for field, value in fields.items():
            self.rows[field][row] = value
        lib.ap_table_commit(self.table, row, 1)
        return row


class TopicTable(NamedTable):
    """Topics: where their queues' rows begin, how many there are, what is allowed."""

    struct = "ap_topic"

    def publish(
        self,
        name: str,
        *,
        queue_base: int,
        read_queues: int,
        write_queues: int,
        perm: int,
        flags: int,
        system_flag: int,
    ) -> int:
        """Shows a topic, new or changed; returns its row."""
        return self._fill(
            name,
            queue_base=queue_base,
            read_queues=read_queues,
            write_queues=write_queues,
            perm=perm,
            flags=flags,
            system_flag=system_flag,
        )


class GroupTable(NamedTable):
    """Subscription groups: whether they may consume, and from which broker when they are slow."""

    struct = "ap_group"

    def publish(
        self,
        name: str,
        *,
        flags: int,
        slow_broker_id: int = 1,
        broker_id: int = 0,
        system_flag: int = 0,
    ) -> int:
        """Shows a group, new or changed; returns its row."""
        return self._fill(
            name,
            flags=flags,
            slow_broker_id=slow_broker_id,
            broker_id=broker_id,
            system_flag=system_flag,
        )


class KeyedTable:
    """Rows of `struct` found by key; a power of two of them."""

    struct = "ap_offset"

    def __init__(self, region: Region) -> None:
        size = dtype(self.struct).itemsize
        self.count = int(region.struct("ap_region").reserved[0])
        self.rows = region.view(self.struct, PAGE, self.count)
        self._memory = ffi.cast("void *", address_of(self.rows))
        self._size = size
        self._used = int((self.rows["key"] != 0).sum())

    def _find(self, key: int) -> int:
        return int(lib.ap_keyed_find(self._memory, self.count, self._size, key))

    def _claim(self, key: int) -> int:
        row = self._find(key)
        if row >= 0:
            return row
        if self._used >= self.count // 2:
            raise TableFull(f"no row left among {self.count // 2}")
        self._used += 1
        return int(lib.ap_keyed_claim(self._memory, self.count, self._size, key))


class Subscription(NamedTuple):
    """What a group asked of a topic. `codes` are the tags' hash codes, empty for all."""

    version: int
    kind: int
    codes: npt.NDArray[np.int32]


class SubscriptionTable(KeyedTable):
    """Subscriptions of (group, topic), for pulls that do not bring their own."""

    struct = "ap_subscription"

    @staticmethod
    def _key(group_row: int, topic_row: int) -> int:
        return (group_row + 1) << ROW_BITS | topic_row

    def put(
        self, group_row: int, topic_row: int, *, version: int, kind: int, codes: list[int]
    ) -> None:
        """Sets a subscription; more than CODES_MAX tags make it SUB_OTHER: the slow path reads
        it."""
        row = self.rows[self._claim(self._key(group_row, topic_row))]
        if len(codes) > CODES_MAX:
            kind, codes = SUB_OTHER, []
        row["sequence"] |= 1
        row["version"], row["kind"], row["code_count"] = version, kind, len(codes)
        row["codes"][: len(codes)] = codes
        row["sequence"] += 1

    def remove(self, group_row: int, topic_row: int) -> None:
        """The group no longer subscribes to the topic."""
        if self._find(self._key(group_row, topic_row)) >= 0:
            self.put(group_row, topic_row, version=0, kind=0, codes=[])

    def get(self, group_row: int, topic_row: int) -> Subscription | None:
        """The subscription; None when there is none, or it changes just now."""
        at = self._find(self._key(group_row, topic_row))
        if at < 0:
            return None
        row = self.rows[at].copy()
        if row["sequence"] & 1 or row["sequence"] != self.rows[at]["sequence"] or not row["kind"]:
            return None
        return Subscription(
            int(row["version"]), int(row["kind"]), row["codes"][: int(row["code_count"])]
        )


OFFSET_MAX = (1 << 63) - 2
"""What a row can hold: a client may commit any number of 64 bits."""


class OffsetTable(KeyedTable):
    """Consume offsets of (group, topic, queue): the next queue offset that the group reads."""

    struct = "ap_offset"

    @staticmethod
    def _key(group_row: int, topic_row: int, queue_id: int) -> int:
        assert 0 <= queue_id < 1 << QUEUE_BITS
        return ((group_row + 1) << ROW_BITS | topic_row) << QUEUE_BITS | queue_id

    def get(self, group_row: int, topic_row: int, queue_id: int) -> int:
        """The offset, -1 when none was committed."""
        at = self._find(self._key(group_row, topic_row, queue_id))
        return int(self.rows["offset"][at]) - 1 if at >= 0 else -1

    def put(self, group_row: int, topic_row: int, queue_id: int, offset: int) -> None:
        """Commits an offset, forwards or backwards; -1 removes it."""
        at = self._claim(self._key(group_row, topic_row, queue_id))
        # One aligned store; 0, a fresh row's value, means none.
        self.rows["offset"][at] = min(offset, OFFSET_MAX) + 1

    def remove(self, group_row: int, topic_row: int, queue_id: int) -> None:
        """Forgets an offset."""
        if self.get(group_row, topic_row, queue_id) >= 0:
            self.put(group_row, topic_row, queue_id, -1)

    def items(self) -> Iterator[tuple[int, int, int, int]]:
        """(group row, topic row, queue id, offset) of all that are committed."""
        for at in np.flatnonzero(self.rows["offset"] > 0).tolist():
            key = int(self.rows["key"][at])
            names = key >> QUEUE_BITS
            queue_id, topic_row = key & ((1 << QUEUE_BITS) - 1), names & ((1 << ROW_BITS) - 1)
            yield (names >> ROW_BITS) - 1, topic_row, queue_id, int(self.rows["offset"][at]) - 1


class QueueTable:
    """One row a queue of a topic: `places` says whose it is, `offsets` how far it goes."""

    def __init__(self, region: Region) -> None:
        place = dtype("ap_queue_place").itemsize
        self.rows_max = int(region.struct("ap_region").reserved[0])
        self.places = region.view("ap_queue_place", PAGE, self.rows_max)
        self.offsets = region.view("ap_queue", PAGE + self.rows_max * place, self.rows_max)
        self.pointer = ffi.cast("ap_queue *", address_of(self.offsets))
        self.used = int(np.count_nonzero(self.places["used"]))
        """Rows before this one are handed out."""

    def allocate(self, topic_row: int, count: int) -> int:
        """`count` fresh rows in a row for a topic's queues; the first one's number. TableFull."""
        base = self.used
        if base + count > self.rows_max:
            raise TableFull(
                f"no room for {count} queues: the limit is {self.rows_max} queues in all"
            )
        rows = self.places[base : base + count]
        rows["topic_row"], rows["queue_id"], rows["moved_to"] = topic_row, np.arange(count), -1
        rows["used"] = 1
        self.used += count
        return base

    def give_back(self, base: int) -> None:
        """The rows from `base` on are free again: nobody has heard of them yet."""
        self.places["used"][base : self.used] = 0
        self.used = base

    def move(self, old_base: int, old_count: int, new_base: int) -> None:
        """The topic's queues live in new rows now; the writer follows."""
        self.places["moved_to"][old_base : old_base + old_count] = np.arange(
            new_base, new_base + old_count
        )

    def next(self, row: int) -> int:
        """The queue offset that the next message gets."""
        return int(self.offsets["next"][row])

    def max(self, row: int) -> int:
        """Readers may see queue offsets before this."""
        return int(self.offsets["max"][row])

    def min(self, row: int) -> int:
        """The first queue offset whose record is still in the log."""
        return int(self.offsets["min"][row])
