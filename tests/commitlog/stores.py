"""Golden stores unpacked and damaged, and stores built from records; shared by the tests here."""

import json
import shutil
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.clock import Clock, Now
from appliance.commitlog.checkpoint import CheckpointFile, was_running
from appliance.commitlog.consume_queue import UNIT_SIZE, ConsumeQueueReader, found_row_count
from appliance.commitlog.disk import Disk
from appliance.commitlog.files import StorePaths, check_store
from appliance.commitlog.mapped_file import MappedFileQueue, found_file_size
from appliance.commitlog.queue_set import QueueSet
from appliance.commitlog.reader import LogReader
from appliance.commitlog.record import Record, build, stamp
from appliance.commitlog.recovery import Recovered, recover
from appliance.ring.layout import dtype

GOLDEN = Path(__file__).parent.parent / "golden" / "store"


class StillClock(Clock):
    """A clock that stands."""

    def now(self) -> Now:
        return Now(0, 0)


class Bounds(NamedTuple):
    """Watermarks, as LogReader wants them."""

    expired: int
    dispatched: int


class Opened(NamedTuple):
    """A recovered store."""

    disk: Disk
    paths: StorePaths
    log: MappedFileQueue
    queues: QueueSet
    checkpoint: CheckpointFile
    recovered: Recovered

    def log_reader(self) -> LogReader:
        bounds = Bounds(self.recovered.log_min, self.recovered.log_end)
        return LogReader(
            self.disk, self.paths.commitlog, file_size=self.log.file_size, bounds=bounds
        )

    def queue_reader(self) -> ConsumeQueueReader:
        return ConsumeQueueReader(
            self.disk, self.paths.consumequeue, file_size=self.queues.file_size
        )

    def bounds(self) -> dict[str, dict[str, list[int]]]:
        """{topic: {queue: [min, max]}} of the queues that ever had a row."""
        found: dict[str, dict[str, list[int]]] = {}
        for slot in range(len(self.queues)):
            topic, queue_id = self.queues.key(slot)
            pair = [int(self.queues.min_offset[slot]), int(self.queues.next_offset[slot])]
            if pair != [0, 0]:
                found.setdefault(topic, {})[str(queue_id)] = pair
        return found

    def readable(self) -> set[tuple[str, int, int, int]]:
        """(topic, queue id, queue offset, physical offset) of all that a consumer is given."""
        log, reader, found = self.log_reader(), self.queue_reader(), set()
        for slot in range(len(self.queues)):
            topic, queue_id = self.queues.key(slot)
            first, end = int(self.queues.min_offset[slot]), int(self.queues.next_offset[slot])
            while first < end:
                rows = reader.rows(topic, queue_id, first, count_max=1 << 20, visible_max=end)
                assert len(rows), f"{topic}/{queue_id}: row {first} of {end} cannot be read"
                for row, unit in enumerate(rows, first):
                    offset = int(unit["physical_offset"])
                    if unit["size"] != 0x7FFFFFFF and log.record_at(offset) is not None:
                        found.add((topic, queue_id, row, offset))
                first += len(rows)
        return found


def open_store(disk: Disk, root: str, *, file_size: int = 65536, row_count: int = 10) -> Opened:
    """What the writer does with a store directory before it serves it."""
    paths = StorePaths(root)
    check_store(disk, root)
    for directory in (paths.commitlog, paths.consumequeue):
        disk.make_directories(directory)
    log_file_size = found_file_size(disk, [paths.commitlog], file_size)
    log = MappedFileQueue(disk, paths.commitlog, log_file_size)
    log.load()
    rows = found_row_count(disk, paths.consumequeue, row_count)
    queues = QueueSet(disk, paths.consumequeue, file_size=rows * UNIT_SIZE)
    checkpoint = CheckpointFile(disk, paths)
    recovered = recover(
        log,
        queues,
        checkpoint.read(),
        abnormal=was_running(disk, paths),
        clock=StillClock(),
    )
    return Opened(disk, paths, log, queues, checkpoint, recovered)


