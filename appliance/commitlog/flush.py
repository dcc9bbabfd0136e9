"""When the log is synced, and by whom: one sync at a time, everything that came meanwhile in the
next.

Runs in: writer; the sync itself in a thread that runs C alone and never holds the interpreter.
Owns: `flushed`.
Fails: FlushFailed when the disk refuses a sync. What the page cache holds is not trusted any more
       then: nothing further is acknowledged (the same sync is never tried again).
"""

import os
import threading
from typing import NamedTuple, Protocol

from appliance import failpoint
from appliance.clock import Now
from appliance.ring.watermarks import Watermarks
from clib import ffi, lib

from appliance.commitlog.disk import MappedMemory
from appliance.commitlog.mapped_file import MappedFile, MappedFileQueue

ASYNC_WINDOW_NS = 100_000_000
"""Under async flush a record is on its way to the disk at the latest after so long. A sync that
takes as long again bounds what a power cut costs: 200 ms."""


PAGE_SIZE = 4096
WARM_SIZE = 256 << 10
"""Blocks that were allocated and never written cost a commit of the file system's journal at their
first sync, often a millisecond. Written with zeros so many at a time, most syncs meet none."""


class FlushFailed(RuntimeError):
    """A sync failed; the message says of which file and why."""


class Outcome(NamedTuple):
    """How a sync ended: errno, 0 when the bytes are on disk, and how long it took."""

    error: int
    took_ns: int


class Syncer(Protocol):
    """Syncs one file at a time, without being waited for."""

    def ask(self, memory: MappedMemory) -> None:
        """Begin a sync."""

    def poll(self) -> Outcome | None:
        """How the sync ended; None while it goes on."""

    def stop(self) -> None:
        """No more of them."""


class ThreadSyncer:
    """A thread that serves a mailbox (ap_flush) and rings the writer's doorbell."""

    def __init__(self, done_bell: int) -> None:
        self._box = ffi.new("ap_flush *")
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)
        self._seen = 0
        serve = lib.ap_flush_serve
        self._thread = threading.Thread(
            target=serve, args=(self._box, self._bell, done_bell), name="flush", daemon=True
        )
        self._thread.start()

    def ask(self, memory: MappedMemory) -> None:
        """Begin a sync."""
        assert lib.ap_flush_ask(self._box, memory.fd, self._bell) == 0

    def poll(self) -> Outcome | None:
        """How the sync ended; None while it goes on."""
        finished = lib.ap_load(ffi.addressof(self._box, "finished"))
        if finished == self._seen:
            return None
        self._seen = int(finished)
        return Outcome(int(self._box.error), int(self._box.took_ns))

    def stop(self) -> None:
        """Ends the thread once a sync under way is done."""
        self._box.stop = 1
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)


class Flush:
    """Moves `flushed` after `appended`, by policy `sync` (at once) or async (in windows)."""

    def __init__(
        self, log: MappedFileQueue, watermarks: Watermarks, syncer: Syncer, *, at_once: bool
    ) -> None:
        self._log, self._watermarks, self._syncer = log, watermarks, syncer
        self._at_once = at_once
        self._under_way: tuple[MappedFile, int] | None = None
        self._began_ns = 0
        self._warm_offset = 0
        self.took_ns = 0

    @property
    def behind(self) -> bool:
        """Whether something is not on disk yet."""
        return self._watermarks.flushed < self._watermarks.appended

    def collect(self) -> bool:
        """Sees whether a sync ended and moves `flushed`; True when it did. FlushFailed."""
        if self._under_way is None or (outcome := self._syncer.poll()) is None:
            return False
        file, target = self._under_way
        self._under_way = None
        self.took_ns = outcome.took_ns
        if outcome.error:
            raise FlushFailed(f"{file.path}: the sync failed: {os.strerror(outcome.error)}")
        failpoint.reach("flush.seen")
        file.synced_offset = max(file.synced_offset, target)
        self._watermarks.move("flushed", target)
        failpoint.reach("flush.moved")
        return True

    def begin(self, now: Now) -> bool:
        """Begins a sync when one is due and none is under way."""
        if self._under_way is not None or not self.behind:
            return False
        if not self._at_once and now.monotonic_ns - self._began_ns < ASYNC_WINDOW_NS:
            return False
        flushed, appended = self._watermarks.flushed, self._watermarks.appended
        file = self._log.file_at(flushed)
        assert file is not None, f"no file at {flushed}"
        if self._at_once and appended - flushed < WARM_SIZE // 16:  # else many share the cost
            self._warm(file, appended)
        self._syncer.ask(file.memory)
        self._under_way = file, min(appended, file.end_offset)
        self._began_ns = now.monotonic_ns
        failpoint.reach("flush.asked")
        return True

    def _warm(self, file: MappedFile, appended: int) -> None:
        """Writes zeros behind the log's end, where zeros are read anyway."""
        begin = max(self._warm_offset, appended + -appended % PAGE_SIZE)
        if begin - appended > WARM_SIZE // 4:
            return
        self._warm_offset = min(begin + WARM_SIZE, file.end_offset)
        file.view[begin - file.first_offset : self._warm_offset - file.first_offset] = 0

    def due_in_ns(self, now: Now) -> int | None:
        """How long the writer may sleep before the next sync; None when nothing waits."""
        if self._under_way is not None or not self.behind:
            return None
        return max(0, self._began_ns + ASYNC_WINDOW_NS - now.monotonic_ns)

    def finish(self) -> None:
        """Everything to the disk, now, at a clean stop. FlushFailed."""
        if self._under_way is not None:
            while not self.collect():
                os.sched_yield()
        try:
            self._log.sync(self._watermarks.appended)
        except OSError as error:
            raise FlushFailed(f"{error.filename or self._log.directory}: {error}") from error
        self._watermarks.move("flushed", self._watermarks.appended)
