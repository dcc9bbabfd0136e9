"""append.py: against a log that is written one record at a time, and with a death at every step."""

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance import failpoint
from appliance.commitlog.append import BLANK_SIZE
from appliance.commitlog.record import blank, stamp
from tests.commitlog.bench import Bench
from tests.fakes.world_parts import Answer, killed_at

SIZE = 1024
"""Of a log file here."""
BARE = 92
"""Bytes of a record without a body whose topic has one letter."""
PLACES = [place for place in failpoint.PLACES if place.startswith("append.")]
ILLEGAL, REFUSED = 13, 14


@dataclass
class OneByOne:
    """The log as Apache writes it under its lock: an entry after the other, a record at a time."""

    data: bytearray = field(default_factory=bytearray)
    end: int = 0
    now_ms: int = 0
    following: Counter[tuple[str, int]] = field(default_factory=Counter)

    def append(self, topic: str, queue_id: int, records: Iterable[bytes]) -> tuple[int, int]:
        """(physical offset, queue offset) of the first of an entry's records."""
        records = list(records)
        left = SIZE - self.end % SIZE
        if sum(map(len, records)) + BLANK_SIZE > left:
            self._put(blank(left))
            self.end += left - BLANK_SIZE
        first = self.end, self.following[topic, queue_id]
        for record in records:
            self._put(self._stamped(record, self.following[topic, queue_id]))
            self.following[topic, queue_id] += 1
        return first

    def _put(self, data: bytes) -> None:
        files = -(-(self.end + len(data)) // SIZE)
        self.data += bytes(max(files * SIZE - len(self.data), 0))
        self.data[self.end : self.end + len(data)] = data
        self.end += len(data)

    def _stamped(self, record: bytes, queue_offset: int) -> bytes:
        stamped = bytearray(record)
        stamp(
            memoryview(stamped),
            queue_offset=queue_offset,
            physical_offset=self.end,
            store_timestamp=self.now_ms,
        )
        return bytes(stamped)


@dataclass
class Both:
    """A bench and the model beside it."""

    bench: Bench
    model: OneByOne = field(default_factory=OneByOne)
    waiting: list[list[tuple[str, int, list[bytes]]]] = field(default_factory=lambda: [[], []])

    def send(self, ring: int, topic: str, queue_id: int, sizes: list[int]) -> None:
        bodies = [bytes([65 + number % 26]) * size for number, size in enumerate(sizes)]
        records = self.bench.producers[ring].send(topic, *bodies, queue_id=queue_id)
        self.waiting[ring].append((topic, queue_id, records))

    def append(self, ring: int, now_ms: int) -> None:
        """Appends what waits in a ring on both sides, and compares the answers."""
        if not self.waiting[ring]:
            assert self.bench.append(ring, now_ms) == 0
            return
        self.model.now_ms = max(self.model.now_ms, now_ms)
        expected = [self.model.append(*sent) for sent in self.waiting[ring]]
        assert self.bench.append(ring, now_ms) == len(expected)
        self.bench.show()
        answers = self.bench.producers[ring].answers()
        assert [(a.physical_offset, a.queue_offset) for a in answers] == expected
        assert {(a.code, a.store_timestamp) for a in answers} == {(0, self.model.now_ms)}
        self.waiting[ring].clear()

    def compare(self) -> None:
        """The bytes of the log, and where each queue goes on."""
        memory = self.bench.memory
        assert b"".join(self.bench.log()) == bytes(self.model.data)
        assert memory.watermarks.appended == self.model.end
        for (topic, queue_id), following in self.model.following.items():
            assert memory.queues.next(memory.row(topic, queue_id)) == following
            assert memory.max(topic, queue_id) == following


ENTRIES = st.tuples(
    st.sampled_from([("T", 0), ("T", 1), ("U", 0)]),
    st.one_of(
        st.lists(st.integers(1, 200), min_size=1, max_size=3),
        st.sampled_from([BLANK_SIZE - 1, BLANK_SIZE, BLANK_SIZE + 1]),
    ),
)
"""Where to, and the sizes of the bodies, or how much of the file a single record is to leave."""
BATCHES = st.tuples(st.integers(0, 1), st.lists(ENTRIES, max_size=12), st.integers(0, 1000))


@settings(max_examples=120, deadline=None)
@given(st.lists(BATCHES, min_size=1, max_size=10))
def test_any_batches_lie_as_if_appended_one_by_one(
    batches: list[tuple[int, list[tuple[tuple[str, int], list[int] | int]], int]],
) -> None:
    with Bench(log_file_size=SIZE) as bench:
        bench.memory.topic("T")
        bench.memory.topic("U", 1)
        both = Both(bench)
        for ring, entries, now_ms in batches:
            for (topic, queue_id), wanted in entries:
                if isinstance(wanted, int):
                    both.append(ring, now_ms)
                    left = SIZE - both.model.end % SIZE
                    wanted = [max(1, min(left - wanted, SIZE - BLANK_SIZE) - BARE)]
                both.send(ring, topic, queue_id, wanted)
            both.append(ring, now_ms)
        both.compare()


@pytest.mark.parametrize(("more", "files"), [(-1, 1), (0, 1), (1, 2)])
def test_a_record_fits_when_it_leaves_eight_bytes(more: int, files: int) -> None:
    with Bench(log_file_size=SIZE) as bench:
        bench.memory.topic("T")
        both = Both(bench)
        both.send(0, "T", 0, [300])
        both.send(0, "T", 0, [SIZE - BARE - 300 - BARE - BLANK_SIZE + more])
        both.append(0, 5)
        assert len(bench.log()) == files
        both.send(0, "T", 0, [1])
        both.append(0, 5)
        assert len(bench.log()) == 2
        both.compare()


def test_what_the_end_of_a_file_says(bench: Bench) -> None:
    size = bench.log_file_size
    bench.producers[0].send("T", bytes(size - 200))
    bench.append()
    bench.producers[0].send("T", bytes(200))
    bench.append()
    first, second = bench.log()
    left = 200 - BARE
    assert first[-left:] == blank(left) + bytes(left - BLANK_SIZE)
    assert second[:4] == (200 + BARE).to_bytes(4)
    assert bench.memory.watermarks.appended == size + 200 + BARE


def test_what_no_file_can_hold_is_refused_alone(bench: Bench) -> None:
    producer, most = bench.producers[0], bench.log_file_size - BARE - BLANK_SIZE
    for size in (1, most + 1, most):
        producer.send("T", bytes(size))
    bench.append()
    bench.show()
    first, second, third = producer.answers()
    assert [answer.code for answer in (first, second, third)] == [0, ILLEGAL, 0]
    assert (third.physical_offset, third.queue_offset) == (bench.log_file_size, 1)
    assert len(bench.queue("T")) == 2


def test_store_timestamps_never_decrease(bench: Bench) -> None:
    for now_ms in (50, 40, 60):
        bench.producers[0].send("T", b"x")
        bench.append(now_ms=now_ms)
        if now_ms == 40:
            bench.show()
            bench.restart()
            bench.appender.last_timestamp = bench.store.recovered.last_store_timestamp
    bench.show()
    assert [answer.store_timestamp for answer in bench.producers[0].answers()] == [50, 50, 60]


# Binding ------------------------------------------------------------------------------------------


def test_a_bind_entry_shows_queues_and_stores_nothing(bench: Bench) -> None:
    memory, coordinator = bench.memory, bench.producers[1]
    coordinator.send("U", b"x")
    coordinator.bind("T", 2)
    coordinator.send("U", b"y")
    assert bench.append(1) == 3
    bench.show()
    answers = coordinator.answers()
    assert [answer.code for answer in answers] == [0, 0, 0]
    assert [answers[0].queue_offset, answers[2].queue_offset] == [0, 1]
    assert memory.watermarks.appended == 2 * (BARE + 1)
    assert memory.queues.offsets["bound"][:4].tolist() == [1, 1, 1, 0]


def test_sends_to_rows_that_moved_go_on_where_the_queue_was(bench: Bench) -> None:
    memory, producer = bench.memory, bench.producers[0]
    old = memory.row("T")
    producer.send("T", b"a")
    bench.append()
    memory.topic("T", 4)
    producer.send("T", b"b", row=old)
    memory.topic("T", 6)
    producer.send("T", b"c", row=old)
    producer.send("T", b"d")
    bench.append()
    bench.show()
    assert [answer.queue_offset for answer in producer.answers()] == [0, 1, 2, 3]
    assert (memory.queues.next(memory.row("T")), memory.max("T")) == (4, 4)
    assert len(bench.queue("T")) == 4


# Deaths -------------------------------------------------------------------------------------------


def play(bench: Bench, place: str = "", count: int = 0) -> tuple[list[bytes], list[Answer]]:
    """A history of two rings over several files, with one death in it: the log and the answers."""
    answers: list[Answer] = []
    history = [(1, 300, 200), (0, 500, 1), (1, 700, 1), (0, 1, 900), (0, 100, 50)]
    for turn, (ring, *sizes) in enumerate(history):
        producer = bench.producers[ring]
        for number, size in enumerate(sizes):
            producer.send("T", bytes(size), queue_id=number)
        producer.send("U", b"1", b"22", b"333")
        if turn == 2 and place:
            with killed_at(place, count):
                bench.append(ring, now_ms=turn)
            bench.restart()
        bench.append(ring, now_ms=turn)
        bench.show()
        answers += producer.answers()
    return bench.log(), answers


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("place", PLACES)
def test_after_a_death_the_log_is_the_same_to_the_byte(place: str, count: int) -> None:
    with Bench(log_file_size=SIZE) as undisturbed, Bench(log_file_size=SIZE) as killed:
        for bench in (undisturbed, killed):
            bench.memory.topic("T")
            bench.memory.topic("U", 1)
        assert play(killed, place, count) == play(undisturbed)
        assert killed.queue("T", 0) == undisturbed.queue("T", 0)
        assert killed.queue("U") == undisturbed.queue("U")


def test_an_open_journal_is_done_again_however_often_its_writers_die(bench: Bench) -> None:
    bench.producers[0].send("T", b"a", b"b")
    with killed_at("append.journaled"):
        bench.append()
    for place in ("append.copied", "append.counted", "append.closed"):
        with killed_at(place):
            bench.restart()
    bench.restart()
    bench.show()
    (answer,) = bench.producers[0].answers()
    assert (answer.physical_offset, answer.queue_offset) == (0, 0)
    assert len(bench.queue("T")) == 2 == bench.memory.queues.next(bench.memory.row("T"))
    assert not bench.appender.redo()


# No room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["open_map", "allocate", "sync"])
def test_sends_are_refused_while_no_file_can_be_had(bench: Bench, place: str) -> None:
    producer, size = bench.producers[0], bench.log_file_size
    producer.send("T", bytes(size - 200))
    bench.append()
    end = bench.memory.watermarks.appended
    bench.disk.fail(errno.ENOSPC, on=place)
    producer.send("T", bytes(300))
    producer.send("T", b"small")
    bench.append()
    bench.show()
    assert [answer.code for answer in producer.answers()] == [0, REFUSED, REFUSED]
    assert bench.memory.watermarks.appended == end and len(bench.log()) == 1
    assert "No space" in bench.appender.refusal
    producer.send("T", bytes(300))
    bench.append()
    bench.show()
    (answer,) = producer.answers()
    assert (answer.code, answer.physical_offset, answer.queue_offset) == (0, size, 1)


def test_a_full_disk_takes_what_fits_into_the_file_that_is_there(bench: Bench) -> None:
    producer = bench.producers[0]
    producer.send("T", b"x")
    bench.append()
    bench.show()
    bench.disk.capacity = bench.disk.used()
    producer.send("T", bytes(3000))
    producer.send("T", bytes(3000))
    producer.send("T", b"y")
    bench.append()
    bench.show()
    assert [answer.code for answer in producer.answers()] == [0, 0, REFUSED, REFUSED]
    producer.send("T", b"z")
    bench.append()
    bench.show()
    assert [answer.code for answer in producer.answers()] == [0]


def test_refused_entries_stay_refused_after_a_death(bench: Bench) -> None:
    producer = bench.producers[0]
    bench.disk.fail(errno.ENOSPC, on="allocate")
    producer.send("T", b"x")
    bench.append()
    bench.restart()
    bench.show()
    assert [answer.code for answer in producer.answers()] == [REFUSED]
