"""From records to ConsumeQueue rows, to the queues' ends, to the answers: in the order of the log.

What was appended waits here as runs of ring entries until the policy lets it be shown: at once, or
when it is on disk. Then its rows are written, readers see it, its senders are answered and its ring
entries are released, in this order: a crash in between repeats some of it and loses nothing.

Runs in: writer.
Owns: `dispatched`, the `done` rings' heads, the `send` rings' tails.
Fails: OSError from a queue file leaves everything as it was; the next step tries again.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from appliance import failpoint
from appliance.ring.layout import dtype, pointer
from appliance.ring.ring import Ring
from appliance.ring.watermarks import Watermarks
from clib import lib

from appliance.commitlog.bindings import QueueRows
from appliance.commitlog.queue_set import QueueSet

ROWS_COUNT = 4096
"""Of a batch; it grows where one has more."""


class Run(NamedTuple):
    """Entries [first, last) of one ring, whose records end at a physical offset."""

    ring: int
    first: int
    last: int
    end: int


class Dispatcher:
    """Takes runs in log order and shows them when they may be seen."""

    def __init__(
        self,
        queues: QueueSet,
        rows: QueueRows,
        watermarks: Watermarks,
        rings: list[Ring],
        done: list[Ring],
        wake: Callable[[int], None],
    ) -> None:
        self._queues, self._rows, self._watermarks = queues, rows, watermarks
        self._rings, self._done = rings, done
        self._wake = wake
        self._waiting: deque[Run] = deque()
        self._buffer = np.zeros(ROWS_COUNT, dtype("ap_row"))
        self._rows_at = pointer("ap_row", self._buffer)
        self.last_timestamp = 0

    @property
    def waiting(self) -> int:
        """Runs that are appended and not shown yet."""
        return len(self._waiting)

    def add(self, run: Run) -> None:
        """A run that was just appended; runs come in log order."""
        self._waiting.append(run)

    def show(self, limit: int) -> int:
        """Shows all runs that end at or before `limit`; how many entries."""
        ready = []
        while self._waiting and self._waiting[0].end <= limit:
            ready.append(self._waiting.popleft())
        if not ready:
            return 0
        try:
            self._write(ready)
        except OSError:
            self._waiting.extendleft(reversed(ready))
            raise
        for run in ready:
            self._answer(run)
        for ring in {run.ring for run in ready}:
            self._wake(ring)
        return sum(run.last - run.first for run in ready)

    def _write(self, runs: list[Run]) -> None:
        """Writes the rows of the runs, then lets readers see them."""
        count = 0
        for run in runs:
            count += self._expand(run, count)
        if count:
            self._queues.write_rows(self._buffer[:count])
            failpoint.reach("dispatch.rows")
            lib.ap_rows_show(self._rows.queues, self._rows_at, count)
        end = max(runs[-1].end, self._watermarks.dispatched)
        self._watermarks.move("dispatched", end)
        failpoint.reach("dispatch.shown")

    def _expand(self, run: Run, begin: int) -> int:
        """Puts one row a record of a run into the buffer, from row `begin` on; how many."""
        ring, done = self._rings[run.ring].header, self._done[run.ring].header
        while True:
            room, at = len(self._buffer) - begin, self._rows_at + begin
            slots = self._rows.slots
            got = lib.ap_rows_expand(ring, done, run.first, run.last, slots, at, room)
            if got >= 0:
                return int(got)
            assert got == lib.AP_EFULL, f"ring {run.ring}: entries {run.first}..{run.last} lie"
            self._grow()

    def _grow(self) -> None:
        larger = np.zeros(2 * len(self._buffer), self._buffer.dtype)
        larger[: len(self._buffer)] = self._buffer
        self._buffer, self._rows_at = larger, pointer("ap_row", larger)

    def _answer(self, run: Run) -> None:
        done, ring = self._done[run.ring], self._rings[run.ring]
        stored = int(done.entries["store_timestamp"][(run.last - 1) & done.mask])
        self.last_timestamp = max(self.last_timestamp, stored)
        done.publish(run.last)
        failpoint.reach("dispatch.answered")
        ring.release(run.last)
        failpoint.reach("dispatch.released")

    def resume(self, taken: Callable[[int], int]) -> None:
        """After a writer died: what it appended and had not answered waits again, in log order."""
        runs: list[Run] = []
        for number, (ring, done) in enumerate(zip(self._rings, self._done, strict=True)):
            if ring.tail < done.head:
                ring.release(done.head)
            self._bind(number, ring.tail, taken(number))
            runs += _runs(number, ring, done, ring.tail, taken(number))
        self._waiting = deque(sorted(runs, key=lambda run: run.end))

    def _bind(self, number: int, first: int, last: int) -> None:
        """Binds the queue rows of entries that a dead writer had bound for itself alone."""
        answers = self._done[number].part(first, last)
        sends = self._rings[number].part(first, last)["kind"] == lib.AP_SEND
        stored = sends & (answers["code"] == 0)
        for row in np.unique(answers["queue_row"][stored]).tolist():
            self._rows.bind(row)


def _runs(number: int, ring: Ring, done: Ring, first: int, last: int) -> list[Run]:
    """Entries [first, last) one by one, each ending where its last record ends."""
    runs, end = [], 0
    for position in range(first, last):
        answer = done.entries[position & done.mask]
        size = int(ring.entries["record_size"][position & ring.mask])
        if answer["code"] == 0 and size:
            end = int(answer["physical_offset"]) + size
        runs.append(Run(number, position, position + 1, end))
    return runs
