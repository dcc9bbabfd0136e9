"""How a process sleeps when it has nothing to do, and how another wakes it: one doorbell each.

A sleeper announces itself in shared memory and looks at its rings once more before it waits;
whoever publishes looks for sleepers afterwards. So a busy system rings no bell at all.

Runs in: every process.
Owns: the process's own row of the process table, and its doorbell (an eventfd made before the
       fork).
Fails: never; a lost wake-up costs one time-out of the sleeper.
"""

import contextlib
import os
import weakref

from clib import ffi, lib

from appliance.ring.region import Region, Segments

ROWS_MAX = 72


def create(segments: Segments) -> Region:
    """The region of the process table: its head, then one `ap_process` row for each."""
    return segments.create("processes", 128 + ROWS_MAX * ffi.sizeof("ap_process"))


class Doorbells:
    """The process table with the doorbells of all."""

    def __init__(self, region: Region, count: int) -> None:
        assert count <= ROWS_MAX
        self._region = region  # the rows are pointers into it
        self.rows = [
            region.struct("ap_process", 128 + i * ffi.sizeof("ap_process")) for i in range(count)
        ]
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count)]
        self._closed = weakref.finalize(self, _close_all, self.bells)
        self._sleeping = [ffi.addressof(row, "sleeping") for row in self.rows]

    def announce_sleep(self, process: int) -> None:
        """From now on others ring; look at the rings once more, then wait."""
        lib.ap_announce_sleep(self._sleeping[process])

    def awake(self, process: int) -> None:
        """No need to ring."""
        lib.ap_awake(self._sleeping[process])

    def wake(self, process: int) -> None:
        """Call after publishing something for that process."""
        lib.ap_wake(self._sleeping[process], self.bells[process])

    def hush(self, process: int) -> None:
        """Takes the rings out of one's own bell."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bells[process])

    def close(self) -> None:
        """Closes the bells; for tests that made many."""
        self._closed()


def _close_all(bells: list[int]) -> None:
    for bell in bells:
        os.close(bell)
