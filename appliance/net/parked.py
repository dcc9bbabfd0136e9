"""Pulls that wait for a message: woken when their queue's end moves, or when their time is up.

Runs in: frontends.
Owns: its own table; a row is a pull and the offset it waits for.
Fails: never; a table that is full answers at once instead of parking.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.ring.layout import pointer
from appliance.ring.tables import QueueTable
from clib import lib

PARKED_MAX = 1 << 16


class Parked:
    """Pulls by position; removing one puts the last one in its place."""

    def __init__(self, queues: QueueTable) -> None:
        self._queues = queues
        self._rows = np.zeros(64, np.uint32)
        self._offsets = np.zeros(64, np.int64)
        self._deadlines = np.zeros(64, np.int64)
        self._ready = np.zeros(64, np.uint32)
        self._pulls: list[Any] = []
        self.next_deadline_ns = 1 << 62

    def __len__(self) -> int:
        return len(self._pulls)

    def add(self, pull: Any, row: int, offset: int, deadline_ns: int) -> bool:
        """Parks a pull until queue row `row` has a message at `offset`; False when full."""
        at = len(self._pulls)
        if at >= PARKED_MAX:
            return False
        if at == len(self._rows):
            for name in ("_rows", "_offsets", "_deadlines", "_ready"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate((column, np.zeros_like(column))))
        self._rows[at], self._offsets[at], self._deadlines[at] = row, offset, deadline_ns
        self._pulls.append(pull)
        self.next_deadline_ns = min(self.next_deadline_ns, deadline_ns)
        return True

    @property
    def pending(self) -> bool:
        """Whether a queue now has what a pull waits for."""
        return self._find() > 0

    def ready(self) -> list[Any]:
        """Takes out the pulls whose queue now has what they wait for."""
        found = self._find()
        return self._take(self._ready[:found].copy()) if found else []

    def _find(self) -> int:
        """How many pulls may go on; `_ready` tells which."""
        count = len(self._pulls)
        if not count:
            return 0
        found = lib.ap_queues_ready(
            self._queues.pointer,
            pointer("uint32_t", self._rows),
            pointer("int64_t", self._offsets),
            count,
            pointer("uint32_t", self._ready),
        )
        return int(found)

    def late(self, now_ns: int) -> list[Any]:
        """Takes out the pulls whose time is up."""
        if now_ns < self.next_deadline_ns:
            return []
        count = len(self._pulls)
        taken = self._take(np.flatnonzero(self._deadlines[:count] <= now_ns))
        left = self._deadlines[: len(self._pulls)]
        self.next_deadline_ns = int(left.min()) if len(left) else 1 << 62
        return taken

    def forget(self, connection: int) -> None:
        """Drops the pulls of a connection that is gone."""
        self._take([at for at, it in enumerate(self._pulls) if it.connection == connection])

    def all(self) -> list[Any]:
        """Takes out everything: something changed that is not seen here."""
        return self._take(np.arange(len(self._pulls)))

    def _take(self, positions: npt.NDArray[Any] | list[int]) -> list[Any]:
        taken = [self._pulls[int(at)] for at in positions]
        for at in sorted((int(at) for at in positions), reverse=True):
            last = len(self._pulls) - 1
            self._rows[at] = self._rows[last]
            self._offsets[at] = self._offsets[last]
            self._deadlines[at] = self._deadlines[last]
            self._pulls[at] = self._pulls[last]
            self._pulls.pop()
        return taken
