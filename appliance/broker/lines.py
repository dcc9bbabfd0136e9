"""The two rings that lead to and from one frontend: its questions, and what it is told.

Runs in: coordinator.
Owns: the `ask` ring's tail and the `tell` ring's head.
Fails: never; what finds no room waits here, and no more questions are taken meanwhile.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import NamedTuple

from appliance.ring.ring import Ring

from appliance.broker.effects import Connection, connection_of, local_of

_COLUMNS = ("kind", "connection", "size", "values")
_NOTHING = memoryview(b"")


class Question(NamedTuple):
    """One entry of the ask ring; `data` is good until it is released."""

    position: int
    kind: int
    connection: Connection
    values: list[int]
    data: memoryview


class Line:
    """One frontend, as the coordinator sees it."""

    def __init__(self, number: int, ask: Ring, tell: Ring, wake: Callable[[], None]) -> None:
        """`wake` rings the frontend's doorbell."""
        self.number = number
        self._ask = ask
        self._tell = tell
        self._wake = wake
        self._released = self._handled = self._looked = ask.tail
        self._waiting: deque[tuple[int, Connection, bytes]] = deque()

    # What it asks --------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether it has asked something since the last look."""
        return self._ask.head != self._looked

    @property
    def blocked(self) -> bool:
        """Whether something waits here for room that nobody rings for."""
        return bool(self._waiting) or self._handled != self._looked

    def questions(self, count_max: int) -> Generator[Question, None, None]:
        """What is new, in order; one counts as handled when the next is asked for."""
        first, self._looked = self._handled, self._ask.head
        last = min(self._looked, first + count_max)
        part = self._ask.part(first, last)
        columns = (part[name].tolist() for name in _COLUMNS)
        rows = enumerate(zip(*columns, strict=True), first)
        for position, (kind, connection, size, values) in rows:
            data = self._ask.data(position, size) if size else _NOTHING
            yield Question(position, kind, connection_of(self.number, connection), values, data)
            self._handled = position + 1

    def release(self) -> bool:
        """Let go of what was handled, if everything that it entailed here is published."""
        if self._waiting and not self.drain():
            return False
        if self._released != self._handled:
            self._released = self._handled
            self._ask.release(self._handled)
        return True

    # What it is told -----------------------------------------------------------------------------

    def tell(self, kind: int, connection: Connection, data: bytes = b"") -> None:
        """Tell it something, as soon as there is room."""
        self._waiting.append((kind, connection, data))

    def offer(self, kind: int, connection: Connection, data: bytes) -> bool:
        """Tell it something now; False when there is no room, and then it is not told at all."""
        if not self.drain() or not self._push(kind, connection, data):
            return False
        self._wake()
        return True

    def drain(self) -> bool:
        """Publish what waits; whether that is all."""
        waiting = len(self._waiting)
        while self._waiting and self._push(*self._waiting[0]):
            self._waiting.popleft()
        if len(self._waiting) < waiting:
            self._wake()
        return not self._waiting

    def _push(self, kind: int, connection: Connection, data: bytes) -> bool:
        return self._tell.push(
            data,
            kind=kind,
            flags=0,
            connection=local_of(connection),
            size=len(data),
            received_ns=0,
        )
