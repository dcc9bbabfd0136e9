"""The writer's parts without the writer: appended, shown and flushed when a test says so."""

from typing import Self

from appliance.clock import Clock
from appliance.commitlog.append import Appender
from appliance.commitlog.bindings import QueueRows
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.dispatch import Dispatcher, Run
from appliance.commitlog.files import offset_name
from appliance.commitlog.store import Store, open_store
from appliance.ring.ring import Ring
from tests.fakes.clock import FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.world_parts import LOG_FILE_SIZE, ROOT, ROW_COUNT, Memory, Producer


class Bench:
    """Parts over a memory and a disk that outlive them: `restart` is a writer's death and birth.

    Pairs of rings: 0, a frontend's, and 1, the coordinator's.
    """

    def __init__(self, *, log_file_size: int = LOG_FILE_SIZE, row_count: int = ROW_COUNT) -> None:
        self.memory = Memory(log_file_size=log_file_size, row_count=row_count)
        self.disk, self.clock = FakeDisk(), FakeClock()
        self.producers = [Producer(self.memory, number) for number in (0, 1)]
        self.woken: list[int] = []
        self.log_file_size, self.row_count = log_file_size, row_count
        self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.__exit__()

    def restart(self) -> None:
        """Everything that is not in the memory or on the disk is lost."""
        shared, marks = self.memory.heritage, self.memory.watermarks
        self.disk.kill()
        self.store = self._open(self.clock)
        rings = [Ring(region, "ap_send") for region in shared.send]
        done = [Ring(region, "ap_done") for region in shared.done]
        self.rows = QueueRows(self.memory.queues, self.memory.topics, self.store.queues)
        log, queues = self.store.log, self.store.queues
        self.appender = Appender(log, self.rows, shared.writer, marks, rings, done)
        self.dispatcher = Dispatcher(queues, self.rows, marks, rings, done, self.woken.append)
        self.appender.redo()
        self.dispatcher.resume(self.appender.taken)

    def _open(self, clock: Clock) -> Store:
        size, count = self.log_file_size, self.row_count
        return open_store(self.disk, ROOT, file_size=size, row_count=count, clock=clock)

    def append(self, ring: int = 0, now_ms: int = 1_000) -> int:
        """Appends what waits in a ring; how many entries."""
        first = self.appender.taken(ring)
        count = self.appender.append(ring, now_ms)
        if count:
            self.dispatcher.add(Run(ring, first, first + count, self.memory.watermarks.appended))
        return count

    def show(self) -> int:
        """Shows all that is appended; how many entries."""
        return self.dispatcher.show(self.memory.watermarks.appended)

    def log(self) -> list[bytes]:
        """The log's files, oldest first."""
        return [bytes(file.view) for file in self.store.log.files]

    def queue(self, topic: str, queue_id: int = 0) -> list[tuple[int, int, int]]:
        """(physical offset, size, tags code) of the rows that readers may see."""
        end = self.memory.max(topic, queue_id)
        size = self.store.queues.file_size
        reader = ConsumeQueueReader(self.disk, self.store.paths.consumequeue, file_size=size)
        found: list[tuple[int, int, int]] = []
        for first in range(0, end, self.row_count):
            rows = reader.rows(topic, queue_id, first, count_max=1 << 20, visible_max=end)
            found += rows.tolist()
        return found

    def queue_files(self, topic: str, queue_id: int = 0) -> list[str]:
        """Names of a queue's files; none where it has no directory."""
        path = self.store.paths.queue(topic, queue_id)
        return self.disk.listdir(path) if self.disk.exists(path) else []

    def log_path(self, number: int) -> str:
        """The path of the log's file of that number."""
        return f"{self.store.paths.commitlog}/{offset_name(number * self.log_file_size)}"
