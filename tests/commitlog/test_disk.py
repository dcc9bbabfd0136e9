"""disk.py and the fake beside it: the same answers, and the fake's promises."""

import errno
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.commitlog.disk import Disk, RealDisk
from tests.fakes.disk import PAGE_SIZE, FakeDisk

Make = Callable[[Path], tuple[Disk, str]]


def real(tmp_path: Path) -> tuple[Disk, str]:
    return RealDisk(), str(tmp_path)


def fake(_: Path) -> tuple[Disk, str]:
    disk = FakeDisk()
    disk.make_directories("/root")
    return disk, "/root"


@pytest.mark.parametrize("make", [real, fake])
class TestBoth:
    """One set of answers for both disks."""

    def test_names(self, make: Make, tmp_path: Path) -> None:
        disk, root = make(tmp_path)
        disk.make_directories(f"{root}/a/b")
        disk.make_directories(f"{root}/a/b")
        disk.write_atomic(f"{root}/a/file", b"one")
        disk.write_atomic(f"{root}/a/file", b"three")
        assert disk.listdir(root) == ["a"] and disk.listdir(f"{root}/a") == ["b", "file"]
        assert disk.read(f"{root}/a/file") == b"three" and disk.size(f"{root}/a/file") == 5
        assert disk.is_directory(f"{root}/a") and not disk.is_directory(f"{root}/a/file")
        assert disk.exists(f"{root}/a/file") and not disk.exists(f"{root}/x")
        disk.sync_path(f"{root}/a")
        disk.remove(f"{root}/a/file")
        disk.remove_tree(f"{root}/a")
        assert disk.listdir(root) == []
        for attempt in (disk.remove, disk.read, disk.listdir, disk.size):
            with pytest.raises(FileNotFoundError):
                attempt(f"{root}/a/file")

    def test_maps(self, make: Make, tmp_path: Path) -> None:
        disk, root = make(tmp_path)
        path = f"{root}/file"
        mapped = disk.open_map(path, 10_000, create=True, writable=True)
        assert mapped.size == disk.size(path) == 10_000 and not mapped.view.any()
        disk.allocate(mapped, 0, 10_000)
        mapped.view[9999] = 5
        disk.sync(mapped)
        disk.sync_path(path)
        seen = disk.open_map(path, 10_000)
        assert seen.view[9999] == 5 and disk.read(path)[9999] == 5
        mapped.view[0] = 6
        assert seen.view[0] == 6
        with pytest.raises(ValueError, match="read-only"):
            seen.view[0] = 7
        with pytest.raises(OSError, match="shorter"):
            disk.open_map(path, 10_001)
        with pytest.raises(FileNotFoundError):
            disk.open_map(f"{root}/none", 10)
        held = mapped.view[:1]
        for memory in (mapped, mapped, seen):
            memory.close()
        assert held[0] == 6 and mapped.address == 0

    def test_written_ranges(self, make: Make, tmp_path: Path) -> None:
        disk, root = make(tmp_path)
        mapped = disk.open_map(f"{root}/file", 1 << 22, create=True, writable=True)
        disk.allocate(mapped, 0, 1 << 22)
        mapped.view[3_000_000] = 1
        for begin, end in ((0, 1 << 22), (2_999_999, 3_000_001)):
            ranges = list(disk.written_ranges(mapped, begin, end))
            assert any(first <= 3_000_000 < last for first, last in ranges)
            assert all(begin <= first < last <= end for first, last in ranges)
        assert list(disk.written_ranges(mapped, 5, 5)) == []

    def test_free_space(self, make: Make, tmp_path: Path) -> None:
        disk, root = make(tmp_path)
        total, free = disk.free_space(root)
        assert 0 < free <= total


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    disk, path = RealDisk(), str(tmp_path / "lock")
    lock = disk.lock(path, b"lock")
    attempt = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b');"
        "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)"
    )
    command = [sys.executable, "-c", attempt, path]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 1
    lock.release()
    assert subprocess.run(command, check=False).returncode == 0
    assert disk.read(path) == b"lock"


def test_holes_are_not_read(tmp_path: Path) -> None:
    """What was allocated and never written counts as a hole, where the file system tells."""
    disk = RealDisk()
    mapped = disk.open_map(str(tmp_path / "file"), 1 << 26, create=True, writable=True)
    assert sum(end - begin for begin, end in disk.written_ranges(mapped, 0, 1 << 26)) == 0


def dirty_file(disk: FakeDisk) -> str:
    """A file of four pages, the first synced, all changed."""
    mapped = disk.open_map("/root/file", 4 * PAGE_SIZE, create=True, writable=True)
    disk.allocate(mapped, 0, 4 * PAGE_SIZE)
    disk.sync_path("/root")
    mapped.view[0] = 1
    disk.sync(mapped)
    mapped.view[PAGE_SIZE:] = 2
    return "/root/file"


def test_a_power_cut_takes_what_was_not_synced_page_by_page() -> None:
    outcomes = set()
    for seed in range(40):
        disk, _ = fake(Path())
        assert isinstance(disk, FakeDisk)
        path = dirty_file(disk)
        disk.power_cut(random.Random(seed))
        data = disk.read(path)
        assert data[0] == 1
        outcomes.add(tuple(data[PAGE_SIZE * page] for page in (1, 2, 3)))
    assert len(outcomes) == 8


def test_a_power_cut_takes_names_that_were_not_synced() -> None:
    outcomes = set()
    for seed in range(40):
        disk, _ = fake(Path())
        assert isinstance(disk, FakeDisk)
        disk.write_atomic("/root/old", b"x")
        for name in ("a", "b"):
            disk.sync(disk.open_map(f"/root/{name}", 10, create=True, writable=True))
        disk.remove("/root/old")
        disk.power_cut(random.Random(seed))
        outcomes.add(tuple(disk.listdir("/root")))
    assert outcomes == {("old",), ("a", "old"), ("a", "b", "old"), ("a", "b")}


def test_a_failed_sync_loses_the_pages_for_good() -> None:
    disk, _ = fake(Path())
    assert isinstance(disk, FakeDisk)
    path = dirty_file(disk)
    disk.fail(errno.EIO, on="sync")
    with pytest.raises(OSError, match="Input/output"):
        disk.sync_path(path)
    disk.sync_path(path)
    assert disk.read(path)[PAGE_SIZE] == 2
    disk.power_cut(random.Random(0))
    assert disk.read(path)[PAGE_SIZE] == 0


def test_a_page_without_a_block_is_caught() -> None:
    disk, _ = fake(Path())
    mapped = disk.open_map("/root/file", 3 * PAGE_SIZE, create=True, writable=True)
    disk.allocate(mapped, 0, PAGE_SIZE)
    mapped.view[PAGE_SIZE] = 1
    with pytest.raises(AssertionError, match="has no block"):
        disk.sync(mapped)


def test_failures_come_when_they_were_ordered() -> None:
    disk, _ = fake(Path())
    assert isinstance(disk, FakeDisk)
    disk.fail(errno.ENOSPC, after=1, on="write_atomic")
    disk.write_atomic("/root/a", b"")
    with pytest.raises(OSError, match="No space left"):
        disk.write_atomic("/root/b", b"")
    disk.write_atomic("/root/c", b"")
    assert disk.listdir("/root") == ["a", "c"]
    assert ("write_atomic", "/root/c") in disk.operations