@cache
def manifest(name: str) -> Any:
    """A golden JSON file."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def messages(name: str) -> dict[int, Any]:
    """The manifest's messages by physical offset."""
    return {message["physicalOffset"]: message for message in manifest(name)["messages"]}


def unpack(name: str, directory: Path) -> Path:
    """A golden store's root below a directory; without the timer wheel, which is large."""
    with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
        members = [m for m in archive.getmembers() if not m.name.endswith("timerwheel")]
        archive.extractall(directory, members, filter="data")
    return directory / name


def damage(root: Path, changes: Sequence[Any]) -> None:
    """Apply a recovery case's changes; what they mean is told in recovery_cases.json."""
    for change in changes:
        path = root / change["path"]
        match change["op"]:
            case "delete":
                path.unlink(missing_ok=True)
            case "rmtree":
                shutil.rmtree(path)
            case "create":
                path.write_bytes(bytes.fromhex(change["hex"]))
            case "text":
                path.write_text(change["text"])
            case "truncate":
                if path.name != "timerwheel":
                    with path.open("r+b") as file:
                        file.truncate(change["size"])
            case "write":
                _overwrite(path, change["offset"], bytes.fromhex(change["hex"]))
            case "zero":
                _overwrite(path, change["offset"], bytes(change["length"]))
            case "xor":
                byte = path.read_bytes()[change["offset"]] ^ change["value"]
                _overwrite(path, change["offset"], bytes([byte]))
            case other:
                raise AssertionError(f"unknown change {other}")


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def make_rows(*rows: tuple[int, int, int, int]) -> NDArray[np.void]:
    """ap_row entries of (slot, queue offset, physical offset, size); the tags code is 7."""
    made = np.zeros(len(rows), dtype("ap_row"))
    for number, (slot, queue_offset, physical_offset, size) in enumerate(rows):
        made[number]["slot"] = slot
        made[number]["queue_offset"] = queue_offset
        made[number]["physical_offset"] = physical_offset
        made[number]["size"] = size
        made[number]["tags_code"] = 7
    return made


class Appending:
    """Appends records to a log, and their rows to its queues when asked: the writer, one by one."""

    def __init__(self, store: Opened) -> None:
        self.store = store
        self.end = store.recovered.log_end
        self.time_ms = max(store.recovered.last_store_timestamp, 1_000_000)
        self._next: dict[int, int] = {}

    def append(
        self, topic: str, queue_id: int, body: bytes, *, rows: bool = True, **fields: Any
    ) -> Record:
        """One message; rows: whether it is dispatched too."""
        store = self.store
        data = bytearray(build(Record(topic, body, queue_id=queue_id, **fields)))
        file = store.log.file_at(self.end)
        if file is None or self.end + len(data) + 8 > file.end_offset:
            if file is not None:
                left = file.end_offset - self.end
                mark = left.to_bytes(4, "big") + b"\xcb\xd4\x31\x94"
                position = self.end - file.first_offset
                file.view[position : position + 8] = np.frombuffer(mark, np.uint8)
            file = store.log.next_file()
            self.end = file.first_offset
        slot = store.queues.slot(topic, queue_id)
        queue_offset = self._next.get(slot, int(store.queues.next_offset[slot]))
        self._next[slot] = queue_offset + 1
        self.time_ms += 10
        stamp(
            memoryview(data),
            queue_offset=queue_offset,
            physical_offset=self.end,
            store_timestamp=self.time_ms,
        )
        position = self.end - file.first_offset
        file.view[position : position + len(data)] = np.frombuffer(bytes(data), np.uint8)
        record = Record(
            topic, body, queue_id=queue_id, queue_offset=queue_offset, physical_offset=self.end
        )
        if rows:
            store.queues.write_rows(make_rows((slot, queue_offset, self.end, len(data))))
        self.end += len(data)
        return record
