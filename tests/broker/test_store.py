"""The coordinator's view of the store: only what readers may see."""

import pytest

from tests.broker.paper import Desk
from tests.broker.test_send import send


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    for _ in range(3):
        send(made)
    return made


def test_rows_and_records(desk: Desk) -> None:
    store = desk.coordinator.state.store
    assert store.bounds("T", 0) == (0, 3)
    unit = store.unit("T", 0, 1)
    assert unit is not None
    record = store.record(unit.physical_offset)
    assert record is not None
    assert len(record) == unit.size
    assert store.store_time("T", 0, 1) == desk.now.wall_ms
    assert store.ends("T").tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize("queue_offset", [-1, 3, 1 << 40])
def test_rows_that_are_not_there(desk: Desk, queue_offset: int) -> None:
    store = desk.coordinator.state.store
    assert store.unit("T", 0, queue_offset) is None
    assert store.store_time("T", 0, queue_offset) == -1


def test_what_is_not_shown_yet(desk: Desk) -> None:
    store = desk.coordinator.state.store
    row = desk.coordinator.state.topics.queue_row("T", 0)
    store._table.offsets["max"][row] = 1
    assert store.unit("T", 0, 0) is not None
    assert store.unit("T", 0, 1) is None


def test_young_queues(desk: Desk) -> None:
    store = desk.coordinator.state.store
    assert store.begin_in_memory("T", 0)
    assert not store.begin_in_memory("T", 1), "empty"
    row = desk.coordinator.state.topics.queue_row("T", 0)
    store._table.offsets["min"][row] = 1
    assert not store.begin_in_memory("T", 0), "its first message is gone"
    store._table.offsets["min"][row] = 0
    store._memory_size = 100
    assert not store.begin_in_memory("T", 0), "its first message is too old"


def test_what_has_expired(desk: Desk) -> None:
    store = desk.coordinator.state.store
    assert store.earliest_ms() == desk.now.wall_ms
    store.watermarks.move("expired", store.watermarks.appended)
    assert store.record(0) is None
    store.forget_expired()
    assert store.earliest_ms() == -1
