"""A network without TCP: a connection is a pair of sockets, a listener a list of those who wait.

Runs in: the seeded simulation.
Owns: the ends of all connections that are not a client's.
Fails: ConnectionRefusedError while nobody listens.

As the real listeners, which the supervisor holds, a door stays when the process behind it dies: who
comes meanwhile waits for its successor.
"""

import socket
from collections import defaultdict

from appliance.net.poll import Sockets

PORTS = range(40_000, 60_000)


class FakeNetwork:
    """Doors by the number of the process that serves them."""

    def __init__(self) -> None:
        self.up = False
        """Whether anybody listens."""
        self._serving: dict[int, Sockets] = {}
        self._waiting: defaultdict[int, list[socket.socket]] = defaultdict(list)
        self._begun: defaultdict[int, list[socket.socket]] = defaultdict(list)
        self._connection_count = 0

    def connect(self, number: int, *, by: int | None = None) -> socket.socket:
        """A connection to a process; `by`: the process of ours that asks for it."""
        if not self.up:
            raise ConnectionRefusedError(f"nobody listens for process {number}")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        if by is not None:
            self._begun[by] = [sock for sock in self._begun[by] if sock.fileno() >= 0] + [ours]
        if number in self._serving:
            self._adopt(self._serving[number], theirs)
        else:
            self._waiting[number].append(theirs)
        return ours

    def serve(self, number: int, sockets: Sockets) -> None:
        """A process has come up; it accepts those who wait at its door."""
        self._serving[number] = sockets
        for sock in self._waiting.pop(number, ()):
            self._adopt(sockets, sock)

    def _adopt(self, sockets: Sockets, sock: socket.socket) -> None:
        port = PORTS[self._connection_count % len(PORTS)]
        self._connection_count += 1
        sockets.adopt(sock, b"\x7f\0\0\1" + port.to_bytes(4))

    def descriptors(self, number: int) -> list[int]:
        """What a process that sleeps is woken by, besides its bell."""
        begun = [sock.fileno() for sock in self._begun[number] if sock.fileno() >= 0]
        sockets = self._serving.get(number)
        return begun if sockets is None else [*begun, int(sockets.net.epoll)]

    def shut(self, number: int) -> None:
        """A process is gone: the kernel closes its connections."""
        if sockets := self._serving.pop(number, None):
            sockets.shut()
        for sock in self._begun.pop(number, ()):
            sock.close()

    def shut_all(self) -> None:
        """Everybody is gone, and the doors with them."""
        self.up = False
        for number in {*self._serving, *self._begun}:
            self.shut(number)
        for waiting in self._waiting.values():
            for sock in waiting:
                sock.close()
        self._waiting.clear()
