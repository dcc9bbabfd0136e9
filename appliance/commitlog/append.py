"""The only code that adds to the log: offsets for a batch of ring entries, one copy, one journal.

A batch is the entries of one ring that fit into the current file. First their offsets are written
to the entries of the `done` ring that answer them, which nobody sees yet; then the journal is
opened, the records are copied, the cursors move and the journal is closed. A writer that dies in
between is followed by one that does the open journal again: same bytes, same places.

Runs in: writer.
Owns: the log's end: `appended`, `taken`, the queues' `next`.
Fails: a file that cannot be had (disk full) refuses the batch with SERVICE_NOT_AVAILABLE; lengths
       that do not add up are our own mistake and an assert.
"""

import numpy as np

from appliance import failpoint
from appliance.ring.region import Region
from appliance.ring.ring import Ring
from appliance.ring.watermarks import Watermarks
from clib import ffi, lib

from appliance.commitlog.bindings import QueueRows
from appliance.commitlog.mapped_file import MappedFile, MappedFileQueue
from appliance.commitlog.record import blank

BLANK_SIZE = 8
"""Bytes that every append leaves free in its file, for the blank record (store sheet, 2.4)."""
MESSAGE_ILLEGAL, SERVICE_NOT_AVAILABLE = 13, 14


class Appender:
    """Appends entries of send rings; `rings[i]` is answered by `done[i]`."""

    def __init__(
        self,
        log: MappedFileQueue,
        rows: QueueRows,
        page: Region,
        watermarks: Watermarks,
        rings: list[Ring],
        done: list[Ring],
    ) -> None:
        self._log, self._rows, self._watermarks = log, rows, watermarks
        self._rings, self._done = rings, done
        self._page = page.struct("ap_writer")
        self._journal = self._page.journal
        self._open = ffi.addressof(self._journal, "open")
        self._extent = ffi.new("ap_extent *")
        self.last_timestamp = 0
        self.refusal = ""

    def taken(self, ring: int) -> int:
        """Entries of that ring before this position are in the log (or refused)."""
        return int(self._page.taken[ring])

    def append(self, ring: int, now_ms: int) -> int:
        """Takes what waits in one ring; how many entries."""
        first, last = self.taken(ring), self._rings[ring].head
        at = first
        while at < last:
            at += self._append_some(ring, at, last, now_ms)
        return last - first

    def _append_some(self, ring: int, first: int, last: int, now_ms: int) -> int:
        """Appends the entries from `first` on that fit into one file; at least one is taken."""
        send, done = self._rings[ring], self._done[ring]
        entry = send.entries[first & send.mask]
        if entry["kind"] == lib.AP_BIND:
            return self._bind(ring, first)
        size = int(entry["record_size"])
        if size + BLANK_SIZE > self._log.file_size:  # a batch of many small messages may grow so
            self.settle(ring, first, first + 1, MESSAGE_ILLEGAL)
            return 1
        try:
            file = self._file_for(size)
        except OSError as error:
            return self._refuse(ring, first, last, error)
        self.last_timestamp = max(self.last_timestamp, now_ms)
        begin, extent = self._watermarks.appended, self._extent
        extent.begin, extent.room = begin, file.end_offset - BLANK_SIZE - begin
        extent.timestamp = self.last_timestamp
        places, following = self._rows.places, self._rows.following
        count = lib.ap_assign(send.header, done.header, first, last, places, following, extent)
        if count == lib.AP_EBIND:
            self._rows.bind(int(extent.missing))
            return 0
        assert count > 0, f"an entry of ring {ring} does not fit into a file"
        failpoint.reach("append.assigned")
        self._open_journal(ring, first, first + count, begin, int(extent.end))
        failpoint.reach("append.journaled")
        self._perform(file)
        return int(count)

    def _bind(self, ring: int, first: int) -> int:
        """Binds the rows that an entry asks for, whatever the disk says; one entry is settled."""
        entry = self._rings[ring].entries[first & self._rings[ring].mask]
        base = int(entry["queue_index"])
        for row in range(base, base + int(entry["record_count"])):
            self._rows.bind(row)
        self.settle(ring, first, first + 1, 0)
        return 1

    def settle(self, ring: int, first: int, last: int, code: int) -> None:
        """Answers entries, which nobody sees yet, with a code alone: nothing of them is stored."""
        done = self._done[ring]
        slots = done.slots(first, last)
        done.entries[slots] = np.zeros(1, done.entries.dtype)
        done.entries["sequence"][slots] = np.arange(first, last, dtype=np.uint64)
        done.entries["code"][slots] = code
        self._page.taken[ring] = last

    def _file_for(self, size: int) -> MappedFile:
        """The file that the next record goes to; rolls when it does not fit."""
        appended = self._watermarks.appended
        file = self._log.file_at(appended)
        if file is not None and appended + size + BLANK_SIZE <= file.end_offset:
            return file
        following = self._log.file_at(file.end_offset) if file is not None else None
        if following is None:
            following = self._log.next_file(appended if file is None else file.end_offset)
        if file is not None:
            position = appended - file.first_offset
            filler = blank(file.size - position)
            file.view[position : position + len(filler)] = np.frombuffer(filler, np.uint8)
            self._watermarks.move("appended", following.first_offset)
        return following

    def _open_journal(self, ring: int, first: int, last: int, begin: int, end: int) -> None:
        journal = self._journal
        journal.ring, journal.first, journal.last = ring, first, last
        journal.log_begin, journal.log_end = begin, end
        journal.store_timestamp = self.last_timestamp
        lib.ap_store(self._open, 1)

    def _perform(self, file: MappedFile) -> None:
        """Does what the journal says, and closes it."""
        journal = self._journal
        ring, first, last = int(journal.ring), int(journal.first), int(journal.last)
        copied = lib.ap_append(
            self._rings[ring].header,
            self._done[ring].header,
            first,
            last,
            ffi.cast("uint8_t *", file.address),
            file.first_offset,
            file.size,
        )
        assert copied == journal.log_end - journal.log_begin, f"ring {ring}: {copied} bytes copied"
        failpoint.reach("append.copied")
        send, done = self._rings[ring].header, self._done[ring].header
        lib.ap_advance(send, done, first, last, self._rows.queues)
        failpoint.reach("append.advanced")
        self._page.taken[ring] = last
        failpoint.reach("append.taken")
        self._watermarks.move("appended", int(journal.log_end))
        failpoint.reach("append.counted")
        lib.ap_store(self._open, 0)
        failpoint.reach("append.closed")

    def _refuse(self, ring: int, first: int, last: int, error: OSError) -> int:
        """No file can be had: these entries are answered so, and nothing of them is stored."""
        self.refusal = str(error)
        binds = np.flatnonzero(self._rings[ring].part(first, last)["kind"] == lib.AP_BIND)
        last = first + int(binds[0]) if len(binds) else last
        self.settle(ring, first, last, SERVICE_NOT_AVAILABLE)
        return last - first

    def redo(self) -> bool:
        """Does an open journal of a dead writer again; True when there was one."""
        if not self._journal.open:
            return False
        begin = int(self._journal.log_begin)
        file = self._log.file_at(begin)
        assert file is not None, f"the journal's file at {begin} is gone"
        self._watermarks.restart("appended", begin)
        self.last_timestamp = max(self.last_timestamp, int(self._journal.store_timestamp))
        self._perform(file)
        return True
