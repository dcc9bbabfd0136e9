"""What the coordinator sees of the store: queues, rows and records, as far as readers may.

Runs in: coordinator.
Owns: its own maps of the store's files; nothing is written.
Fails: OSError is the machine's; what is not there is None, 0 or -1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.reader import LogReader
from appliance.ring.tables import QueueTable
from appliance.ring.watermarks import Watermarks

from appliance.broker.kept.topics import Topics

_MEMORY_RATIO = 0.4
"""The newest part of the log that is taken to be in memory (accessMessageInMemoryMaxRatio)."""


class Unit(NamedTuple):
    """One row of a ConsumeQueue."""

    physical_offset: int
    size: int
    tags_code: int


class StoreView:
    """A read-only view, by topic names. Unknown topics and queues are as empty ones."""

    def __init__(
        self,
        topics: Topics,
        table: QueueTable,
        watermarks: Watermarks,
        log: LogReader,
        queues: ConsumeQueueReader,
        disk_space: Callable[[], tuple[int, int]],
        *,
        memory_size: int,
    ) -> None:
        """`memory_size` is the machine's memory in bytes."""
        self.disk_space = disk_space
        """(total, free) bytes of the file system that holds the store."""
        self.watermarks = watermarks
        self._topics = topics
        self._table = table
        self._log = log
        self._queues = queues
        self._memory_size = memory_size

    def bounds(self, topic: str, queue_id: int) -> tuple[int, int]:
        """(first queue offset in the log, the one behind the last that readers may see)."""
        row = self._topics.queue_row(topic, queue_id)
        return (0, 0) if row < 0 else (self._table.min(row), self._table.max(row))

    def ends(self, topic: str) -> npt.NDArray[np.int64]:
        """The ends of all queues of a topic, by queue id: always as they are, until it grows."""
        config, row = self._topics.get(topic), self._topics.queue_row(topic, 0)
        assert config is not None, f"{topic} is a system topic"
        ends: npt.NDArray[np.int64] = self._table.offsets["max"][row : row + config.queue_count]
        return ends

    def unit(self, topic: str, queue_id: int, queue_offset: int) -> Unit | None:
        """The row of a message."""
        begin, end = self.bounds(topic, queue_id)
        if not begin <= queue_offset < end:
            return None
        rows = self._queues.rows(topic, queue_id, queue_offset, count_max=1, visible_max=end)
        return Unit(*map(int, rows[0])) if len(rows) else None

    def record(self, physical_offset: int) -> bytes | None:
        """A copy of the record at an offset of the log."""
        found = self._log.record_at(physical_offset)
        return None if found is None else bytes(found)

    def store_time(self, topic: str, queue_id: int, queue_offset: int) -> int:
        """When a message was stored, in ms; -1 when it is not there."""
        unit = self.unit(topic, queue_id, queue_offset)
        return -1 if unit is None else self._log.store_timestamp(unit.physical_offset)

    def search(self, topic: str, queue_id: int, timestamp: int, *, upper: bool) -> int:
        """The queue offset that belongs to a time in ms."""
        return self._queues.offset_by_time(
            topic,
            queue_id,
            timestamp,
            log=self._log,
            bounds=self.bounds(topic, queue_id),
            upper=upper,
        )

    def begin_in_memory(self, topic: str, queue_id: int) -> bool:
        """Whether a queue still has its first message, and that is young enough to be in memory.

        Peer: MessageStore.checkInMemByConsumeOffset, which estimates as well.
        """
        first = self.unit(topic, queue_id, 0)
        if first is None:
            return False
        age_size = self.watermarks.appended - first.physical_offset
        return age_size <= self._memory_size * _MEMORY_RATIO

    def earliest_ms(self) -> int:
        """When the first record of the log was stored; -1 when there is none."""
        return self._log.store_timestamp(self.watermarks.expired)

    def forget_expired(self) -> None:
        """Let go of files that were deleted."""
        self._log.forget_before(self.watermarks.expired)
