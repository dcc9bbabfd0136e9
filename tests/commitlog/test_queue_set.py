"""queue_set.py: batches of rows against a plain dictionary, rolls, repeats, gaps, cuts, syncs."""

import errno
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.commitlog.consume_queue import (
    BLANK_UNIT_SIZE,
    UNIT,
    ConsumeQueueReader,
    Rows,
)
from appliance.commitlog.disk import Disk, RealDisk
from appliance.commitlog.files import StoreRefused
from appliance.commitlog.queue_set import QueueSet
from tests.commitlog.stores import make_rows
from tests.fakes.disk import FakeDisk

ROWS = 10  # of a file
END = 1 << 40


def queue_set(disk: Disk, *, root: str = "/q", mapped_max: int = 100) -> QueueSet:
    disk.make_directories(root)
    return QueueSet(disk, root, file_size=ROWS * 20, mapped_max=mapped_max)


def content(queues: QueueSet, slot: int) -> list[int]:
    """Physical offsets of a queue's rows from its first file on; -1 where one is blank."""
    topic, queue_id = queues.key(slot)
    reader = ConsumeQueueReader(queues.disk, queues.directory, file_size=queues.file_size)
    end, found = int(queues.next_offset[slot]), list[int]()
    for first in range(0, end, ROWS):
        for unit in reader.rows(topic, queue_id, first, count_max=ROWS, visible_max=end):
            blank = unit["size"] == BLANK_UNIT_SIZE
            found.append(-1 if blank else int(unit["physical_offset"]))
    return found


def ascending(*counts: int, start: int = 0) -> Rows:
    """Rows for slots 0, 1, …, so many each, as a log would have them, in turn."""
    rows, physical = [], 1000
    for i in range(max(counts)):
        for slot, count in enumerate(counts):
            if i < count:
                rows.append((slot, start + i, physical, 100))
                physical += 1000
    return make_rows(*rows)


def test_a_batch_goes_to_its_queues_and_rolls() -> None:
    queues = queue_set(FakeDisk())
    slots = [queues.slot("a", 0), queues.slot("a", 1), queues.slot("b", 0)]
    assert slots == [0, 1, 2] and queues.slot("a", 1) == 1 and queues.key(2) == ("b", 0)
    assert queues.slot("c", 0, create=False) == -1 and len(queues) == 3
    batch = ascending(35, 1, 10)
    assert queues.write_rows(batch) == 46
    assert queues.next_offset[:3].tolist() == [35, 1, 10]
    assert queues.disk.listdir("/q/a/0") == [f"{200 * i:020d}" for i in range(4)]
    assert queues.disk.listdir("/q/b/0") == ["0" * 20]
    for slot in slots:
        mine = batch[batch["slot"] == slot]["physical_offset"].tolist()
        assert content(queues, slot) == mine
        assert queues.max_physical[slot] == mine[-1] + 100


def test_columns_are_rows() -> None:
    queues = queue_set(FakeDisk())
    slot = queues.slot("a", 0)
    columns = np.array([slot, slot]), np.array([0, 1]), np.array([5, 500]), np.array([91, 95])
    assert queues.write(*columns, np.array([-3, 1 << 40])) == 2
    units = np.frombuffer(queues.disk.read(f"/q/a/0/{0:020d}"), UNIT)
    assert units[:3].tolist() == [(5, 91, -3), (500, 95, 1 << 40), (0, 0, 0)]


def test_repeats_are_skipped() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    batch = ascending(12)
    assert queues.write_rows(batch[:8]) == 8
    assert queues.write_rows(batch[:8]) == 0
    assert queues.write_rows(batch[4:]) == 4
    assert queues.write_rows(make_rows((0, 3, 99_000, 100))) == 0  # another record, an old place
    assert queues.write_rows(make_rows((0, 12, 5000, 100))) == 0  # an old record, a new place
    assert queues.write_rows(batch[:0]) == 0
    assert content(queues, 0) == batch["physical_offset"].tolist()


