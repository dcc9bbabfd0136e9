"""The writer's side of the ConsumeQueues: batches of rows in, files created, rolled, synced, cut.

Runs in: writer.
Owns: every file below consumequeue/: it alone creates, writes, cuts and removes them.
Fails: OSError is the machine's and leaves a batch to be written again; StoreRefused for files that
       do not fit together. A row that cannot be true is dropped and counted.

The format stands in consume_queue.py.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.ring.layout import dtype, pointer
from clib import ffi, lib

from appliance.commitlog.consume_queue import (
    BLANK_UNIT_SIZE,
    UNIT_SIZE,
    Rows,
    queue_directories,
)
from appliance.commitlog.disk import Disk
from appliance.commitlog.mapped_file import MappedFile, MappedFileQueue
from appliance.commitlog.queue_files import (
    blank_row,
    corrected_min,
    drop_behind_gap,
    drop_unfinished,
    first_at,
    first_unsettled,
    last_end,
    rows_of,
    valid_end,
)
from appliance.commitlog.record import RECORD_SIZE_MIN

ALLOCATION_SIZE: Final = 4096 * UNIT_SIZE  # whole pages and whole rows


class _Queue:
    """One ConsumeQueue's files, and the one that is being written."""

    __slots__ = ("current", "files", "queue_id", "topic")

    def __init__(self, topic: str, queue_id: int, files: MappedFileQueue) -> None:
        self.topic = topic
        self.queue_id = queue_id
        self.files = files
        self.current: MappedFile | None = None

    def release_idle(self) -> None:
        """Unmap all files but the one that is being written."""
        for file in self.files.files:
            if file is not self.current:
                file.release()


