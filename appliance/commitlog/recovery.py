"""From the files of a store that is not open to one that can be served: find, walk, cut, dispatch.

Runs in: writer, before it serves.
Owns: the log's end and all ConsumeQueues, while it runs.
Fails: OSError is the machine's. Damage is no failure: it is cut off, or stepped over, and reported
       in Recovered.

The procedure is Apache's (specification: store sheet, sections 5.2 to 5.6), with these differences,
all for the better:

* the walk begins at the checkpoint's settled offset, where we wrote the store, and not at the
  begin of a file; when rows are missing from before it, at the begin of the log;
* a queue that lacks rows from before the walk gets them by a second walk;
* a bad record ends the log only when nothing trusted stands behind it: rows that were dispatched,
  or records as old as the checkpoint. Else it is stepped over, and its rows become blank;
* a record that stands where it does not say it stands is bad, and so is one whose topic or
  properties, which no CRC covers, lack a sector: a power cut tore it;
* what is cut off is zeroed, so that a later crash cannot take it for records.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.clock import Clock
from appliance.ring.layout import dtype, pointer
from clib import ffi, lib

from appliance.commitlog.checkpoint import Checkpoint
from appliance.commitlog.consume_queue import Rows
from appliance.commitlog.disk import Disk
from appliance.commitlog.mapped_file import MappedFile, MappedFileQueue
from appliance.commitlog.queue_set import QueueSet
from appliance.commitlog.record import (
    TRANSACTION_COMMIT,
    TRANSACTION_MASK,
    Status,
    schedule_tags_code,
)

SCHEDULE_TOPIC: Final = "SCHEDULE_TOPIC_XXXX"
DELAY_LEVELS_MS: Final = tuple(
    1000 * seconds for seconds in (1, 5, 10, 30, *range(60, 601, 60), 20 * 60, 30 * 60, 3600, 7200)
)
_BATCH_COUNT: Final = 4096
_MAGIC_PREFIX: Final = b"\xda\xa3\x20"  # of both versions
_SEARCH_SIZE: Final = 1 << 20
_QUEUE_ID_MAX: Final = 1 << 22
_TOPIC_SIZE_MAX: Final = 255
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # so that topic and queue id make one number
_SECTOR_SIZE: Final = 512


@dataclass(frozen=True, slots=True)
class Recovered:
    """What recovery found and did. Offsets are physical, sizes in bytes."""

    abnormal: bool
    """The store was not closed in order."""
    log_min: int
    log_end: int
    walk_begin: int
    record_count: int
    """Records walked."""
    row_count: int
    """Rows that the queues had not."""
    stale_size: int
    """What lay behind the log's end and was cut off."""
    stale_rows: int
    """Rows for records behind the log's end."""
    damaged: tuple[tuple[int, int], ...]
    """(offset, size) of what was stepped over: no readable record, with good ones behind it."""
    implausible_count: int
    """Records whose topic, queue or queue offset cannot be true; they have no row."""
    last_store_timestamp: int
    """No record of the log was stored later, ms."""
    seconds: float


def recover(
    log: MappedFileQueue,
    queues: QueueSet,
    checkpoint: Checkpoint,
    *,
    abnormal: bool,
    clock: Clock,
    delay_levels_ms: Sequence[int] = DELAY_LEVELS_MS,
) -> Recovered:
    """Make a loaded log and its queues fit to be written; `abnormal`: the abort file was there.

    Everything up to the log's end is on disk afterwards. The work is in proportion to what was
    written since the checkpoint, where the checkpoint is ours.
    """
    began_ns = clock.now().monotonic_ns
    recovery = _Recovery(log, queues, checkpoint, abnormal, delay_levels_ms)
    recovery.run()
    return recovery.summary((clock.now().monotonic_ns - began_ns) / 1e9)


