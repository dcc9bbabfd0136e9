"""reader.py: records between the watermarks, maps that come and go."""

import pytest

from appliance.commitlog.reader import LogReader
from appliance.commitlog.record import parse
from tests.commitlog.stores import Appending, Bounds, Opened, open_store
from tests.fakes.disk import FakeDisk


@pytest.fixture
def store() -> tuple[Opened, list[int]]:
    """A log of three files and the offsets of its records."""
    opened = open_store(FakeDisk(), "/store", file_size=4096)
    writer = Appending(opened)
    offsets = [writer.append("t", 0, b"x" * 200).physical_offset for _ in range(30)]
    return opened, [*offsets, writer.end]


def reader(opened: Opened, expired: int, dispatched: int) -> LogReader:
    bounds = Bounds(expired, dispatched)
    return LogReader(opened.disk, opened.paths.commitlog, file_size=4096, bounds=bounds)


def test_records_between_the_watermarks(store: tuple[Opened, list[int]]) -> None:
    opened, offsets = store
    log = reader(opened, offsets[3], offsets[20])
    for number, offset in enumerate(offsets):
        data = log.record_at(offset)
        assert (data is not None) == (3 <= number < 20)
        if data is not None:
            assert parse(data).queue_offset == number
            assert log.store_timestamp(offset) == parse(data).store_timestamp
    assert log.store_timestamp(offsets[20]) == -1


def test_nothing_but_records(store: tuple[Opened, list[int]]) -> None:
    opened, offsets = store
    log = reader(opened, 0, offsets[-1])
    assert log.record_at(-1) is None
    starts = set(offsets)
    for offset in range(offsets[-1]):
        assert (log.record_at(offset) is not None) == (offset in starts)


def test_maps_come_and_go(store: tuple[Opened, list[int]]) -> None:
    opened, offsets = store
    log = reader(opened, 0, offsets[-1])
    assert log.files() == []
    address = log.address_of(4096 + 5)
    assert log.files() == [(4096, 4096, address - 5)]
    assert log.address_of(1 << 30) == log.address_of(-1) == 0
    held = log.record_at(offsets[0])
    log.forget_before(4096)
    assert [first for first, _, _ in log.files()] == [4096]
    assert held is not None and parse(held).queue_offset == 0  # who holds bytes keeps them
    opened.log.remove_before(4096)
    assert log.record_at(offsets[0]) is None
    log.close()
    assert log.files() == []
