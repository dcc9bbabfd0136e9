"""mapped_file.py: files found, rolled, prepared, cut, removed and synced."""

import errno
import random
from pathlib import Path

import pytest

from appliance.commitlog.disk import RealDisk
from appliance.commitlog.files import StoreRefused
from appliance.commitlog.mapped_file import MappedFileQueue, found_file_size
from tests.fakes.disk import FakeDisk

SIZE = 8192


def fresh(disk: FakeDisk, count: int = 0) -> MappedFileQueue:
    disk.make_directories("/log")
    queue = MappedFileQueue(disk, "/log", SIZE)
    queue.load()
    for _ in range(count):
        queue.next_file()
    return queue


def names(*offsets: int) -> list[str]:
    return [f"{offset:020d}" for offset in offsets]


def test_files_are_named_by_their_first_offset() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 3)
    assert disk.listdir("/log") == names(0, SIZE, 2 * SIZE)
    assert (queue.first_offset, queue.end_offset) == (0, 3 * SIZE)
    assert [getattr(queue.file_at(o), "first_offset", None) for o in (0, SIZE - 1, SIZE)] == [
        0,
        0,
        SIZE,
    ]
    assert queue.file_at(3 * SIZE) is None and queue.file_at(-1) is None
    assert fresh(FakeDisk()).file_at(0) is None


def test_the_first_file_may_stand_anywhere() -> None:
    disk = FakeDisk()
    queue = fresh(disk)
    queue.next_file(5 * SIZE)
    assert disk.listdir("/log") == names(5 * SIZE) and queue.first_offset == 5 * SIZE


def test_load_finds_them_again() -> None:
    disk = FakeDisk()
    fresh(disk, 3)
    disk.make_directories("/log/folder")
    disk.remove(f"/log/{names(SIZE)[0]}")
    queue = fresh(disk)
    assert [file.first_offset for file in queue.files] == [0, 2 * SIZE]
    assert queue.file_at(SIZE) is None


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        (f"{SIZE:020d}", 100, "100 bytes"),
        (f"{SIZE + 1:020d}", SIZE, f"offset {SIZE + 1}"),
        ("store.log", SIZE, "20 digits"),
        ("1", SIZE, "20 digits"),
    ],
)
def test_load_refuses_what_does_not_fit(name: str, size: int, reason: str) -> None:
    disk = FakeDisk()
    fresh(disk, 1)
    disk.add(f"/log/{name}", bytes(size))
    with pytest.raises(StoreRefused, match=reason):
        fresh(disk)


def test_load_removes_an_empty_last_file() -> None:
    disk = FakeDisk()
    fresh(disk, 1)
    disk.add(f"/log/{SIZE:020d}", b"")
    assert len(fresh(disk).files) == 1 and disk.listdir("/log") == names(0)


def test_found_file_size() -> None:
    disk = FakeDisk()
    assert found_file_size(disk, ["/log"], 77) == 77
    fresh(disk)
    assert found_file_size(disk, ["/log"], 77) == 77
    fresh(disk, 1)
    assert found_file_size(disk, ["/nothing", "/log"], 77) == SIZE


def test_a_prepared_file_costs_nothing_and_is_durable() -> None:
    disk = FakeDisk()
    queue = fresh(disk)
    assert not queue.prepare_next()  # there is nothing to be ahead of
    queue.next_file()
    assert queue.prepare_next() and not queue.prepare_next()
    disk.operations.clear()
    file = queue.next_file()
    assert disk.operations == [] and file.first_offset == SIZE
    disk.power_cut(random.Random(0))
    assert len(fresh(disk).files) == 2


def test_dropping_the_prepared_file() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 1)
    queue.prepare_next()
    queue.drop_prepared()
    queue.drop_prepared()
    assert disk.listdir("/log") == names(0)


def test_a_full_disk_leaves_no_file() -> None:
    disk = FakeDisk(capacity=SIZE)
    queue = fresh(disk, 1)
    for add in (queue.prepare_next, queue.next_file):
        with pytest.raises(OSError, match="No space left"):
            add()
        assert disk.listdir("/log") == names(0) and len(queue.files) == 1
    disk.capacity *= 2
    assert queue.next_file().first_offset == SIZE


def test_truncate_zeroes_and_removes_and_survives() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 4)
    for file in queue.files[:3]:
        file.view[:] = 7
    queue.sync(4 * SIZE)
    assert queue.truncate(SIZE + 100) == SIZE - 100 + SIZE
    disk.power_cut(random.Random(0))
    queue = fresh(disk)
    assert [file.first_offset for file in queue.files] == [0, SIZE]
    assert (queue.files[1].view[:100] == 7).all() and not queue.files[1].view[100:].any()
    assert queue.truncate(SIZE + 100) == 0


def test_truncate_at_a_files_begin_keeps_it() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 3)
    queue.truncate(SIZE)
    assert [file.first_offset for file in queue.files] == [0, SIZE]
    assert queue.next_file().first_offset == 2 * SIZE


def test_remove_before() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 3)
    assert queue.remove_before(SIZE - 1) == 0
    assert queue.remove_before(2 * SIZE - 1) == 1
    assert queue.remove_before(100 * SIZE) == 1
    assert disk.listdir("/log") == names(2 * SIZE)


def test_sync_is_remembered_per_file() -> None:
    disk = FakeDisk()
    queue = fresh(disk, 3)
    queue.mark_synced(100)
    assert [file.first_offset for file in queue.unsynced(100)] == []
    assert [file.first_offset for file in queue.unsynced(SIZE + 1)] == [0, SIZE]
    disk.operations.clear()
    queue.sync(SIZE + 1)
    assert [file.synced_offset for file in queue.files] == [SIZE, SIZE + 1, 2 * SIZE]
    assert [path[-5:] for _, path in disk.operations] == ["00000", "08192"]
    disk.fail(errno.EIO, on="sync")
    with pytest.raises(OSError, match="Input/output"):
        queue.sync(3 * SIZE)
    assert queue.files[1].synced_offset == SIZE + 1


def test_on_a_real_disk(tmp_path: Path) -> None:
    disk = RealDisk()
    queue = MappedFileQueue(disk, str(tmp_path), 1 << 20)
    first = queue.next_file()
    assert (tmp_path / names(0)[0]).stat().st_blocks * 512 >= 1 << 20
    first.view[1000:2000] = 9
    first.sync(2000)
    assert queue.truncate(1500) == 500
    queue.close()
    queue.load()
    assert (queue.files[0].view[1000:1500] == 9).all() and not queue.files[0].view[1500:].any()
    queue.close()
