"""A socket engine with memory of any size, stepped by hand; shared by the tests here."""

import select
import socket
from typing import Any, NamedTuple

import numpy as np

from appliance.ring import layout
from clib import ffi, lib

PEER = bytes((10, 0, 0, 7)) + (4711).to_bytes(4)


class Got(NamedTuple):
    """One frame that came."""

    connection: int
    data: bytes


class Engine:
    """ap_net over socketpairs. Its memory is malloc'ed to the byte: sanitizers see its ends."""

    def __init__(
        self,
        *,
        capacity: int = 16,
        scratch: int = 256 << 10,
        pool: int = 8 << 20,
        frame_max: int = 1 << 20,
        backlog_max: int = 1 << 20,
        pause_at: int = 64 << 10,
        requests_max: int = 256,
        events_max: int = 64,
    ) -> None:
        self._epoll = select.epoll()
        self._keep: list[Any] = []
        self.net, self.pool = self._new("ap_net *"), self._new("ap_pool *")
        self.pool.memory, self.pool.size = self._new("uint8_t[]", pool), pool
        net = self.net
        net.connections, net.capacity = self._new("ap_connection[]", capacity), capacity
        net.epoll, net.pool = self._epoll.fileno(), self.pool
        net.scratch, net.scratch_size = self._new("uint8_t[]", scratch), scratch
        net.frame_max, net.backlog_max, net.pause_at = frame_max, backlog_max, pause_at
        net.events, net.events_max = self._new("uint64_t[]", events_max), events_max
        net.spent = self._new("uint64_t[]", 2 * events_max)
        net.broken = self._new("uint32_t[]", capacity)
        lib.ap_net_prepare(net)
        self._table = self._new("ap_table *")
        self.requests_max = requests_max
        self.requests = self._new("ap_request[]", requests_max)
        self.peers: dict[int, socket.socket] = {}

    def _new(self, kind: str, count: int | None = None) -> Any:
        made = ffi.new(kind) if count is None else ffi.new(kind, count)
        self._keep.append(made)
        return made

    def connect(self, *, peer: bytes = PEER, buffer_size: int = 0) -> int:
        """A new connection; `peers` has its other end."""
        ours, theirs = socket.socketpair()
        if buffer_size:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_size)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_size)
        ours.setblocking(False)
        connection = self.add(theirs.detach(), peer=peer)
        self.peers[connection] = ours
        return connection

    def add(self, fd: int, *, state: int = 0, peer: bytes = b"") -> int:
        """Puts a descriptor into the table."""
        number = ffi.new("uint64_t *")
        assert lib.ap_net_add(self.net, fd, state, peer, len(peer), number) == 0
        return int(number[0])

    def wait(self, now_ns: int = 1) -> int:
        """How many sockets have something."""
        return int(lib.ap_net_wait(self.net, 0, now_ns))

    def receive(self, *, topics: Any = None, groups: Any = None) -> int:
        """Fills `requests`; how many."""
        topics, groups = topics or self._table, groups or self._table
        return int(lib.ap_net_receive(self.net, topics, groups, self.requests, self.requests_max))

    def frames(self) -> list[Got]:
        """One step: the frames that came with it."""
        self.wait()
        return [self._got(self.requests[i]) for i in range(self.receive())]

    def all_frames(self) -> list[Got]:
        """Steps until nothing comes any more."""
        found: list[Got] = []
        while self.wait():
            count = self.receive()
            found += [self._got(self.requests[i]) for i in range(count)]
            if self.net.broken_count:
                break
        return found

    @staticmethod
    def _got(request: Any) -> Got:
        memory = ffi.buffer(ffi.cast("char *", request.frame), request.frame_size)
        return Got(int(request.connection), bytes(memory))

    def put(self, connection: int, data: bytes) -> int:
        """ap_net_put."""
        return int(lib.ap_net_put(self.net, connection, data, len(data)))

    def gather(self, connection: int, head: bytes, slices: list[np.ndarray[Any, Any]]) -> int:
        """ap_net_gather of these pieces of memory."""
        flat = [part for it in slices for part in (layout.address_of(it), it.size)]
        array = ffi.new("uint64_t[]", flat or [0, 0])
        return int(lib.ap_net_gather(self.net, connection, head, len(head), array, len(slices)))

    def flush(self) -> int:
        """ap_net_flush."""
        return int(lib.ap_net_flush(self.net))

    def row(self, connection: int) -> Any:
        """Its row of the connection table."""
        return self.net.connections[connection & 0xFFFFFFFF]

    def broken(self) -> list[tuple[int, int]]:
        """(connection, reason) of those that ended; their slots are free from now on."""
        self.flush()
        slots = [int(self.net.broken[i]) for i in range(self.net.broken_count)]
        self.net.broken_count = 0
        ended = []
        for slot in slots:
            row = self.net.connections[slot]
            ended.append((int(row.serial) << 32 | slot, int(row.close_reason)))
            assert lib.ap_net_close(self.net, slot) == 0
        return ended

    def read(self, connection: int, size: int = 1 << 20) -> bytes:
        """What the peer finds to read now."""
        try:
            return self.peers[connection].recv(size)
        except BlockingIOError:
            return b""

    def read_all(self, connection: int) -> bytes:
        """All that the peer gets when it reads and the engine steps in turn."""
        parts = list[bytes]()
        while True:
            part = self.read(connection)
            if not part:
                self.wait()
                self.receive()
                self.flush()
                part = self.read(connection)
            if not part:
                return b"".join(parts)
            parts.append(part)


def frame(data: bytes) -> bytes:
    """A frame with its length word; `data` becomes the body behind a header of two bytes."""
    content = (2).to_bytes(4) + b"{}" + data
    return len(content).to_bytes(4) + content
