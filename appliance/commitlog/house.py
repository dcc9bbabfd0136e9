"""What the writer does beside the hot path: queue files to the disk, checkpoint, next file, expiry.

Runs in: writer, in small pieces between steps.
Owns: the checkpoint, the abort file, the files to come and those to go.
Fails: OSError is the machine's; what was not done is tried again.
"""

import os

from appliance.clock import Now

from appliance.commitlog.checkpoint import Checkpoint, mark_closed, mark_running
from appliance.commitlog.disk import Disk
from appliance.commitlog.expiry import expire
from appliance.commitlog.store import Store

ROUND_NS = 1_000_000_000
EXPIRY_NS = 10_000_000_000
FILES_A_TICK = 2


class House:
    """Keeps an open store in order."""

    def __init__(self, disk: Disk, store: Store, *, retention_ms: int) -> None:
        self._disk, self._store, self._retention_ms = disk, store, retention_ms
        self._round_ns = self._expiry_ns = 0
        self._in_round = False
        self._round_ms = 0
        self._settled: tuple[int, Checkpoint] | None = None
        mark_running(disk, store.paths, os.getpid())

    @property
    def busy(self) -> bool:
        """A round is under way, or its checkpoint waits for the log."""
        return self._in_round or self._settled is not None

    def tick(self, now: Now, *, flushed: int, dispatched_ms: int) -> None:
        """A little of what is due. `flushed`: physical offset; `dispatched_ms`: store time of the
        last record that has its row."""
        if not self._in_round and now.monotonic_ns >= self._round_ns:
            self._round_ns = now.monotonic_ns + ROUND_NS
            self._in_round, self._round_ms = True, dispatched_ms
            self._store.log.prepare_next()
        if self._in_round and self._store.queues.sync(FILES_A_TICK):
            self._in_round = False
            self._settled = self._note_settled()
        if self._settled is not None and flushed >= self._settled[0]:
            self._store.checkpoint.write(self._settled[1])
            self._settled = None

    def _note_settled(self) -> tuple[int, Checkpoint]:
        """The checkpoint that holds as soon as the log is on disk up to the offset."""
        offset, rows = self._store.queues.settled
        checkpoint = Checkpoint(
            physic_timestamp=self._round_ms,
            logics_timestamp=self._round_ms,
            settled_offset=offset,
            settled_rows=rows,
        )
        return offset, checkpoint

    def expire(self, now: Now) -> bool:
        """Removes files that are old enough; True when the log begins later than before."""
        if now.monotonic_ns < self._expiry_ns:
            return False
        self._expiry_ns = now.monotonic_ns + EXPIRY_NS
        begin = self._store.log.first_offset
        return begin < expire(
            self._store.log,
            self._store.queues,
            now_ms=now.wall_ms,
            retention_ms=self._retention_ms,
        )

    def close(self, dispatched_ms: int) -> None:
        """A clean end; the log is on disk already."""
        store = self._store
        self._in_round, self._round_ms = True, dispatched_ms
        store.queues.sync()  # ends a round under way, which leaves out what came since its begin
        store.queues.sync()
        store.checkpoint.write(self._note_settled()[1], sync=True)
        store.log.drop_prepared()
        store.queues.close()
        store.log.close()
        store.checkpoint.close()
        mark_closed(self._disk, store.paths)
