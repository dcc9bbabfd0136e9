"""A process's sockets: accept, read many, split into frames, write; the C engine with its memory.

Runs in: frontends and the NameServer.
Owns: the epoll set, the connection table and the buffers of its process.
Fails: never because of a peer: its connection ends, with a reason (`CLOSE_REASONS`).
"""

import mmap
import os
import select
import socket
from typing import Any, NamedTuple

import numpy as np

from appliance.clock import Now
from appliance.ring import layout
from clib import ffi, lib

EVENTS_MAX = 256
SCRATCH_SIZE = 2 << 20
REQUESTS_MAX = 16384
POOL_SIZE = 512 << 20
"""Address space for half frames and unsent answers; pages count only once they are used."""
PAUSE_AT = 256 << 10
"""A peer that leaves so many bytes unread is not read until it takes them."""
ACCEPTS_MAX = 64

CLOSE_REASONS = {
    lib.AP_CLOSE_PEER: "closed by the peer",
    lib.AP_CLOSE_ERROR: "connection lost",
    lib.AP_CLOSE_LENGTH: "a frame of an impossible length",
    lib.AP_CLOSE_HEADER: "a frame whose header lies about its length or form",
    lib.AP_CLOSE_BACKLOG: "the peer does not read its answers",
    lib.AP_CLOSE_MEMORY: "no memory left for half frames",
    lib.AP_CLOSE_IDLE: "idle",
    lib.AP_CLOSE_ASKED: "closed by us",
}
PEERS_FAULT = (
    lib.AP_CLOSE_LENGTH,
    lib.AP_CLOSE_HEADER,
    lib.AP_CLOSE_BACKLOG,
    lib.AP_CLOSE_MEMORY,
)


class SocketLimits(NamedTuple):
    """Counts and bytes; see config.Limits for their meaning."""

    connections_max: int
    frame_max: int
    backlog_max: int
    requests_max: int = REQUESTS_MAX


class Ended(NamedTuple):
    """A connection that is no more: its id, its peer as `ip:port`, and why (AP_CLOSE_…)."""

    connection: int
    peer: str
    reason: int