@dataclass(slots=True)
class _Recovery:
    """One recovery under way."""

    log: MappedFileQueue
    queues: QueueSet
    checkpoint: Checkpoint
    abnormal: bool
    delay_levels_ms: Sequence[int]
    slots: dict[int, int] = field(default_factory=dict)
    schedule_slots: set[int] = field(default_factory=set)
    damaged: dict[int, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    covered: int = 0
    walk_begin: int = 0
    log_end: int = 0
    record_count: int = 0
    row_count: int = 0
    refused_count: int = 0
    stale_size: int = 0
    stale_rows: int = 0
    last_timestamp: int = 0

    def run(self) -> None:
        """Do it all; log and queues can be written afterwards."""
        self.queues.recover(self.log.end_offset, self._settled())
        if not self.log.files:
            self._drop_all_queues()
            return
        self.covered = max(int(self.queues.max_physical.max()), self.checkpoint.settled_offset)
        self.walk_begin = self._begin()
        self.log_end = self._walk(self.walk_begin, hold=True)
        if self.held:
            self._walk(self._begin_of_held(), hold=False)
        for begin, size in self.damaged.items():
            self.queues.blank_out(begin, begin + size)
        self._finish()

    def summary(self, seconds: float) -> Recovered:
        """What was done."""
        return Recovered(
            abnormal=self.abnormal,
            log_min=self.log.first_offset,
            log_end=self.log_end,
            walk_begin=self.walk_begin,
            record_count=self.record_count,
            row_count=self.row_count,
            stale_size=self.stale_size,
            stale_rows=self.stale_rows,
            damaged=tuple(sorted(self.damaged.items())),
            implausible_count=self.refused_count + self.queues.implausible_count,
            last_store_timestamp=max(
                self.last_timestamp,
                self.checkpoint.physic_timestamp,
                self.checkpoint.logics_timestamp,
            ),
            seconds=seconds,
        )

    def _settled(self) -> int | None:
        """The rows of records before this offset are on disk; None in a store of Apache's."""
        checkpoint = self.checkpoint
        theirs = checkpoint.physic_timestamp > 0 and not checkpoint.settled_offset
        return None if theirs else checkpoint.settled_offset

    def _drop_all_queues(self) -> None:
        """Without a log its queues say nothing (section 5.4)."""
        for topic in {self.queues.key(slot)[0] for slot in range(len(self.queues))}:
            self.queues.remove_topic(topic)

    # ---- where to begin -------------------------------------------------------------------------

    def _begin(self) -> int:
        """Everything before this offset is on disk and in the queues."""
        settled = self.checkpoint.settled_offset
        indexed = int(self.queues.max_physical.max())
        if 0 < settled <= indexed and self.log.file_at(settled) is not None:
            complete = self.queues.rows_below(settled) >= self.checkpoint.settled_rows
            return settled if complete else self.log.first_offset
        files = self.log.files
        fits = self._is_settled if self.abnormal else lambda file: file.first_offset <= indexed
        return next((file for file in reversed(files) if fits(file)), files[0]).first_offset

    def _is_settled(self, file: MappedFile) -> bool:
        """Whether the checkpoint is younger than a file's first record."""
        first = _walk_file(file, file.first_offset, count_max=1, check_crc=False)[0]
        stored = int(first["store_timestamp"])
        return (
            int(first["status"]) == Status.MESSAGE and 0 < stored <= self.checkpoint.min_timestamp
        )

    def _begin_of_held(self) -> int:
        """Where the first record may lie that a queue with a gap lacks."""
        ends = self.queues.max_physical[sorted(self.held)]
        begin = int(ends.min())
        return begin if self.log.file_at(begin) is not None and begin else self.log.first_offset

    # ---- the walk -------------------------------------------------------------------------------

    def _walk(self, begin: int, *, hold: bool) -> int:
        """Dispatch every record from an offset on; returns where the log ends.

        hold: rows of queues that lack earlier ones are left for a second walk.
        """
        position = begin
        while (file := self.log.file_at(position)) is not None:
            records = _walk_file(file, position, count_max=_BATCH_COUNT, check_crc=True)
            good = records[: _good_count(file, records)]
            if len(good):
                self._dispatch(file, good, hold=hold)
                last = good[-1]
                position = int(last["physical_offset"]) + int(last["size"])
            if len(good) == len(records):
                continue  # more of this file, or, at its very end, the next one
            following = self._step_over(file, position, records[len(good)])
            if file is not self.log.file_at(following):
                file.release()
            if following == position:
                break
            position = following
        return position

    def _step_over(self, file: MappedFile, position: int, bad: Any) -> int:
        """Where the walk goes on behind what is no good message; `position`: it ends there."""
        status = int(bad["status"])
        next_file = next((f for f in self.log.files if f.first_offset > file.first_offset), None)
        if status == Status.BLANK:
            return next_file.first_offset if next_file else position
        if status == Status.END and position >= self.covered:
            return position
        following = self._next_trusted(file, position, bad)
        if following is None and next_file and next_file.first_offset < self.covered:
            following = next_file.first_offset
        if following is None:
            return position
        self.damaged[position] = min(following, file.end_offset) - position
        return following

    def _next_trusted(self, file: MappedFile, position: int, bad: Any) -> int | None:
        """Offset of the next good record of a file that is no remainder of an older log.

        Trusted is what was dispatched once; what fits between the time of the last good record and
        that of the checkpoint; and what follows at once on a torn record and is not older.
        """
        for offset in _magic_offsets(self.log.disk, file, position + 1):
            records = _walk_file(file, offset, count_max=1, check_crc=True)
            if not _good_count(file, records):
                continue
            stored = int(records[0]["store_timestamp"])
            flushed = self.last_timestamp <= stored <= self.checkpoint.physic_timestamp
            torn = int(bad["status"]) == Status.MESSAGE and offset == position + int(bad["size"])
            follows = torn and stored >= int(bad["store_timestamp"])
            return offset if offset < self.covered or flushed or follows else None
        return None

    # ---- from records to rows -------------------------------------------------------------------

    def _dispatch(self, file: MappedFile, records: Rows, *, hold: bool) -> None:
        """Write the rows of a batch of good records to their queues."""
        self.record_count += len(records)
        self.last_timestamp = max(self.last_timestamp, int(records["store_timestamp"].max()))
        kinds = records["system_flag"] & TRANSACTION_MASK
        records = records[(kinds == 0) | (kinds == TRANSACTION_COMMIT)]
        rows = self._rows_of(file, records)
        if hold:
            missing = self.queues.gaps(rows)
            self.held.update(np.unique(rows["slot"][missing]).tolist())
            rows = rows[~missing]
        self.row_count += self.queues.write_rows(rows)

    def _rows_of(self, file: MappedFile, records: Rows) -> Rows:
        """ap_row entries of those records whose queue there can be."""
        rows = np.zeros(len(records), dtype("ap_row"))
        for name in ("physical_offset", "size", "queue_offset", "tags_code"):
            rows[name] = records[name]
        queues = records["topic_hash"] ^ records["queue_id"].astype(np.uint64) * _SPREAD
        keys, firsts, numbers = np.unique(queues, return_index=True, return_inverse=True)
        slots = np.array(
            [
                self._slot_of(file, key, records[first])
                for key, first in zip(keys.tolist(), firsts.tolist(), strict=True)
            ],
            np.int64,
        )[numbers]
        known = slots >= 0
        self.refused_count += len(rows) - int(known.sum())
        rows["slot"] = np.where(known, slots, 0)
        delayed = np.isin(slots, list(self.schedule_slots))
        rows["tags_code"][delayed] = self._delivery_times(records[delayed])
        return rows[known]

    def _slot_of(self, file: MappedFile, key: int, record: Any) -> int:
        """Slot of a record's queue, -1 when its topic or queue id cannot be one."""
        if key in self.slots:
            return self.slots[key]
        at = int(record["physical_offset"]) - file.first_offset + int(record["topic_at"])
        name = bytes(file.view[at : at + int(record["topic_size"])])
        topic, queue_id = name.decode("utf-8", "surrogateescape"), int(record["queue_id"])
        fits = 0 < len(name) <= _TOPIC_SIZE_MAX and topic not in (".", "..")
        fits = fits and not {"/", "\0"} & set(topic) and 0 <= queue_id < _QUEUE_ID_MAX
        slot = self.slots[key] = self.queues.slot(topic, queue_id) if fits else -1
        if topic == SCHEDULE_TOPIC and fits:
            self.schedule_slots.add(slot)
        return slot

    def _delivery_times(self, records: Rows) -> NDArray[np.int64]:
        """The tag column of the schedule topic: when each message is due, ms (section 3.1)."""
        levels, stored = records["delay_level"], records["store_timestamp"]
        return np.array(
            [
                schedule_tags_code(level, time, self.delay_levels_ms) if level > 0 else code
                for level, time, code in zip(
                    levels.tolist(), stored.tolist(), records["tags_code"].tolist(), strict=True
                )
            ],
            np.int64,
        )

    # ---- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Cut what is behind the end, and bring everything to the disk."""
        self.stale_rows = self.queues.truncate(self.log_end)
        self.stale_size = self.log.truncate(self.log_end)
        self.log.mark_synced(self.walk_begin)
        self.log.sync(self.log_end)
        self.queues.sync()
        self.queues.correct_min(self.log.first_offset)
        # A store that Apache wrote has holes: a full disk must not be met in the middle of a write.
        last = self.log.files[-1]
        last.allocate(0, last.size)
        # Whoever made it may have died before its length and its name were on disk.
        last.sync(self.log_end)
        self.log.disk.sync_path(self.log.directory)


def _walk_file(file: MappedFile, position: int, *, count_max: int, check_crc: bool) -> Rows:
    """ap_record rows from an offset of a file on; see ap_walk."""
    out = np.zeros(count_max, dtype("ap_record"))
    at = position - file.first_offset
    count = lib.ap_walk(
        ffi.cast("uint8_t *", file.address + at),
        file.size - at,
        position,
        check_crc,
        pointer("ap_record", out),
        count_max,
    )
    return out[:count]


def _good_count(file: MappedFile, records: Rows) -> int:
    """How many rows from the first on are messages that are whole and where they say they are."""
    good = records["status"] == Status.MESSAGE
    good &= records["record_offset"] == records["physical_offset"]
    good[good] = ~_are_torn(file, records[good])
    return len(good) if good.all() else int(np.argmin(good))


def _are_torn(file: MappedFile, records: Rows) -> NDArray[np.bool_]:
    """Which records have nothing but zeros in a sector's part of their topic and properties.

    Neither ends in a zero byte by itself, but a sector that did not reach the disk reads so.
    """
    begins = records["physical_offset"] - file.first_offset
    firsts = begins + records["topic_at"]
    ends = np.where(
        records["properties_size"] > 0, begins + records["size"], firsts + records["topic_size"]
    )
    torn = np.zeros(len(records), np.bool_)
    sectors = -(-firsts // _SECTOR_SIZE) * _SECTOR_SIZE
    while (crossing := np.flatnonzero(sectors < ends)).size:
        for at in crossing[file.view[sectors[crossing]] == 0]:
            sector = file.view[sectors[at] : min(sectors[at] + _SECTOR_SIZE, ends[at])]
            torn[at] |= not sector.any()
        sectors += _SECTOR_SIZE
    return torn


def _magic_offsets(disk: Disk, file: MappedFile, begin: int) -> Iterator[int]:
    """Offsets at which a record may begin, from `begin` on: a known magic stands behind them."""
    overlap = len(_MAGIC_PREFIX) - 1
    for first, end in disk.written_ranges(file.memory, begin - file.first_offset, file.size):
        for at in range(first, end, _SEARCH_SIZE):
            chunk = bytes(file.view[at : min(at + _SEARCH_SIZE + overlap, file.size)])
            found = chunk.find(_MAGIC_PREFIX)
            while found >= 0:
                if at + found - 4 >= begin - file.first_offset:
                    yield file.first_offset + at + found - 4
                found = chunk.find(_MAGIC_PREFIX, found + 1)
