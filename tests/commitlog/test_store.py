"""store.py: a store is made, found as it was left, recovered, or refused untouched."""

import random

import pytest

from appliance.commitlog.checkpoint import mark_running
from appliance.commitlog.files import StoreRefused
from appliance.commitlog.store import Store, open_store
from tests.commitlog.bench import Bench
from tests.fakes.clock import FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.world_parts import LOG_FILE_SIZE, ROOT, ROW_COUNT


def reopen(disk: FakeDisk, *, file_size: int = LOG_FILE_SIZE, row_count: int = ROW_COUNT) -> Store:
    return open_store(disk, ROOT, file_size=file_size, row_count=row_count, clock=FakeClock())


def fill(bench: Bench, count: int) -> None:
    for number in range(count):
        bench.producers[0].send("T", bytes(700), queue_id=number % 2)
        bench.append()
        bench.show()
        bench.producers[0].answers()


def test_a_new_store_is_empty() -> None:
    disk = FakeDisk()
    store = reopen(disk)
    assert disk.listdir(ROOT) == ["commitlog", "consumequeue"]
    assert (store.log.files, len(store.queues), store.recovered.log_end) == ([], 0, 0)
    assert not store.recovered.abnormal


def test_an_old_store_keeps_its_sizes(bench: Bench) -> None:
    fill(bench, 6)
    store = reopen(bench.disk, file_size=1 << 16, row_count=1000)
    assert store.log.file_size == LOG_FILE_SIZE
    assert store.queues.file_size == ROW_COUNT * 20
    assert store.recovered.log_end == bench.memory.watermarks.appended


def test_a_store_that_was_not_closed_is_recovered(bench: Bench) -> None:
    fill(bench, 6)
    end = bench.memory.watermarks.appended
    mark_running(bench.disk, bench.store.paths, pid=1)
    bench.disk.remove_tree(bench.store.paths.queue("T", 1))
    store = reopen(bench.disk)
    assert store.recovered.abnormal
    assert (store.recovered.log_end, store.recovered.row_count) == (end, 3)
    slots = [store.queues.slot("T", queue_id) for queue_id in (0, 1)]
    assert store.queues.next_offset[slots].tolist() == [3, 3]


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_takes_nothing_that_was_synced(bench: Bench, seed: int) -> None:
    fill(bench, 4)
    synced, log = bench.memory.watermarks.appended, bench.log()[0]
    bench.store.log.sync(synced)
    mark_running(bench.disk, bench.store.paths, pid=1)
    fill(bench, 8)
    bench.disk.power_cut(random.Random(seed))
    store = reopen(bench.disk)
    assert synced <= store.recovered.log_end
    assert bytes(store.log.files[0].view[:synced]) == log[:synced]
    slots = [store.queues.slot("T", queue_id) for queue_id in (0, 1)]
    assert store.queues.next_offset[slots].min() >= 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("rocksdbstore/CURRENT", "RocksDB"),
        ("dledger-n0/data", "DLedger"),
        ("batchconsumequeue/T/0", "BatchCQ"),
    ],
)
def test_a_foreign_store_is_refused_untouched(path: str, reason: str) -> None:
    disk = FakeDisk()
    disk.add(f"{ROOT}/{path}", b"x")
    disk.operations.clear()
    with pytest.raises(StoreRefused, match=reason):
        reopen(disk)
    assert {operation for operation, _ in disk.operations} <= {"listdir", "read"}


def test_files_that_do_not_fit_together_are_refused(bench: Bench) -> None:
    fill(bench, 6)
    bench.disk.add(f"{ROOT}/commitlog/{2 * LOG_FILE_SIZE:020d}", bytes(LOG_FILE_SIZE // 2))
    with pytest.raises(StoreRefused, match="bytes at offset"):
        reopen(bench.disk)
