"""ConsumeQueues: the rows of each (topic, queue) that say where its messages lie in the log.

Runs in: frontends and coordinator (ConsumeQueueReader); the writer's part is queue_set.py.
Owns: nothing; it reads what the writer publishes.
Fails: OSError is the machine's. A row that cannot be read is none, not an error.

Row i of a queue (specification: store sheet, section 3; Apache: ConsumeQueue) is its message with
queue_offset i and lies at byte 20 * i of the queue's stream of files:

    physical_offset i64 | size i32 | tags_code i64        big-endian; all zero: not written yet

A row that has no message (it was lost, or the queue joined later) is blank: (0, 0x7FFFFFFF, 0).
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.commitlog.disk import Disk, MappedMemory
from appliance.commitlog.files import offset_name, parse_queue_id
from appliance.commitlog.mapped_file import found_file_size
from appliance.commitlog.reader import LogReader

Rows = NDArray[np.void]

UNIT: Final = np.dtype([("physical_offset", ">i8"), ("size", ">i4"), ("tags_code", ">i8")])
UNIT_SIZE: Final = 20
BLANK_UNIT_SIZE: Final = 0x7FFFFFFF

assert UNIT.itemsize == UNIT_SIZE


def queue_directories(disk: Disk, directory: str) -> Iterator[tuple[str, int]]:
    """(topic, queue id) of every queue that has a directory below consumequeue/."""
    for topic in disk.listdir(directory) if disk.exists(directory) else ():
        path = f"{directory}/{topic}"
        for name in disk.listdir(path) if disk.is_directory(path) else ():
            queue_id = parse_queue_id(name)
            if queue_id is not None and disk.is_directory(f"{path}/{name}"):
                yield topic, queue_id


def found_row_count(disk: Disk, directory: str, configured_count: int) -> int:
    """Rows in one ConsumeQueue file of this store: as found, else as configured."""
    found = (f"{directory}/{topic}/{queue}" for topic, queue in queue_directories(disk, directory))
    return found_file_size(disk, found, configured_count * UNIT_SIZE) // UNIT_SIZE


class ConsumeQueueReader:
    """Rows of any queue, for processes that do not write them. Keeps `mapped_max` files mapped."""

    def __init__(
        self, disk: Disk, directory: str, *, file_size: int, mapped_max: int = 512
    ) -> None:
        self.rows_per_file = file_size // UNIT_SIZE
        self._disk = disk
        self._directory = directory
        self._mapped_max = mapped_max
        self._files: OrderedDict[tuple[str, int, int], MappedMemory] = OrderedDict()

    def rows(
        self, topic: str, queue_id: int, first: int, *, count_max: int, visible_max: int
    ) -> Rows:
        """Rows from `first` on, as UNIT, of one file and below `visible_max`; maybe none.

        Apache's getMessage does not cross into the next file either (travelCqFileNum 1).
        """
        number, position = divmod(first, self.rows_per_file)
        count = min(count_max, visible_max - first, self.rows_per_file - position)
        file = self._file(topic, queue_id, number) if count > 0 and first >= 0 else None
        if file is None:
            return np.empty(0, UNIT)
        begin = position * UNIT_SIZE
        return file.view[begin : begin + count * UNIT_SIZE].view(UNIT)

    def span(
        self, topic: str, queue_id: int, first: int, *, count_max: int, visible_max: int
    ) -> tuple[int, int]:
        """rows() for C: (address of the first row, how many); (0, 0) when there are none.

        The address is good until the next call.
        """
        number, position = divmod(first, self.rows_per_file)
        count = min(count_max, visible_max - first, self.rows_per_file - position)
        file = self._file(topic, queue_id, number) if count > 0 and first >= 0 else None
        return (file.address + position * UNIT_SIZE, count) if file else (0, 0)

    def next_file_row(self, row: int) -> int:
        """First row of the file behind the one that holds a row."""
        return (row // self.rows_per_file + 1) * self.rows_per_file

    def forget(self, topic: str) -> None:
        """Let go of a topic's files: it was deleted."""
        for key in [key for key in self._files if key[0] == topic]:
            self._files.pop(key).close()

    def close(self) -> None:
        """Let go of all files."""
        while self._files:
            self._files.popitem()[1].close()

    def offset_by_time(
        self,
        topic: str,
        queue_id: int,
        timestamp: int,
        *,
        log: LogReader,
        bounds: tuple[int, int],
        upper: bool = False,
    ) -> int:
        """Row of the first message stored at or after `timestamp` (ms), or with `upper` the last
        one stored at or before it, within `bounds` (min, max).

        Section 7.4; Apache: ConsumeQueue.getOffsetInQueueByTime, its answers at the edges included.
        """
        low, high = bounds
        if low >= high:
            return low

        def time_at(row: int) -> int:
            units = self.rows(topic, queue_id, row, count_max=1, visible_max=high)
            return log.store_timestamp(int(units[0]["physical_offset"])) if len(units) else -1

        firsts = range(low - low % self.rows_per_file, high, self.rows_per_file)
        if upper:
            at = bisect_right(firsts, timestamp, key=lambda row: time_at(max(row, low))) - 1
        else:
            at = bisect_left(firsts[1:], timestamp, key=lambda row: time_at(row - 1))
        if at < 0:
            return low
        begin, end = max(firsts[at], low), min(firsts[at] + self.rows_per_file, high)
        if upper:
            row = bisect_right(range(begin, end), timestamp, key=time_at) + begin - 1
            return max(row, low) if row >= begin else low
        return min(bisect_left(range(begin, end), timestamp, key=time_at) + begin, high)

    def _file(self, topic: str, queue_id: int, number: int) -> MappedMemory | None:
        key = topic, queue_id, number
        file = self._files.get(key)
        if file is not None:
            self._files.move_to_end(key)
            return file
        size = self.rows_per_file * UNIT_SIZE
        path = f"{self._directory}/{topic}/{queue_id}/{offset_name(number * size)}"
        if not self._disk.exists(path):
            return None
        file = self._files[key] = self._disk.open_map(path, size)
        if len(self._files) > self._mapped_max:
            self._files.popitem(last=False)[1].close()
        return file
