"""Deletion by age: log files whose every message is old enough, then the queue files behind them.

Runs in: writer.
Owns: the log's minimum and the queues' minima, by way of log and queues.
Fails: OSError is the machine's.
"""

from typing import Final

from appliance.commitlog.mapped_file import MappedFileQueue
from appliance.commitlog.queue_set import QueueSet

FILES_MAX: Final = 10
"""How many log files one call removes (deleteFileBatchMax)."""


def expire(log: MappedFileQueue, queues: QueueSet, *, now_ms: int, retention_ms: int) -> int:
    """Remove what is older than `retention_ms`; returns the log's new first offset.

    Apache's rule (specification: store sheet, section 6.4): the age of a file is that of its last
    change; oldest first, up to the first that is not due, and never the newest.
    """
    begin = log.first_offset
    due = begin
    for file in log.files[:-1][:FILES_MAX]:
        if log.disk.modified_ms(file.path) + retention_ms > now_ms:
            break
        due = file.end_offset
    log.remove_before(due)
    if log.first_offset > begin:
        queues.remove_expired(log.first_offset)
        queues.correct_min(log.first_offset)
    return log.first_offset