def test_the_same_row_twice_in_a_batch() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    rows = make_rows((0, 0, 1000, 100), (0, 1, 2000, 100), (0, 1, 3000, 100), (0, 2, 4000, 100))
    assert queues.write_rows(rows) == 3
    assert content(queues, 0) == [1000, 2000, 4000]


def test_missing_rows_turn_blank() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    rows = make_rows((0, 0, 1000, 100), (0, 13, 9000, 100))
    assert queues.gaps(rows).tolist() == [False, False]  # the hole is in the batch itself
    assert queues.write_rows(rows) == 14
    assert content(queues, 0) == [1000] + [-1] * 12 + [9000]
    assert queues.gaps(make_rows((0, 15, 9500, 100))).tolist() == [True]
    assert queues.gaps(make_rows((0, 14, 9500, 100))).tolist() == [False]
    assert queues.min_offset[0] == 0


def test_a_queue_that_joins_later() -> None:
    """Its first file is named for its first row and filled up with blank rows (section 3.1)."""
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    assert queues.write_rows(make_rows((0, 23, 900_000, 100))) == 4
    assert queues.disk.listdir("/q/a/0") == [f"{400:020d}"]
    assert (queues.min_offset[0], queues.next_offset[0]) == (23, 24)
    again = queue_set(queues.disk)
    again.recover(END)
    again.correct_min(0)
    assert (again.min_offset[0], again.next_offset[0]) == (23, 24)


def test_impossible_rows_are_dropped_and_counted() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    rows = make_rows((0, 0, 1000, 100), (0, 1 << 60, 2000, 100), (0, 1, 3000, 100))
    assert queues.write_rows(rows) == 2 and queues.implausible_count == 1
    assert content(queues, 0) == [1000, 3000]


def test_more_queues_than_may_be_mapped() -> None:
    disk = FakeDisk()
    queues = queue_set(disk, mapped_max=3)
    counts = [7] * 10
    for slot in range(10):
        queues.slot("a", slot)
    batch = ascending(*counts)
    for part in np.array_split(batch, 5):
        queues.write_rows(part)
    assert np.count_nonzero(queues._address) == 3
    for slot in range(10):
        assert content(queues, slot) == batch[batch["slot"] == slot]["physical_offset"].tolist()
    assert queues.sync()
    disk.power_cut(random.Random(1))
    again = queue_set(disk)
    again.recover(END)
    assert again.next_offset[:10].tolist() == counts


def test_a_full_disk_is_an_error_and_the_batch_can_come_again() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    queues.slot("a", 0)
    batch = ascending(25)
    queues.write_rows(batch[:5])
    disk.capacity = disk.used()
    with pytest.raises(OSError, match="No space left"):
        queues.write_rows(batch)
    assert queues.next_offset[0] == 5 and content(queues, 0) == [1000, 2000, 3000, 4000, 5000]
    disk.capacity *= 10
    assert queues.write_rows(batch) == 20
    assert content(queues, 0) == batch["physical_offset"].tolist()


def test_rows_are_allocated_before_they_are_written(tmp_path: Path) -> None:
    """A file is as long as Apache wants it, and has blocks for little more than its rows."""
    disk = RealDisk()
    queues = QueueSet(disk, str(tmp_path), file_size=6_000_000)
    queues.slot("a", 0)
    queues.write_rows(ascending(5000))
    status = (tmp_path / "a" / "0" / ("0" * 20)).stat()
    assert status.st_size == 6_000_000
    assert 100_000 <= status.st_blocks * 512 <= 300_000


def test_sync_in_small_portions() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    for slot in range(5):
        queues.slot("a", slot)
    queues.write_rows(ascending(*[12] * 5))
    rounds = 1
    while not queues.sync(2):
        rounds += 1
        queues.write_rows(ascending(*[20] * 5))
    # Ten files in five directories below two more; what came meanwhile is not promised.
    assert rounds == 9 and queues.settled == (60_100, 60)
    disk.power_cut(random.Random(3))
    again = queue_set(disk)
    again.recover(END)
    assert (again.next_offset[:5] >= 12).all()


