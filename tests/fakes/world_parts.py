"""What the tests of the hot path stand on: shared memory as a coordinator fills it, and producers.

Runs in: tests.
Owns: regions of private memory; they outlive the writers and frontends that a test kills.
Fails: AssertionError where a ring is full that a test takes to have room.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from appliance import failpoint
from appliance import heritage as heritages
from appliance.commitlog.consume_queue import UNIT_SIZE
from appliance.commitlog.disk import MappedMemory
from appliance.commitlog.flush import Outcome
from appliance.commitlog.record import Record, build, tags_code
from appliance.config import Broker, Config, Flush, Limits, Store
from appliance.ring.region import PrivateSegments
from appliance.ring.ring import Ring
from appliance.ring.tables import (
    GROUP_CONSUME_ENABLE,
    TOPIC_PULL,
    TOPIC_SEND,
    GroupTable,
    OffsetTable,
    QueueTable,
    SubscriptionTable,
    TopicTable,
)
from appliance.ring.watermarks import Watermarks
from clib import lib
from tests.fakes.fork import Killed

ROOT = "/store"
LOG_FILE_SIZE = 4096
ROW_COUNT = 10
"""Of a queue file."""

_INDEX = struct.Struct("=IIq")
"""Behind the records of a batch, one each: size, 0, tags code."""


class Memory:
    """The shared memory of one appliance, with the tables' writing ends."""

    def __init__(
        self,
        *,
        flush: Flush = "async",
        frontends: int = 1,
        log_file_size: int = LOG_FILE_SIZE,
        row_count: int = ROW_COUNT,
    ) -> None:
        store = Store(
            root=ROOT,
            flush=flush,
            commitlog_file_size=log_file_size,
            consumequeue_entries=row_count,
        )
        config = Config(Broker(frontends=frontends, nameservers=()), store=store)
        sizes = log_file_size, row_count * UNIT_SIZE
        self.heritage = heritages.create(PrivateSegments(), config, Limits.small(), sizes)
        self.watermarks = Watermarks(self.heritage.watermarks)
        self.topics = TopicTable(self.heritage.topics)
        self.groups = GroupTable(self.heritage.groups)
        self.subscriptions = SubscriptionTable(self.heritage.subscriptions)
        self.offsets = OffsetTable(self.heritage.offsets)
        self.queues = QueueTable(self.heritage.queues)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heritage.doorbells.close()

    def topic(
        self, name: str, queue_count: int = 2, *, flags: int = TOPIC_SEND | TOPIC_PULL
    ) -> int:
        """Makes a topic, or gives it so many queues; its row. Old queue rows lead to the new."""
        known = self.topics.read(self.topics.find(name)) if self.topics.find(name) >= 0 else None
        old_base, old_count = (known.queue_base, known.read_queues) if known else (0, 0)
        row = self._publish(name, 0, 0, 0)
        base = self.queues.allocate(row, queue_count)
        self.queues.move(old_base, old_count, base)
        return self._publish(name, base, queue_count, flags)

    def _publish(self, name: str, base: int, count: int, flags: int) -> int:
        return self.topics.publish(
            name,
            queue_base=base,
            read_queues=count,
            write_queues=count,
            perm=6,
            flags=flags,
            system_flag=0,
        )

    def group(self, name: str, *, flags: int = GROUP_CONSUME_ENABLE) -> int:
        """Makes a subscription group; its row."""
        return self.groups.publish(name, flags=flags)

    def row(self, topic: str, queue_id: int = 0) -> int:
        """The queue table's row of a queue."""
        found = self.topics.find(topic)
        assert found >= 0, f"no topic {topic}"
        return int(self.topics.rows["queue_base"][found]) + queue_id

    def max(self, topic: str, queue_id: int = 0) -> int:
        """The queue offset before which readers may see a queue's rows."""
        return self.queues.max(self.row(topic, queue_id))


