"""The single storage writer: append, sync, dispatch, answer, and keep house in between.

Runs in: writer.
Owns: the store directory but config/: log, ConsumeQueues, checkpoint, abort; the watermarks.
Fails: StoreRefused for a store that is not ours to open; a failed sync ends acknowledgement for
       good.
"""

import logging
import select

from appliance.clock import Clock, Now
from appliance.commitlog.append import SERVICE_NOT_AVAILABLE, Appender
from appliance.commitlog.bindings import QueueRows
from appliance.commitlog.disk import Disk
from appliance.commitlog.dispatch import Dispatcher, Run
from appliance.commitlog.flush import Flush, FlushFailed, Syncer
from appliance.commitlog.house import House
from appliance.commitlog.mapped_file import SyncFailed
from appliance.commitlog.store import Store, open_store
from appliance.heritage import WRITER, Heritage
from appliance.ring.ring import Ring
from appliance.ring.tables import QueueTable, TopicTable
from appliance.ring.watermarks import FAILED, SERVING, STARTING, Watermarks

log = logging.getLogger("appliance.writer")

TICK_NS = 5_000_000
HOUSE_NS = 1_000_000_000


class Writer:
    """See the file's head. Recovers the store as it is made; `ready` from then on."""

    ready = True

    def __init__(self, heritage: Heritage, disk: Disk, syncer: Syncer, clock: Clock) -> None:
        settings = heritage.config.store
        self._heritage, self._syncer = heritage, syncer
        self._bells = heritage.doorbells
        self._watermarks = Watermarks(heritage.watermarks)
        self._rings = [Ring(region, "ap_send") for region in heritage.send]
        self._done = [Ring(region, "ap_done") for region in heritage.done]
        self._sync = settings.flush == "sync"
        self._poll = select.poll()
        self._poll.register(self._bells.bells[WRITER], select.POLLIN)
        self._tick_ns = 0
        self._failed = ""
        self._store = self._open_store(disk, clock)
        self._house = House(disk, self._store, retention_ms=settings.retention_ms)
        self._begin()

    def _open_store(self, disk: Disk, clock: Clock) -> Store:
        """The recovered store. A sync that fails while a dead writer's sends wait for their answers
        ends acknowledgement: the next one would succeed without their bytes."""
        settings = self._heritage.config.store
        try:
            return open_store(
                disk,
                settings.root,
                file_size=settings.commitlog_file_size,
                row_count=settings.consumequeue_entries,
                clock=clock,
            )
        except SyncFailed:
            if self._watermarks.state == SERVING:
                self._watermarks.move("state", FAILED)
            raise

    def _begin(self) -> None:
        """Takes over the shared memory: empty after a start, else as a dead writer left it."""
        first_start = self._watermarks.state == STARTING
        store, recovered = self._store, self._store.recovered
        self._report()
        if first_start:
            for name in ("appended", "flushed", "dispatched"):
                self._watermarks.restart(name, recovered.log_end)
            self._watermarks.restart("expired", recovered.log_min)
        table, topics = QueueTable(self._heritage.queues), TopicTable(self._heritage.topics)
        self._rows = QueueRows(table, topics, store.queues)
        parts = self._watermarks, self._rings, self._done
        self._appender = Appender(store.log, self._rows, self._heritage.writer, *parts)
        self._dispatcher = Dispatcher(store.queues, self._rows, *parts, self._wake)
        self._flush = Flush(store.log, self._watermarks, self._syncer, at_once=self._sync)
        self._appender.last_timestamp = recovered.last_store_timestamp
        self._dispatcher.last_timestamp = recovered.last_store_timestamp
        if not first_start:
            self._resume()
        if self._watermarks.state == FAILED:
            self._failed = "the disk refused a sync of the writer before this one"
        else:
            self._watermarks.move("state", SERVING)

    def _report(self) -> None:
        """Tells the supervisor, for its `ready` line, and the log what recovery did."""
        found, page = self._store.recovered, self._heritage.writer.struct("ap_writer")
        page.recovered_abnormal = found.abnormal
        page.recovered_records, page.recovered_rows = found.record_count, found.row_count
        page.recovered_cut, page.recovered_damaged = found.stale_size, len(found.damaged)
        page.recovered_us = int(found.seconds * 1e6)
        for offset, size in found.damaged:
            log.error("the log is damaged: %d bytes at %d were stepped over", size, offset)

    def _resume(self) -> None:
        if self._appender.redo():
            log.info("finished what the dead writer had begun to append")
        self._dispatcher.resume(self._appender.taken)

    def _wake(self, ring: int) -> None:
        self._bells.wake(self._heritage.owner_of_ring(ring))

    # ------------------------------------------------------------- the step

    def step(self, now: Now) -> int:
        """Sees a finished sync, appends what waits, shows what may be shown, begins a sync."""
        if self._failed:
            return self._refuse()
        work = 0
        try:
            work += self._flush.collect()
            for number in range(len(self._rings)):
                work += self._append(number, now)
            work += self._show()
            work += self._flush.begin(now)
        except FlushFailed as error:
            self._fail(str(error))
        self._keep_house(now)
        return work

    def _append(self, number: int, now: Now) -> int:
        first = self._appender.taken(number)
        count = self._appender.append(number, now.wall_ms)
        if count:
            self._dispatcher.add(Run(number, first, first + count, self._watermarks.appended))
        return count

    def _show(self) -> int:
        limit = self._watermarks.flushed if self._sync else self._watermarks.appended
        try:
            shown = self._dispatcher.show(limit)
        except OSError as error:
            log.error("queue rows cannot be written: %s; messages wait", error)
            return 0
        if shown:
            self._wake_readers()
        return shown

    def _wake_readers(self) -> None:
        for number in range(self._heritage.frontends):
            process = self._heritage.owner_of_ring(number)
            if self._bells.rows[process].parked:
                self._bells.wake(process)

    # ------------------------------------------------------------- failure

    def _fail(self, reason: str) -> None:
        self._failed = reason
        self._watermarks.move("state", FAILED)
        log.critical("%s: no send is acknowledged any more; repair the disk, then restart", reason)

    def _refuse(self) -> int:
        """Answers everything that waits with an error: what the disk holds is not known."""
        work = 0
        for number, (ring, done) in enumerate(zip(self._rings, self._done, strict=True)):
            first, last = done.head, ring.head
            if first == last:
                continue
            self._appender.settle(number, first, last, SERVICE_NOT_AVAILABLE)
            done.publish(last)
            ring.release(last)
            self._wake(number)
            work += last - first
        return work

    # ------------------------------------------------------------- house

    def _keep_house(self, now: Now) -> None:
        """Checkpoint, the files to come, queue files to the disk, old files away."""
        if now.monotonic_ns < self._tick_ns or self._failed:
            return
        self._tick_ns = now.monotonic_ns + TICK_NS
        timestamp = self._dispatcher.last_timestamp
        try:
            self._house.tick(now, flushed=self._watermarks.flushed, dispatched_ms=timestamp)
            if self._house.expire(now):
                self._watermarks.move("expired", self._store.log.first_offset)
                self._rows.show_min()
        except OSError as error:
            log.error("%s: %s", error.filename or self._store.paths.root, error.strerror)

    # ------------------------------------------------------------- waiting and ending

    def sleep_ms(self, now: Now) -> int:
        """Until a sync is due, or the next second."""
        due_ns = self._flush.due_in_ns(now)
        if due_ns is None:
            due_ns = TICK_NS if self._house.busy else HOUSE_NS
        return due_ns // 1_000_000 + 1

    def pending(self) -> bool:
        """Entries wait."""
        return any(self._appender.taken(i) < ring.head for i, ring in enumerate(self._rings))

    def wait(self, timeout_ms: int, now: Now) -> None:
        """Sleeps on the doorbell: others ring it for entries, the flush thread for a sync."""
        if timeout_ms and self._poll.poll(timeout_ms):
            self._bells.hush(WRITER)

    def stop(self, now: Now) -> bool:
        """Everything that was sent is appended, shown and answered before the end."""
        return bool(self._failed) or all(ring.tail == ring.head for ring in self._rings)

    def close(self) -> None:
        """A clean end: all on disk, the checkpoint written, `abort` gone."""
        if not self._failed:
            self._flush.finish()
            self._show()
            self._house.close(self._dispatcher.last_timestamp)
        self._syncer.stop()