def test_a_failed_sync_is_told_and_not_settled() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    queues.slot("a", 0)
    queues.write_rows(ascending(3))
    disk.fail(errno.EIO, on="sync")
    with pytest.raises(OSError, match="Input/output"):
        queues.sync()
    assert queues.settled == (0, 0)


def test_truncate() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    queues.slot("a", 1)
    batch = ascending(35, 5)
    queues.write_rows(batch)
    limit = int(batch[15]["physical_offset"])
    assert queues.rows_below(limit) == 15
    assert queues.truncate(limit) == 25
    for slot in (0, 1):
        kept = [row for row in batch[:15] if row["slot"] == slot]
        assert content(queues, slot) == [row["physical_offset"] for row in kept]
        assert queues.max_physical[slot] == kept[-1]["physical_offset"] + 100
    assert queues.disk.listdir("/q/a/0") == ["0" * 20, f"{200:020d}"]
    assert queues.write_rows(batch) == 25 and queues.truncate(END) == 0
    assert content(queues, 0) == batch[batch["slot"] == 0]["physical_offset"].tolist()


def test_truncate_to_nothing() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    queues.write_rows(ascending(15))
    assert queues.truncate(0) == 15
    assert (queues.next_offset[0], queues.max_physical[0]) == (0, 0)
    assert queues.write_rows(ascending(2)) == 2


def test_blank_out() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("a", 0)
    queues.write_rows(ascending(15))
    assert queues.blank_out(9000, 12_000) == 3
    assert content(queues, 0)[7:13] == [8000, -1, -1, -1, 12_000, 13_000]
    assert queues.next_offset[0] == 15


def test_recover_cuts_at_what_cannot_be() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    for queue_id in range(4):
        queues.slot("a", queue_id)
    queues.write_rows(ascending(25, 25, 25, 25))
    queues.close()
    poke(disk, "/q/a/0", 23, (0, 0, 0))  # never written
    poke(disk, "/q/a/1", 22, (END, 100, 0))  # behind the log
    poke(disk, "/q/a/2", 24, (3000, 100, 0))  # back in the log
    disk.remove(f"/q/a/3/{200:020d}")  # a file is missing
    again = queue_set(disk)
    again.recover(1_000_000)
    assert again.next_offset[:4].tolist() == [23, 22, 24, 10]
    assert disk.listdir("/q/a/3") == ["0" * 20]


def poke(disk: FakeDisk, directory: str, row: int, unit: tuple[int, int, int]) -> None:
    path = f"{directory}/{row // ROWS * ROWS * 20:020d}"
    disk.open_map(path, ROWS * 20, writable=True).view.view(UNIT)[row % ROWS] = unit


def test_recover_drops_files_that_lost_their_length() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    queues.slot("a", 0)
    queues.write_rows(ascending(25))
    disk.add(f"/q/a/0/{200:020d}", b"")
    again = queue_set(disk)
    again.recover(END)
    assert again.next_offset[0] == 10 and disk.listdir("/q/a/0") == ["0" * 20]


def test_recover_refuses_another_size() -> None:
    disk = FakeDisk()
    disk.add(f"/q/a/0/{0:020d}", bytes(200))
    disk.add(f"/q/a/1/{0:020d}", bytes(300))
    with pytest.raises(StoreRefused, match="300 bytes"):
        queue_set(disk).recover(END)