class Answer(NamedTuple):
    """What the writer says to one entry."""

    position: int
    code: int
    physical_offset: int
    queue_offset: int
    store_timestamp: int


class Producer:
    """Who sends into one pair of rings: a frontend, or (the last pair) the coordinator."""

    def __init__(self, memory: Memory, number: int = 0) -> None:
        self._memory = memory
        self.ring = Ring(memory.heritage.send[number], "ap_send")
        self.done = Ring(memory.heritage.done[number], "ap_done")
        self.ring.freed_by(self.done)

    def send(
        self, topic: str, *bodies: bytes, queue_id: int = 0, row: int = -1, tags: str = ""
    ) -> list[bytes]:
        """Hands over one entry, a batch where there are more bodies; its records, unstamped.

        `row`: of the queue table, where it is not the topic's present one.
        """
        records = [build(Record(topic, body, queue_id=queue_id)) for body in bodies]
        data = b"".join(records)
        batch = len(records) > 1
        self._push(
            data + (_index(records, tags) if batch else b""),
            record_size=len(data),
            record_count=len(records),
            queue_index=row if row >= 0 else self._memory.row(topic, queue_id),
            kind=lib.AP_SEND,
            flags=lib.AP_BATCH if batch else 0,
            tags_code=tags_code(tags),
            queue_id=queue_id,
        )
        return records

    def bind(self, topic: str, count: int) -> None:
        """Asks the writer to show the offsets of a topic's queues."""
        self._push(b"", record_count=count, queue_index=self._memory.row(topic), kind=lib.AP_BIND)

    def _push(self, data: bytes, **fields: int) -> None:
        unset = dict.fromkeys(("record_size", "flags", "tags_code", "queue_id", "connection"), 0)
        assert self.ring.push(data, **{**unset, **fields}), "the ring is full"

    def answers(self) -> list[Answer]:
        """What the writer has answered since the last call."""
        first, last = self.done.poll()
        answers = [_answer(position, self.done) for position in range(first, last)]
        self.done.release(last)
        return answers


def _index(records: Sequence[bytes], tags: str) -> bytes:
    size = sum(len(record) for record in records)
    rows = (_INDEX.pack(len(record), 0, tags_code(tags)) for record in records)
    return bytes(-size % 8) + b"".join(rows)


def _answer(position: int, done: Ring) -> Answer:
    entry: Any = done.entries[position & done.mask]
    assert int(entry["sequence"]) == position
    return Answer(position, *(int(entry[name]) for name in _ANSWERED))


_ANSWERED = ("code", "physical_offset", "queue_offset", "store_timestamp")


class HandSyncer:
    """Implements commitlog.flush.Syncer: a sync ends when the test says how."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """Names of the files."""
        self.stopped = False
        self._outcome: Outcome | None = None

    def ask(self, memory: MappedMemory) -> None:
        self.asked.append(Path(memory.path).name)

    def poll(self) -> Outcome | None:
        outcome, self._outcome = self._outcome, None
        return outcome

    def stop(self) -> None:
        self.stopped = True

    def end(self, error: int = 0, took_ns: int = 7) -> None:
        """The sync under way has ended."""
        self._outcome = Outcome(error, took_ns)


@contextmanager
def killed_at(place: str, count: int = 1) -> Iterator[None]:
    """The process that works in this block dies when it passes a place for the `count`-th time."""
    assert place in failpoint.PLACES
    passed = 0

    def die(name: str) -> None:
        nonlocal passed
        passed += name == place
        if passed == count and name == place:
            raise Killed(place)

    failpoint.arm(die)
    try:
        yield
    except Killed:
        return
    finally:
        failpoint.arm(None)
    raise AssertionError(f"{place} was passed {passed} times, not {count}")


@contextmanager
def watched(seen: list[str]) -> Iterator[None]:
    """Notes the places that are passed in this block."""
    failpoint.arm(seen.append)
    try:
        yield
    finally:
        failpoint.arm(None)
