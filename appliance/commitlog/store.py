"""A store that is open for the writer: found or made, checked, recovered.

Runs in: writer.
Owns: the order in which a store is opened.
Fails: StoreRefused for a store that we do not open; OSError is the machine's.
"""

from dataclasses import dataclass

from appliance.clock import Clock

from appliance.commitlog.checkpoint import CheckpointFile, was_running
from appliance.commitlog.consume_queue import UNIT_SIZE, found_row_count
from appliance.commitlog.disk import Disk
from appliance.commitlog.files import StorePaths, check_store
from appliance.commitlog.mapped_file import MappedFileQueue, found_file_size
from appliance.commitlog.queue_set import QueueSet
from appliance.commitlog.recovery import Recovered, recover


@dataclass(slots=True)
class Store:
    """The parts of an open store, and what recovery did to it."""

    paths: StorePaths
    log: MappedFileQueue
    queues: QueueSet
    checkpoint: CheckpointFile
    recovered: Recovered


def open_store(disk: Disk, root: str, *, file_size: int, row_count: int, clock: Clock) -> Store:
    """Open, or create, the store in `root` and recover it.

    file_size (bytes of a log file) and row_count (rows of a ConsumeQueue file) are for a new store;
    an old one keeps its own.
    """
    paths = StorePaths(root)
    check_store(disk, root)
    for directory in (paths.commitlog, paths.consumequeue):
        disk.make_directories(directory)
    size = found_file_size(disk, [paths.commitlog], file_size)
    log = MappedFileQueue(disk, paths.commitlog, size)
    log.load()
    rows = found_row_count(disk, paths.consumequeue, row_count)
    queues = QueueSet(disk, paths.consumequeue, file_size=rows * UNIT_SIZE)
    checkpoint = CheckpointFile(disk, paths)
    abnormal = was_running(disk, paths)
    recovered = recover(log, queues, checkpoint.read(), abnormal=abnormal, clock=clock)
    return Store(paths, log, queues, checkpoint, recovered)