class QueueSet:
    """Every ConsumeQueue of the store, written by batches. A slot is a queue's number in here.

    Columns, indexed by slot: `next_offset` (the next row), `min_offset` (the first row whose
    message is still in the log), `max_physical` (end of the last row's record; 0 without rows).
    `settled`: after a whole round of sync(), (end of the last record, rows of all queues) that were
    in the files when the round began. At most `mapped_max` files are mapped at a time.
    """

    def __init__(
        self, disk: Disk, directory: str, *, file_size: int, mapped_max: int = 1024
    ) -> None:
        assert file_size % UNIT_SIZE == 0 and mapped_max > 0
        self.disk = disk
        self.directory = directory
        self.file_size = file_size
        self.mapped_max = mapped_max
        self.settled = (0, 0)
        self.implausible_count = 0
        self._queues: list[_Queue] = []
        self._slots: dict[tuple[str, int], int] = {}
        self._tick = 0
        self._left_behind: set[str] = set()
        self._new_names: set[str] = set()
        self._round: list[str] = []
        self._settling = (0, 0)
        self._grow(64)

    # ---- slots ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._queues)

    def slot(self, topic: str, queue_id: int, *, create: bool = True) -> int:
        """Slot of a queue; -1 when there is none and it is not to be created."""
        slot = self._slots.get((topic, queue_id), -1)
        if slot >= 0 or not create:
            return slot
        slot = len(self._queues)
        if slot == len(self.next_offset):
            self._grow(2 * slot)
        files = MappedFileQueue(self.disk, f"{self.directory}/{topic}/{queue_id}", self.file_size)
        self._queues.append(_Queue(topic, queue_id, files))
        self._slots[topic, queue_id] = slot
        return slot

    def key(self, slot: int) -> tuple[str, int]:
        """(topic, queue id) of a slot."""
        return self._queues[slot].topic, self._queues[slot].queue_id

    def remove_topic(self, topic: str) -> None:
        """Destroy a topic's queues; their slots stay and are empty."""
        for slot, queue in enumerate(self._queues):
            if queue.topic == topic:
                self._leave(slot)
                queue.files.close()
                self.next_offset[slot] = self.min_offset[slot] = self.max_physical[slot] = 0
        if self.disk.exists(f"{self.directory}/{topic}"):
            self.disk.remove_tree(f"{self.directory}/{topic}")
            self.disk.sync_path(self.directory)

    def _grow(self, capacity: int) -> None:
        """(Re)make the columns; new rows are zero."""

        def column(name: str, kind: Any) -> NDArray[Any]:
            fresh = np.zeros(capacity, kind)
            old = getattr(self, name, fresh[:0])
            fresh[: len(old)] = old
            return fresh

        self.next_offset: NDArray[np.int64] = column("next_offset", np.int64)
        self.min_offset: NDArray[np.int64] = column("min_offset", np.int64)
        self.max_physical: NDArray[np.int64] = column("max_physical", np.int64)
        # The current file: its address, its first row, and the row before which it may be written.
        self._address: NDArray[np.uint64] = column("_address", np.uint64)
        self._first_row: NDArray[np.int64] = column("_first_row", np.int64)
        self._end_row: NDArray[np.int64] = column("_end_row", np.int64)
        self._used: NDArray[np.int64] = column("_used", np.int64)
        self._dirty: NDArray[np.bool_] = column("_dirty", np.bool_)
        self._columns = self._columns_for_c()

    def _columns_for_c(self) -> Any:
        columns = ffi.new("ap_slots *")
        for name in ("next_offset", "max_physical"):
            setattr(columns, name, pointer("int64_t", getattr(self, name)))
        for name in ("first_row", "end_row", "used"):
            setattr(columns, name, pointer("int64_t", getattr(self, f"_{name}")))
        columns.address = pointer("uint64_t", self._address)
        columns.dirty = pointer("uint8_t", self._dirty)
        return columns

    # ---- writing --------------------------------------------------------------------------------

    def write(
        self,
        slots: NDArray[Any],
        queue_offsets: NDArray[Any],
        physical_offsets: NDArray[Any],
        sizes: NDArray[Any],
        tags_codes: NDArray[Any],
    ) -> int:
        """write_rows() for columns of one length."""
        rows = np.zeros(len(slots), dtype("ap_row"))
        rows["slot"] = slots
        rows["queue_offset"] = queue_offsets
        rows["physical_offset"] = physical_offsets
        rows["size"] = sizes
        rows["tags_code"] = tags_codes
        return self.write_rows(rows)

    def write_rows(self, rows: Rows) -> int:
        """Write a batch of ap_row, which is in log order; returns how many rows were new.

        Rows that a queue has already are skipped, so that a batch may be written again (section
        3.2). After an OSError no queue's end has moved, and the batch can be tried again.
        """
        self._tick += 1
        at = pointer("ap_row", rows)
        written = int(lib.ap_rows_follow(self._columns, at, len(rows), self._tick))
        return written if written == len(rows) else written + self._write_strange(rows[written:])

    def _write_strange(self, rows: Rows) -> int:
        """Rows of which some do not simply follow: repeats, gaps, files to be entered."""
        rows = self._fresh(rows)
        if not len(rows):
            return 0
        self._place(rows)
        lasts = rows[_group_lasts(rows["slot"])]
        slots = lasts["slot"]
        self.next_offset[slots] = lasts["queue_offset"] + 1
        self.max_physical[slots] = lasts["physical_offset"] + lasts["size"]
        return len(rows)

    def gaps(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows of a batch belong to queues whose preceding rows are missing."""
        follows = self._select(rows)
        group_firsts = follows[_group_firsts(follows["slot"])]
        ahead = group_firsts["queue_offset"] > self.next_offset[group_firsts["slot"]]
        return np.isin(rows["slot"], group_firsts["slot"][ahead])

    def _select(self, rows: Rows) -> Rows:
        """The rows that their queues do not have, by slot and then in log order."""
        slots = rows["slot"]
        ends = rows["physical_offset"] + rows["size"]
        new = (rows["queue_offset"] >= self.next_offset[slots]) & (ends > self.max_physical[slots])
        rows = rows[new]
        return rows[np.argsort(rows["slot"], kind="stable")]

    def _fresh(self, rows: Rows) -> Rows:
        """What is to be written, without holes: blank rows stand where messages are missing."""
        rows = self._select(rows)
        slots, offsets = rows["slot"], rows["queue_offset"]
        expected = self.next_offset[slots]
        follows = slots[1:] == slots[:-1]
        expected[1:][follows] = offsets[:-1][follows] + 1
        if (offsets == expected).all():
            return rows
        groups = np.split(rows, np.flatnonzero(~follows) + 1)
        return np.concatenate([self._filled(int(group["slot"][0]), group) for group in groups])

    def _filled(self, slot: int, rows: Rows) -> Rows:
        """One queue's rows, with blank ones in between, and without repeats and impossible ones."""
        begin = int(self.next_offset[slot])
        # Each row before this one stands for a record that lies between the queue's end and here.
        room = (rows["physical_offset"] - self.max_physical[slot]) // RECORD_SIZE_MIN
        true = rows["queue_offset"] - begin <= room
        self.implausible_count += len(rows) - int(true.sum())
        rows = rows[true]
        offsets = rows["queue_offset"]
        rows = rows[offsets > np.maximum.accumulate(np.concatenate(([begin - 1], offsets[:-1])))]
        if not len(rows):
            return rows
        if not self._queues[slot].files.files:
            first = int(rows["queue_offset"][0])
            self.min_offset[slot] = first
            begin = first - first % (self.file_size // UNIT_SIZE)
        filled = np.zeros(int(rows["queue_offset"][-1]) + 1 - begin, rows.dtype)
        filled["slot"] = slot
        filled["size"] = BLANK_UNIT_SIZE
        filled["queue_offset"] = np.arange(begin, begin + len(filled))
        filled[rows["queue_offset"] - begin] = rows
        return filled

    def _place(self, rows: Rows) -> None:
        """Put rows where they belong, a pass for each file or chunk that a queue has to enter."""
        while True:
            slots, offsets = rows["slot"], rows["queue_offset"]
            here = (offsets >= self._first_row[slots]) & (offsets < self._end_row[slots])
            self._put(rows[here])
            rows = rows[~here]
            if not len(rows):
                return
            for row in rows[_group_firsts(rows["slot"])]:
                self._enter(int(row["slot"]), int(row["queue_offset"]))

    def _put(self, rows: Rows) -> None:
        slots = rows["slot"]
        positions = (rows["queue_offset"] - self._first_row[slots]) * UNIT_SIZE
        addresses = self._address[slots] + positions.astype(np.uint64)
        lib.ap_rows_write(pointer("ap_row", rows), pointer("uint64_t", addresses), len(rows))
        self._dirty[slots] = True
        self._used[slots] = self._tick

    def _enter(self, slot: int, row: int) -> None:
        """Map the file that holds a row of a queue, created if need be, with blocks for the row."""
        queue, offset = self._queues[slot], row * UNIT_SIZE
        file = queue.current
        if file is None or not file.first_offset <= offset < file.end_offset:
            self._leave(slot)
            self._make_room()
            file = queue.files.file_at(offset) or self._create(queue, offset)
            queue.current = file
            self._address[slot] = file.address
            self._first_row[slot] = file.first_offset // UNIT_SIZE
        position = offset - file.first_offset
        chunk = position - position % ALLOCATION_SIZE
        file.allocate(chunk, chunk + ALLOCATION_SIZE)
        self._end_row[slot] = file.allocated_offset // UNIT_SIZE
        self._used[slot] = self._tick

    def _create(self, queue: _Queue, offset: int) -> MappedFile:
        directory = queue.files.directory
        if not self.disk.exists(directory):
            self.disk.make_directories(directory)
            self._new_names |= {self.directory, f"{self.directory}/{queue.topic}"}
        self._new_names.add(directory)
        return queue.files.next_sparse_file(offset - offset % self.file_size)

    def _make_room(self) -> None:
        """Unmap the file that was not written for longest, when as many as allowed are mapped."""
        mapped = np.flatnonzero(self._address)
        if len(mapped) >= self.mapped_max:
            self._leave(int(mapped[np.argmin(self._used[mapped])]))

    def _leave(self, slot: int) -> None:
        """Unmap a queue's current file, and remember it while it is not synced."""
        queue = self._queues[slot]
        if queue.current is None:
            return
        if self._dirty[slot]:
            self._left_behind.add(queue.current.path)
        queue.current.release()
        queue.current = None
        self._address[slot] = self._first_row[slot] = self._end_row[slot] = 0
        self._dirty[slot] = False

    # ---- to the disk ----------------------------------------------------------------------------

    def sync(self, files_max: int | None = None) -> bool:
        """Bring what is dirty now to the disk, in rounds; True when a round is complete.

        A call with `files_max` does that many files of a round; the next call goes on.
        """
        if not self._round:
            self._begin_round()
        for _ in range(len(self._round) if files_max is None else files_max):
            if not self._round:
                break
            path = self._round[-1]
            if self.disk.exists(path):
                self.disk.sync_path(path)
            self._round.pop()
        if self._round:
            return False
        self.settled = self._settling
        return True

    def _begin_round(self) -> None:
        dirty = np.flatnonzero(self._dirty)
        current = (self._queues[slot].current for slot in dirty)
        self._left_behind |= {file.path for file in current if file is not None}
        # Files come off the end first: a name must not reach the disk before its bytes.
        self._round = sorted(self._new_names) + sorted(self._left_behind)
        self._settling = (int(self.max_physical.max()), int(self.next_offset.sum()))
        self._dirty[:] = False
        self._left_behind, self._new_names = set(), set()

    def close(self) -> None:
        """Unmap everything. What is not synced stays with the system."""
        for slot, queue in enumerate(self._queues):
            self._leave(slot)
            queue.files.close()

    # ---- recovery and clean-up ------------------------------------------------------------------

    def recover(self, log_limit: int, settled_offset: int | None = None) -> None:
        """Find every queue and its end (section 5.3); what lies behind an end is zeroed.

        `log_limit`: no record ends behind this physical offset; a row that says so is garbage.
        `settled_offset`: the rows of records before it are on disk; None: nobody knows.
        Beyond Apache: a queue also ends where a file is missing or empty, and where rows do not
        ascend; what is lost so is dispatched again.
        """
        for topic, queue_id in queue_directories(self.disk, self.directory):
            slot = self.slot(topic, queue_id)
            files = self._queues[slot].files
            drop_unfinished(self.disk, files.directory)
            files.load()
            drop_behind_gap(files)
            self.min_offset[slot] = files.first_offset // UNIT_SIZE
            unsettled = first_unsettled(files, log_limit, settled_offset)
            self._doubt(slot, files.files[unsettled:])
            self._end_at(slot, valid_end(files, log_limit, unsettled))

    def _doubt(self, slot: int, files: list[MappedFile]) -> None:
        """What a dead writer wrote may be in the page cache alone: the next round syncs it."""
        queue = self._queues[slot]
        self._left_behind |= {file.path for file in files}
        topic = f"{self.directory}/{queue.topic}"
        self._new_names |= {self.directory, topic, queue.files.directory}

    def truncate(self, log_end: int) -> int:
        """Drop the rows of records at or behind the log's end; returns how many."""
        dropped = 0
        for slot in np.flatnonzero(self.max_physical[: len(self)] > log_end).tolist():
            before = int(self.next_offset[slot])
            self._leave(slot)
            self._end_at(slot, first_at(self._queues[slot].files, log_end, before))
            dropped += before - int(self.next_offset[slot])
        return dropped

    def blank_out(self, begin: int, end: int) -> int:
        """Make the rows of records in [begin, end) of the log blank; returns how many.

        Those records turned out to be damaged, and no reader is to be sent there.
        """
        count = 0
        for slot in np.flatnonzero(self.max_physical[: len(self)] > begin).tolist():
            queue, next_row = self._queues[slot], int(self.next_offset[slot])
            first = first_at(queue.files, begin, next_row)
            last = first_at(queue.files, end, next_row)
            for row in range(first, last):
                blank_row(queue.files, row)
            if last > first:
                self._left_behind |= {file.path for file in queue.files.files}
            count += last - first
            queue.release_idle()
        return count

    def rows_below(self, physical_offset: int) -> int:
        """How many rows all queues have for records before this offset (blank ones count)."""
        count = int(self.next_offset.sum())
        for slot in np.flatnonzero(self.max_physical[: len(self)] > physical_offset).tolist():
            queue, end = self._queues[slot], int(self.next_offset[slot])
            count -= end - first_at(queue.files, physical_offset, end)
            queue.release_idle()
        return count

    def correct_min(self, log_min: int) -> None:
        """Move each queue's first row to the first one whose message is still in the log.

        Apache's ConsumeQueue.correctMinOffset: it looks into the first file alone.
        """
        for slot, queue in enumerate(self._queues):
            if not queue.files.files:
                continue
            minimum, end = int(self.min_offset[slot]), int(self.next_offset[slot])
            if minimum < end:
                self.min_offset[slot] = corrected_min(queue.files, log_min, minimum, end)
            queue.release_idle()

    def remove_expired(self, log_min: int) -> int:
        """Remove files of which every message has left the log, never a queue's newest.

        Section 3.7. Returns how many files.
        """
        removed = 0
        for slot, queue in enumerate(self._queues):
            files, keep = queue.files, 0
            for file in files.files[:-1]:
                if int(rows_of(file)["physical_offset"][-1]) >= log_min:
                    break
                keep = file.end_offset
            queue.release_idle()
            removed += files.remove_before(keep)
            first_row = files.first_offset // UNIT_SIZE
            self.min_offset[slot] = max(int(self.min_offset[slot]), first_row)
        return removed

    def _end_at(self, slot: int, row: int) -> None:
        """Make `row` the next one of a queue that is not being written."""
        queue = self._queues[slot]
        queue.files.truncate(row * UNIT_SIZE)
        self._left_behind |= {file.path for file in queue.files.files[-1:]}
        self.next_offset[slot] = row
        self.min_offset[slot] = min(int(self.min_offset[slot]), row)
        self.max_physical[slot] = last_end(queue.files, row)
        queue.release_idle()


# ---- one queue's files ---------------------------------------------------------------------------


def _group_firsts(slots: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of sorted rows are their slot's first."""
    return np.concatenate((np.ones(min(len(slots), 1), np.bool_), slots[1:] != slots[:-1]))


def _group_lasts(slots: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of sorted rows are their slot's last."""
    return np.concatenate((slots[1:] != slots[:-1], np.ones(min(len(slots), 1), np.bool_)))
