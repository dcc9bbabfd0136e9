"""One producer, one consumer: entries of a fixed size, and an arena of bytes beside them.

Positions count up for ever; the entry at a position stands at `position & mask`. The producer
publishes by moving `head`, the consumer releases by moving `tail`; each is written by one side only
and moved in C. An entry's bytes lie together in the arena at `arena_at` (also a position that
counts up). What is published and not released survives the death of either side: a successor finds
its own cursor where the dead one left it.

Runs in: every process.
Owns: the producer `head`, entries and arena; the consumer `tail`.
Fails: AssertionError on a misuse by our own code; a full ring is an answer (False, fewer), never a
       wait.
"""

from typing import Any

import numpy as np

from clib import ffi, lib

from appliance.ring.layout import dtype
from appliance.ring.region import Region, Segments

HEAD = dtype("ap_ring").itemsize
ALIGN = 8


def create(segments: Segments, what: str, entry: str, capacity: int, arena_size: int) -> Region:
    """A region laid out as a ring of `capacity` entries (a power of two) and `arena_size` bytes
    (one too, or 0)."""
    assert capacity & (capacity - 1) == 0 and arena_size & (arena_size - 1) == 0
    region = segments.create(what, HEAD + capacity * dtype(entry).itemsize + arena_size)
    head = region.struct("ap_ring")
    head.capacity, head.entry_size, head.arena_size = capacity, dtype(entry).itemsize, arena_size
    return region


class Ring:
    """A view of a ring for its producer or its consumer.

    `entries` is the structured array of all slots, `arena` its bytes. A producer whose space is
    free again only when something else has happened than the consumer's release hands `freed_by`
    the cursor that says so.
    """

    def __init__(self, region: Region, entry: str) -> None:
        self._region = region  # the header is a pointer into it
        self.header = region.struct("ap_ring")
        self.capacity = int(self.header.capacity)
        self.mask = self.capacity - 1
        assert self.header.entry_size == dtype(entry).itemsize, f"{region.name} holds other entries"
        self.entries = region.view(entry, HEAD, self.capacity)
        self.arena_size = int(self.header.arena_size)
        arena = HEAD + self.capacity * dtype(entry).itemsize
        self.arena = region.array[arena : arena + self.arena_size]
        self._arena_address = region.address + arena
        self._head = ffi.addressof(self.header, "head")
        self._tail = ffi.addressof(self.header, "tail")
        self._freed = self._tail
        self.arena_head = ffi.new("uint64_t *", self._arena_end(self.head))
        self._begun_at = 0  # bytes before this arena position are free in any case

    # ------------------------------------------------------------- cursors

    @property
    def head(self) -> int:
        """Entries before this position are published."""
        return int(lib.ap_load(self._head))

    @property
    def tail(self) -> int:
        """Entries before this position are released."""
        return int(lib.ap_load(self._tail))

    def freed_by(self, other: "Ring") -> None:
        """Space counts as free only when `other`, whose entries answer ours one for one, is
        released too."""
        self._freed = other._tail

    @property
    def freed(self) -> int:
        """Entries before this position may be overwritten by the producer."""
        return int(lib.ap_load(self._freed))

    def _arena_end(self, position: int) -> int:
        """The arena position behind the bytes of all entries before `position`."""
        if position == 0:
            return 0
        entry = self.entries[(position - 1) & self.mask]
        if "arena_at" not in self.entries.dtype.names:
            return 0
        return int(entry["arena_at"]) + int(entry["arena_size"])

    # ------------------------------------------------------------- producer

    def limits(self) -> tuple[int, int]:
        """(position, arena position) that the producer may fill up to.

        An empty ring begins again at the arena's begin: there the largest entry fits, and a ring
        that is little used stays in little memory.
        """
        freed = self.freed
        if freed == self.head and self.arena_size:
            at = int(self.arena_head[0])
            self.arena_head[0] = self._begun_at = at + -at % self.arena_size
        begin = max(self._arena_end(freed), self._begun_at)
        return freed + self.capacity, begin + self.arena_size

    def publish(self, head: int) -> None:
        """Entries before `head` are whole: the consumer may see them."""
        assert self.head <= head <= self.freed + self.capacity
        lib.ap_store(self._head, head)

    def push(self, data: bytes | memoryview = b"", **fields: Any) -> bool:
        """Publishes one entry with its bytes; False when the ring is full."""
        position, size = self.head, len(data)
        entry_limit, arena_limit = self.limits()
        need = (size + ALIGN - 1) // ALIGN * ALIGN
        at = int(self.arena_head[0])
        offset = at % self.arena_size if self.arena_size else 0
        if need and offset + need > self.arena_size:
            at, offset = at + self.arena_size - offset, 0
        if position >= entry_limit or at + need > arena_limit:
            return False
        if size:
            ffi.memmove(ffi.cast("uint8_t *", self._arena_address + offset), data, size)
        entry = self.entries[position & self.mask]
        entry["sequence"] = position
        entry["arena_at"], entry["arena_size"] = at, need
        for name, value in fields.items():
            entry[name] = value
        self.arena_head[0] = at + need
        lib.ap_store(self._head, position + 1)
        return True

    # ------------------------------------------------------------- consumer

    def poll(self) -> tuple[int, int]:
        """[first, last) of the positions that wait for the consumer."""
        return self.tail, self.head

    def part(self, first: int, last: int) -> np.ndarray[Any, Any]:
        """Entries [first, last) as one array: a view where they do not wrap, else a copy."""
        begin, end = first & self.mask, last & self.mask
        if begin < end or first == last:
            return self.entries[begin : begin + last - first]
        if end == 0:
            return self.entries[begin:]
        return np.concatenate((self.entries[begin:], self.entries[:end]))

    def slots(self, first: int, last: int) -> np.ndarray[Any, Any]:
        """Indexes into `entries` of positions [first, last)."""
        return np.arange(first, last, dtype=np.int64) & self.mask

    def data(self, position: int, size: int | None = None) -> memoryview:
        """The bytes of an entry, in place, until it is released."""
        entry = self.entries[position & self.mask]
        begin = int(entry["arena_at"]) % self.arena_size
        return self.arena.data[begin : begin + (int(entry["arena_size"]) if size is None else size)]

    def release(self, position: int) -> None:
        """Entries before `position` are done with."""
        assert self.tail <= position <= self.head
        lib.ap_store(self._tail, position)