def test_expiry_of_rows() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    queues.slot("a", 0)
    queues.slot("a", 1)
    batch = ascending(35, 5)
    queues.write_rows(batch)
    log_min = int(batch[batch["slot"] == 0]["physical_offset"][17])
    queues.correct_min(log_min)
    # Apache looks into the first file alone, and moves on once that is removed.
    assert queues.min_offset[:2].tolist() == [0, 5]
    assert queues.remove_expired(log_min) == 1
    queues.correct_min(log_min)
    assert queues.min_offset[:2].tolist() == [17, 5]
    assert disk.listdir("/q/a/0")[0] == f"{200:020d}"
    queues.correct_min(END)
    assert queues.remove_expired(END) == 2
    assert queues.min_offset[:2].tolist() == queues.next_offset[:2].tolist() == [35, 5]


def test_a_removed_topic_begins_anew() -> None:
    disk = FakeDisk()
    queues = queue_set(disk)
    queues.slot("a", 0)
    queues.slot("b", 0)
    queues.write_rows(ascending(15, 15))
    queues.remove_topic("a")
    assert disk.listdir("/q") == ["b"] and queues.next_offset[:2].tolist() == [0, 15]
    assert queues.sync()
    assert queues.write_rows(make_rows((0, 0, 99_000, 100))) == 1
    assert content(queues, 0) == [99_000]


batches = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 30), st.booleans()), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(batches, st.integers(1, 4), st.randoms(use_true_random=False))
def test_against_a_dictionary(
    plan: list[tuple[int, int, bool]], mapped_max: int, rng: random.Random
) -> None:
    """Any log, in any batches, with repeats, few maps, restarts: the rows are the log's."""
    disk = FakeDisk()
    queues = queue_set(disk, mapped_max=mapped_max)
    log: list[tuple[int, int, int, int]] = []
    model: dict[int, list[int]] = {slot: [] for slot in range(4)}
    for slot in range(4):
        queues.slot("a", slot)
    for slot, count, restart in plan:
        for _ in range(count):
            target = rng.choice((slot, rng.randrange(4)))
            log.append((target, len(model[target]), 1000 * len(log), 100))
            model[target].append(1000 * (len(log) - 1))
        queues.write_rows(make_rows(*log[-rng.randint(count, len(log)) :]))
        if restart:
            queues.close()
            queues = queue_set(disk, mapped_max=mapped_max)
            for again in range(4):
                queues.slot("a", again)
            queues.recover(END)
    for slot, expected in model.items():
        assert content(queues, slot) == expected
        assert queues.next_offset[slot] == len(expected)


def test_a_power_cut_may_take_any_file_that_was_not_settled() -> None:
    """Not the last three alone: many files may be written between two checkpoints."""
    for seed in range(20):
        disk = FakeDisk()
        queues = queue_set(disk)
        queues.slot("t", 0)
        queues.write_rows(ascending(75))
        disk.power_cut(random.Random(seed))
        again = queue_set(disk)
        again.recover(END, 0)
        if len(again):
            count = int(again.next_offset[0])
            assert content(again, 0) == [1000 * (row + 1) for row in range(count)]


def test_a_successor_syncs_what_a_dead_writer_left_in_the_page_cache() -> None:
    for seed in range(20):
        disk = FakeDisk()
        queues = queue_set(disk)
        queues.slot("t", 0)
        queues.write_rows(ascending(75))
        disk.kill()
        successor = queue_set(disk)
        successor.recover(END, 0)
        assert successor.sync() and successor.settled == (75_100, 75)
        disk.power_cut(random.Random(seed))
        again = queue_set(disk)
        again.recover(END, 75_100)
        assert content(again, 0) == [1000 * (row + 1) for row in range(75)]


def test_blank_rows_at_a_files_begin_hide_no_row_before_it() -> None:
    queues = queue_set(FakeDisk())
    queues.slot("t", 0)
    queues.write_rows(ascending(25))
    assert queues.blank_out(11_000, 13_000) == 2  # rows 10 and 11, a file's first ones
    assert queues.rows_below(10_000) == 9
    queues.blank_out(9_000, 10_500)
    expected = [-1 if row in (8, 9, 10, 11) else 1000 * (row + 1) for row in range(25)]
    assert content(queues, 0) == expected
