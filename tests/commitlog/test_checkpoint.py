"""checkpoint.py: the page that Apache shares with us, the abort file, the lock."""

import errno
import random
import struct
from pathlib import Path

import pytest

from appliance.commitlog import checkpoint as c
from appliance.commitlog.checkpoint import Checkpoint, CheckpointFile
from appliance.commitlog.disk import RealDisk
from appliance.commitlog.files import StorePaths, StoreRefused
from tests.commitlog import stores
from tests.fakes.disk import FakeDisk

PATHS = StorePaths("/store")


def fresh() -> tuple[FakeDisk, CheckpointFile]:
    disk = FakeDisk()
    disk.make_directories("/store")
    return disk, CheckpointFile(disk, PATHS)


def test_without_a_checkpoint() -> None:
    disk, file = fresh()
    assert file.read() == Checkpoint()
    disk.add(PATHS.checkpoint, b"short")
    assert file.read() == Checkpoint()
    file.write(Checkpoint(1))
    assert file.read().physic_timestamp == 1


@pytest.mark.parametrize("name", ["clean", "crash"])
def test_the_checkpoint_of_a_real_broker(name: str, tmp_path: Path) -> None:
    root = stores.unpack(name, tmp_path)
    found = CheckpointFile(RealDisk(), StorePaths(str(root))).read()
    assert found == Checkpoint(*stores.manifest(name)["checkpoint"].values())


def test_what_is_written_is_read() -> None:
    disk, file = fresh()
    checkpoint = Checkpoint(10_000, 9000, 3, 4, 5, settled_offset=6, settled_rows=7)
    file.write(checkpoint, sync=True)
    data = disk.read(PATHS.checkpoint)
    assert len(data) == 4096 and struct.unpack(">5q", data[:40]) == (10_000, 9000, 3, 4, 5)
    assert not any(data[80:])
    disk.power_cut(random.Random(0))
    assert CheckpointFile(disk, PATHS).read() in (checkpoint, Checkpoint())
    assert checkpoint.min_timestamp == 6000 and Checkpoint(1, 1).min_timestamp == 0


def test_what_apache_writes_over_makes_ours_void() -> None:
    """It leaves our longs where they are and moves its own timestamps."""
    disk, file = fresh()
    file.write(Checkpoint(1, 2, settled_offset=6, settled_rows=7))
    page = disk.open_map(PATHS.checkpoint, 4096, writable=True).view
    page[15] = 9
    assert file.read() == Checkpoint(1, 9)


def test_a_page_without_its_block_is_not_written() -> None:
    disk, file = fresh()
    disk.fail(errno.ENOSPC, on="allocate", times=2)
    for _ in range(2):
        with pytest.raises(OSError):
            file.write(Checkpoint(1, 2), sync=True)
    file.write(Checkpoint(1, 2), sync=True)
    assert file.read() == Checkpoint(1, 2)


def test_the_abort_file() -> None:
    disk, _ = fresh()
    assert not c.was_running(disk, PATHS)
    c.mark_running(disk, PATHS, 4711)
    assert c.was_running(disk, PATHS) and disk.read(PATHS.abort) == b"4711"
    disk.power_cut(random.Random(0))
    assert c.was_running(disk, PATHS)
    c.mark_closed(disk, PATHS)
    c.mark_closed(disk, PATHS)
    disk.power_cut(random.Random(0))
    assert not c.was_running(disk, PATHS)


def test_the_lock() -> None:
    disk, _ = fresh()
    lock = c.lock_store(disk, PATHS)
    with pytest.raises(StoreRefused, match="in use by another broker"):
        c.lock_store(disk, PATHS)
    lock.release()
    c.lock_store(disk, PATHS)
