"""Our side as a client: one connection to a peer that is kept up, and requests over it.

Runs in: coordinator (to NameServers), nameserver (to brokers), replicator, commands.
Owns: its connection and the requests under way on it.
Fails: never on what the peer or the network does; a request that fails is told so.

Everything is driven by `step(now)`, which never blocks. A connection that cannot be opened or
breaks fails all requests under way at once; those asked while it is down wait for the next attempt,
until their deadlines. Attempts are spaced by a pause that doubles.
"""

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

from appliance.clock import Now

from appliance.net import frame as frames
from appliance.net.frame import ONEWAY, RESPONSE, Frame, FrameError

CONNECT_NS = 3_000_000_000
"""An attempt to connect is given up after this (Apache's connectTimeoutMillis)."""
PAUSE_MIN_NS, PAUSE_MAX_NS = 100_000_000, 800_000_000
"""Between two attempts: a peer that is back is met again within a second."""
READ_SIZE = 256 * 1024
UNSENT_SIZE_MAX = 2 * frames.FRAME_SIZE_MAX
"""A peer that does not read makes requests fail once this much waits for it."""


class Socket(Protocol):
    """What a link needs of a non-blocking stream socket."""

    def recv(self, size: int, /) -> bytes:
        """What has arrived; b"" at the end, BlockingIOError for nothing yet."""

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """How much was taken; BlockingIOError for none yet."""

    def getpeername(self) -> object:
        """Raises OSError(ENOTCONN) until the connection is up."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def close(self) -> None:
        """Give it up."""


Connect = Callable[[str], Socket]
"""`connect("host:port")` gives a non-blocking socket that is on its way, or raises OSError."""

Done = Callable[[Frame | None], None]
"""Told the response, or None when there will be none."""

Serve = Callable[[Frame], Frame | None]
"""Told each request of the peer; what it returns is sent back."""


def connect_tcp(address: str) -> socket.socket:
    """Begin a TCP connection to "host:port" or "[v6]:port".

    A host that is a name is looked up here, which blocks; addresses do not.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 1 << 16):
        raise OSError(errno.EINVAL, f"{address!r} is no address")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{address!r} is no address") from error
    family, kind, protocol, _, where = found[0]
    started = socket.socket(family, kind, protocol)
    started.setblocking(False)
    started.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    result = started.connect_ex(where)
    if result not in (0, errno.EINPROGRESS):
        started.close()
        raise OSError(result, f"no connection to {address}")
    return started


@dataclass(slots=True)
class _Asked:
    done: Done
    deadline_ns: int


class Link:
    """A connection to the peer at `address`, opened again whenever it is lost."""

    def __init__(
        self, address: str, connect: Connect = connect_tcp, serve: Serve | None = None
    ) -> None:
        self.address = address
        self.connected = False
        self.connections = 0
        """How often it has come up; a change tells that the peer may have forgotten us."""
        self.last_error = ""
        self._connect = connect
        self._serve = serve
        self._socket: Socket | None = None
        self._opaques = count(1)
        self._asked: dict[int, _Asked] = {}
        self._unsent = bytearray()
        self._unread = bytearray()
        self._began_ns = 0
        self._retry_ns = 0
        self._pause_ns = PAUSE_MIN_NS

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent or answered."""
        return not self._asked and not self._unsent

    def fileno(self) -> int:
        """The descriptor to wait on for reading, or -1 while there is none."""
        return self._socket.fileno() if self._socket is not None else -1

    @property
    def wants_write(self) -> bool:
        """Whether to wait for room as well: unsent bytes, or a connection on its way."""
        return bool(self._unsent) or (self._socket is not None and not self.connected)

    def request(self, frame: Frame, done: Done, *, deadline_ns: int) -> None:
        """Ask the peer; `done` is called from a `step`, once, by the deadline (monotonic)."""
        if len(self._unsent) > UNSENT_SIZE_MAX:
            deadline_ns = 0
        opaque = next(self._opaques)
        self._asked[opaque] = _Asked(done, deadline_ns)
        if deadline_ns:
            self._unsent += frames.encode(replace(frame, opaque=opaque))

    def oneway(self, frame: Frame) -> None:
        """Tell the peer, without an answer; lost when the connection is."""
        if len(self._unsent) <= UNSENT_SIZE_MAX:
            flag = frame.flag | ONEWAY
            self._unsent += frames.encode(replace(frame, opaque=next(self._opaques), flag=flag))

    def step(self, now: Now) -> int:
        """Connect, send, receive, and expire what can be; returns how many frames and events."""
        work = self._open(now)
        if self._socket is not None:
            try:
                work += self._establish(now) + self._send() + self._receive()
            except (OSError, FrameError) as error:
                work += 1 + self._lose(now, str(error))
        return work + self._expire(now)

    def close(self) -> None:
        """Give up the connection and every request; a later step would connect again."""
        if self._socket is not None:
            self._socket.close()
        self._forget()

    # The connection --------------------------------------------------------------------------

    def _open(self, now: Now) -> int:
        if self._socket is not None or now.monotonic_ns < self._retry_ns:
            return 0
        self._began_ns = now.monotonic_ns
        try:
            self._socket = self._connect(self.address)
        except OSError as error:
            self._lose(now, str(error))
        return 1

    def _establish(self, now: Now) -> int:
        assert self._socket is not None
        if self.connected:
            return 0
        try:
            self._socket.getpeername()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            if now.monotonic_ns - self._began_ns > CONNECT_NS:
                raise TimeoutError(f"no connection to {self.address} in time") from error
            return 0
        self.connected = True
        self.connections += 1
        self._pause_ns = PAUSE_MIN_NS
        return 1

    def _lose(self, now: Now, why: str) -> int:
        """The connection is gone: fail what was asked, and plan the next attempt."""
        if self._socket is not None:
            self._socket.close()
        self.last_error = why
        self._retry_ns = now.monotonic_ns + self._pause_ns
        self._pause_ns = min(self._pause_ns * 2, PAUSE_MAX_NS)
        return self._forget()

    def _forget(self) -> int:
        asked = list(self._asked.values())
        self._socket, self.connected = None, False
        self._asked.clear()
        self._unsent.clear()
        self._unread = bytearray()
        for one in asked:
            one.done(None)
        return len(asked)

    # Bytes -----------------------------------------------------------------------------------

    def _send(self) -> int:
        assert self._socket is not None
        if not self._unsent:
            return 0
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return 0
        del self._unsent[:sent]
        return 1

    def _receive(self) -> int:
        assert self._socket is not None
        if len(self._unsent) > UNSENT_SIZE_MAX:
            return 0
        try:
            data = self._socket.recv(READ_SIZE)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionResetError(f"{self.address} closed the connection")
        self._unread += data
        complete, used = frames.split(self._unread)
        # A new object for the rest: one that is looked into can neither shrink nor grow.
        self._unread = self._unread[used:]
        for one in complete:
            self._hear(frames.decode(one))
        return len(complete)

    def _hear(self, frame: Frame) -> None:
        """A response without its request is dropped, as in Apache's clients."""
        if frame.flag & RESPONSE:
            asked = self._asked.pop(frame.opaque, None)
            if asked is not None:
                asked.done(frame)
            return
        answer = self._serve(frame) if self._serve is not None else None
        if answer is not None and not frame.oneway:
            self._unsent += frames.encode(replace(answer, opaque=frame.opaque))

    def _expire(self, now: Now) -> int:
        late = [k for k, one in self._asked.items() if one.deadline_ns <= now.monotonic_ns]
        for opaque in late:
            self._asked.pop(opaque).done(None)
        return len(late)