class Sockets:
    """One epoll set over listeners, connections and the process's doorbell.

    A connection is known by a number: serial << 32 | slot, never used twice by one object.
    `requests` are the columns that `scan` fills (see ap_request), valid until the next scan.
    """

    def __init__(self, limits: SocketLimits, *, first_serial: int = 0) -> None:
        self._epoll = select.epoll()
        self._connections = np.zeros(limits.connections_max + 8, layout.dtype("ap_connection"))
        self._listeners: list[socket.socket] = []
        self._sockets: dict[int, str] = {}
        self._opened: list[tuple[int, str]] = []
        self.requests = np.zeros(limits.requests_max, layout.dtype("ap_request"))
        self.request_rows = layout.pointer("ap_request", self.requests)
        self._keep: list[Any] = []
        self._limits = limits
        self._looked = False
        self.net = self._engine(limits, first_serial)
        lib.ap_net_prepare(self.net)

    def _memory(self, size: int) -> Any:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE)
        self._keep.append(memory)
        return ffi.from_buffer(memory)

    def _array(self, kind: str, count: int) -> Any:
        array = ffi.new(f"{kind}[]", count)
        self._keep.append(array)
        return array

    def _engine(self, limits: SocketLimits, first_serial: int) -> Any:
        net, pool = ffi.new("ap_net *"), ffi.new("ap_pool *")
        pool.memory, pool.size = self._memory(POOL_SIZE), POOL_SIZE
        net.connections = layout.pointer("ap_connection", self._connections)
        net.capacity, net.epoll = len(self._connections), self._epoll.fileno()
        net.next_serial = first_serial
        net.scratch, net.scratch_size = self._memory(SCRATCH_SIZE), SCRATCH_SIZE
        net.pool, net.frame_max = pool, limits.frame_max
        net.backlog_max, net.pause_at = limits.backlog_max, PAUSE_AT
        net.events, net.events_max = self._array("uint64_t", EVENTS_MAX), EVENTS_MAX
        net.spent = self._array("uint64_t", 2 * EVENTS_MAX)
        net.broken = self._array("uint32_t", len(self._connections))
        self._keep.append(pool)
        self._pool = pool
        return net

    # ------------------------------------------------------------- who is there

    def listen(self, listener: socket.socket) -> None:
        """Accepts from a socket that listens already; it stays the caller's to close."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self._add(os.dup(listener.fileno()), lib.AP_CONNECTION_LISTENER, b"")

    def watch_doorbell(self, bell: int) -> None:
        """Makes `wait` return when the bell (an eventfd) rings."""
        self._add(os.dup(bell), lib.AP_CONNECTION_DOORBELL, b"")

    def adopt(self, connected: socket.socket, peer: bytes = b"\x7f\0\0\1\0\0\0\1") -> int:
        """Serves a connected socket from now on; `peer` is its address as a record's bornHost."""
        connected.setblocking(False)
        connection = self._add(connected.detach(), 0, peer)
        if connection:
            self._sockets[connection] = peer_text(peer)
            self._opened.append((connection, self._sockets[connection]))
        return connection

    def _add(self, fd: int, state: int, peer: bytes) -> int:
        connection = ffi.new("uint64_t *")
        if lib.ap_net_add(self.net, fd, state, peer, len(peer), connection):
            os.close(fd)
            return 0
        return int(connection[0])

    def _accept(self) -> None:
        for listener in self._listeners:
            for _ in range(ACCEPTS_MAX):
                try:
                    connected, address = listener.accept()
                except OSError:
                    break  # none left, or the peer is gone already, or no descriptor is free
                if len(self._sockets) >= self._limits.connections_max:
                    connected.close()
                    continue
                if connected.family != socket.AF_UNIX:
                    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.adopt(connected, peer_bytes(address))

    def opened(self) -> list[tuple[int, str]]:
        """(connection, `ip:port`) of those that came since the last call."""
        opened, self._opened = self._opened, []
        return opened

    def ended(self) -> list[Ended]:
        """Those that went since the last call, their sockets closed by now."""
        if not self.net.broken_count:
            return []
        lib.ap_net_flush(self.net)  # unlinks them from the list of those with output
        slots = [self.net.broken[i] for i in range(self.net.broken_count)]
        self.net.broken_count = 0
        return [self._end(slot) for slot in slots]

    def _end(self, slot: int) -> Ended:
        row = self.net.connections[slot]
        connection = int(row.serial) << 32 | slot
        ended = Ended(connection, self._sockets.pop(connection, "?"), int(row.close_reason))
        lib.ap_net_close(self.net, slot)
        return ended

    def closed(self) -> list[int]:
        """Only the numbers of `ended`."""
        return [ended.connection for ended in self.ended()]

    def peer(self, connection: int) -> str:
        """`ip:port` of a connection that is open."""
        return self._sockets.get(connection, "?")

    def connections(self) -> list[int]:
        """All that are open."""
        return list(self._sockets)

    @property
    def count(self) -> int:
        """Open connections."""
        return len(self._sockets)

    # ------------------------------------------------------------- bytes

    def wait(self, timeout_ms: int, now: Now) -> int:
        """Waits until a socket or the doorbell has something; how many do."""
        self._looked = True
        return int(lib.ap_net_wait(self.net, timeout_ms, now.monotonic_ns))

    def look(self, now: Now) -> None:
        """Like wait(0), unless somebody waited since the last scan."""
        if not self._looked:
            self.wait(0, now)
        self.net.now_ns = now.monotonic_ns

    def scan(self, topics: Any, groups: Any) -> int:
        """Reads and scans what is there into `requests`; how many frames. Accepts on the way."""
        rows, most = self.request_rows, len(self.requests)
        self._looked = False
        count = lib.ap_net_receive(self.net, topics, groups, rows, most)
        if self.net.listeners_ready:
            self.net.listeners_ready = 0
            self._accept()
        return int(count)

    def frame(self, index: int) -> bytes:
        """A copy of one scanned frame, without its length word."""
        request = self.request_rows[index]
        return bytes(ffi.buffer(ffi.cast("char *", request.frame), request.frame_size))

    def receive(self) -> list[tuple[int, bytes]]:
        """(connection, frame) of all frames that are there, for a process that serves all of
        them in Python."""
        count = self.scan(_NO_TABLE, _NO_TABLE)
        connections = self.requests["connection"][:count].tolist()
        return [(connection, self.frame(i)) for i, connection in enumerate(connections)]

    def send(self, connection: int, data: bytes) -> bool:
        """Puts bytes into a connection's output; False when it is gone or does not read."""
        return bool(lib.ap_net_put(self.net, connection, data, len(data)) == 0)

    def flush(self) -> None:
        """Sends what was put."""
        lib.ap_net_flush(self.net)

    def close(self, connection: int, reason: int = lib.AP_CLOSE_ASKED) -> None:
        """Ends a connection after what was put into its output so far."""
        slot = connection & 0xFFFFFFFF
        if connection in self._sockets and self.net.connections[slot].serial == connection >> 32:
            lib.ap_net_flush(self.net)
            lib.ap_net_break(self.net, slot, reason)

    def sweep(self, now: Now, idle_ns: int) -> None:
        """Ends connections on which nothing came or went for `idle_ns`."""
        table = self._connections
        silent = (table["received_ns"] < now.monotonic_ns - idle_ns) & (
            table["sent_ns"] < now.monotonic_ns - idle_ns
        )
        fixed = lib.AP_CONNECTION_LISTENER | lib.AP_CONNECTION_DOORBELL
        for slot in np.flatnonzero(silent & (table["fd"] >= 0) & (table["state"] & fixed == 0)):
            lib.ap_net_break(self.net, int(slot), lib.AP_CLOSE_IDLE)

    def shut(self) -> None:
        """Closes everything; the object is of no use afterwards."""
        for slot in np.flatnonzero(self._connections["fd"] >= 0):
            os.close(int(self._connections["fd"][slot]))
        self._connections["fd"] = -1
        self._epoll.close()


def _empty_table() -> Any:
    table = ffi.new("ap_table *")
    table.slots_max = 0
    return table


_NO_TABLE = _empty_table()


def peer_bytes(address: Any) -> bytes:
    """A socket's peer address as a record holds it: 4 or 16 bytes, then the port in four."""
    if not isinstance(address, tuple):
        return b"\x7f\0\0\1\0\0\0\1"
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.inet_pton(family, address[0].split("%")[0]) + int(address[1]).to_bytes(4)


def peer_text(peer: bytes) -> str:
    """`ip:port` of such bytes."""
    family = socket.AF_INET6 if len(peer) == 20 else socket.AF_INET
    return f"{socket.inet_ntop(family, peer[:-4])}:{int.from_bytes(peer[-4:])}"
