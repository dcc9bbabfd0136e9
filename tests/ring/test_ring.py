"""Rings: what is published is seen once, in order, whole; a death on either side changes
nothing."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.ring import ring as rings
from appliance.ring.region import PrivateSegments, Region, RegionError
from appliance.ring.ring import Ring

CAPACITY, ARENA = 8, 256


def make(capacity: int = CAPACITY, arena: int = ARENA) -> Region:
    return rings.create(PrivateSegments(), "test", "ap_frame", capacity, arena)


def test_a_push_is_polled_with_its_bytes_and_fields() -> None:
    region = make()
    producer, consumer = Ring(region, "ap_frame"), Ring(region, "ap_frame")
    assert producer.push(b"hello", kind=3, connection=7, size=5)
    assert consumer.poll() == (0, 1)
    entry = consumer.entries[0]
    assert (int(entry["kind"]), int(entry["connection"])) == (3, 7)
    assert bytes(consumer.data(0, 5)) == b"hello"
    consumer.release(1)
    assert consumer.poll() == (1, 1)


def test_full_entries_are_refused_until_released() -> None:
    region = make()
    producer, consumer = Ring(region, "ap_frame"), Ring(region, "ap_frame")
    assert all(producer.push(b"", kind=i) for i in range(CAPACITY))
    assert not producer.push(b"")
    consumer.release(1)
    assert producer.push(b"")


def test_a_full_arena_is_refused_until_released() -> None:
    region = make()
    producer, consumer = Ring(region, "ap_frame"), Ring(region, "ap_frame")
    assert producer.push(bytes(200))
    assert not producer.push(bytes(100))
    consumer.release(1)
    assert producer.push(bytes(100))


def test_space_is_free_only_when_the_answers_are_released() -> None:
    ask, answer = make(), make()
    producer, consumer = Ring(ask, "ap_frame"), Ring(ask, "ap_frame")
    done = Ring(answer, "ap_frame")
    producer.freed_by(done)
    assert all(producer.push() for _ in range(CAPACITY))
    consumer.release(CAPACITY)
    assert not producer.push(), "consumed, but not answered"
    Ring(answer, "ap_frame").push()
    done.release(1)
    assert producer.push()


def test_a_region_of_another_kind_is_refused() -> None:
    region = make()
    region.verify()
    region.struct("ap_region").version += 1
    with pytest.raises(RegionError, match="not a region of this version"):
        region.verify()


def test_parts_that_wrap_are_whole() -> None:
    region = make()
    producer, consumer = Ring(region, "ap_frame"), Ring(region, "ap_frame")
    for i in range(CAPACITY):
        producer.push(kind=i)
    consumer.release(6)
    for i in range(CAPACITY, CAPACITY + 4):
        producer.push(kind=i)
    first, last = consumer.poll()
    assert consumer.part(first, last)["kind"].tolist() == list(range(6, 12))
    assert consumer.part(first, 8)["kind"].tolist() == [6, 7]
    assert consumer.part(8, last)["kind"].tolist() == [8, 9, 10, 11]


class Deaths(RuleBasedStateMachine):
    """Producer and consumer come and go at any time; a model says what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.region = make()
        self.producer, self.consumer = self._attach(), self._attach()
        self.waiting: list[bytes] = []
        self.seen = 0

    def _attach(self) -> Ring:
        return Ring(self.region, "ap_frame")

    @rule(data=st.binary(max_size=120))
    def push(self, data: bytes) -> None:
        if self.producer.push(data, size=len(data)):
            self.waiting.append(data)
        else:
            assert self.waiting, "an empty ring has room"

    @rule(data=st.binary(min_size=1, max_size=60))
    def die_before_publishing(self, data: bytes) -> None:
        entry_limit, arena_limit = self.producer.limits()
        head, at = self.producer.head, self.producer.arena_head[0]
        if head < entry_limit and at + 64 <= arena_limit:
            self.producer.entries["size"][head & self.producer.mask] = 12345
        self.producer = self._attach()

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, CAPACITY))
    def consume(self, count: int) -> None:
        first, last = self.consumer.poll()
        assert last - first == len(self.waiting)
        take = min(count, last - first)
        for position in range(first, first + take):
            entry = self.consumer.entries[position & self.consumer.mask]
            assert int(entry["sequence"]) == position == self.seen
            data = self.waiting.pop(0)
            assert bytes(self.consumer.data(position, int(entry["size"]))) == data
            self.seen += 1
        self.consumer.release(first + take)

    @rule()
    def the_consumer_dies(self) -> None:
        self.consumer = self._attach()

    @rule()
    def the_producer_dies(self) -> None:
        self.producer = self._attach()

    @invariant()
    def cursors_agree(self) -> None:
        assert self.consumer.poll() == (self.seen, self.seen + len(self.waiting))


TestDeaths = Deaths.TestCase
TestDeaths.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@given(st.lists(st.integers(0, ARENA), max_size=60))
def test_no_sequence_of_sizes_overlaps(sizes: list[int]) -> None:
    region = make()
    producer, consumer = Ring(region, "ap_frame"), Ring(region, "ap_frame")
    for number, size in enumerate(sizes):
        data = bytes([number % 251]) * size
        while not producer.push(data, size=size):
            consumer.release(consumer.tail + 1)
        for position in range(*consumer.poll()):
            entry = consumer.entries[position & consumer.mask]
            assert len(set(bytes(consumer.data(position, int(entry["size"]))))) <= 1
