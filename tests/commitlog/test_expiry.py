"""expiry.py: files go by age, oldest first, and the queues follow."""

from appliance.commitlog.expiry import expire
from tests.commitlog.stores import Appending, Opened, open_store
from tests.fakes.disk import FakeDisk

HOUR_MS = 3_600_000


def aged(file_count: int) -> tuple[FakeDisk, Opened]:
    """A log of files that are an hour apart; a file holds about ten messages."""
    disk = FakeDisk()
    opened = open_store(disk, "/store", file_size=4096)
    writer = Appending(opened)
    while len(opened.log.files) <= file_count:
        disk.now_ms = len(opened.log.files) * HOUR_MS
        writer.append("t", 0, b"x" * 300)
    return disk, opened


def test_nothing_is_due() -> None:
    disk, opened = aged(3)
    assert expire(opened.log, opened.queues, now_ms=disk.now_ms, retention_ms=48 * HOUR_MS) == 0
    assert len(opened.log.files) == 4


def test_old_files_go_and_queues_follow() -> None:
    disk, opened = aged(5)
    now = disk.now_ms + 44 * HOUR_MS
    log_min = expire(opened.log, opened.queues, now_ms=now, retention_ms=48 * HOUR_MS)
    assert log_min == opened.log.first_offset == 2 * 4096
    slot = opened.queues.slot("t", 0)
    first = int(opened.queues.min_offset[slot])
    rows = opened.queue_reader().rows("t", 0, first, count_max=1, visible_max=first + 1)
    assert 0 <= int(rows[0]["physical_offset"]) - log_min < 400
    assert disk.listdir("/store/consumequeue/t/0")[0] != "0" * 20


def test_the_newest_file_stays_and_few_go_at_a_time() -> None:
    disk, opened = aged(12)
    now = disk.now_ms + 1000 * HOUR_MS
    expire(opened.log, opened.queues, now_ms=now, retention_ms=HOUR_MS)
    assert len(opened.log.files) == 3
    for _ in range(3):
        expire(opened.log, opened.queues, now_ms=now, retention_ms=HOUR_MS)
    assert len(opened.log.files) == 1
