"""A NameServer with sockets, disk and peers of paper, stepped by the test."""

import errno
import json
from collections.abc import Callable
from typing import Any

from appliance.clock import Now
from appliance.nameserver import NameServer
from appliance.namesrv.settings import Settings
from appliance.net import frame as frames
from appliance.net.frame import ONEWAY, Frame
from appliance.net.poll import Ended
from clib import lib

START_MS = 1_000_000


class PaperSockets:
    """What `net.poll.Sockets` does, with lists."""

    def __init__(self) -> None:
        self.arriving: list[tuple[int, bytes]] = []
        self.sent: list[tuple[int, bytes]] = []
        self.closed_by_us: list[int] = []
        self.gone: list[int] = []
        self.swept: list[tuple[Now, int]] = []

    def look(self, now: Now, /) -> None:
        pass

    def wait(self, timeout_ms: int, now: Now, /) -> int:
        return len(self.arriving)

    def receive(self) -> list[tuple[int, bytes]]:
        arrived, self.arriving = self.arriving, []
        return arrived

    def peer(self, connection: int) -> str:
        return f"127.0.0.1:{50_000 + connection}"

    def send(self, connection: int, data: bytes) -> bool:
        self.sent.append((connection, data))
        return True

    def flush(self) -> None: ...

    def close(self, connection: int) -> None:
        self.closed_by_us.append(connection)
        self.gone.append(connection)

    def opened(self) -> list[tuple[int, str]]:
        return []

    def ended(self) -> list[Ended]:
        gone, self.gone = self.gone, []
        return [Ended(one, self.peer(one), lib.AP_CLOSE_PEER) for one in gone]

    def shut(self) -> None: ...

    def sweep(self, now: Now, idle_ns: int) -> None:
        self.swept.append((now, idle_ns))


class PaperDisk:
    """What `commitlog.disk.Disk` does for whole files; `full` makes it refuse to write."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.full = False

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str) -> bytes:
        return self.files[path]

    def write_atomic(self, path: str, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.files[path] = data

    def make_directories(self, path: str) -> None: ...


class PaperPeer:
    """The brokers' own ports: keeps what links send to each address."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Frame]] = []

    def connect(self, address: str) -> "_PaperSocket":
        return _PaperSocket(lambda data: self._hear(address, data))

    def _hear(self, address: str, data: bytes) -> None:
        complete, used = frames.split(data)
        assert used == len(data)
        self.heard += [(address, frames.decode(one)) for one in complete]


class _PaperSocket:
    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear

    def recv(self, size: int, /) -> bytes:
        raise BlockingIOError

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        self._hear(bytes(data))
        return len(data)

    def getpeername(self) -> object:
        return "paper"

    def fileno(self) -> int:
        return -1

    def close(self) -> None: ...


class Bench:
    """One NameServer and its surroundings; time moves only by `pass_time`."""

    def __init__(self, settings: Settings | None = None, disk: PaperDisk | None = None) -> None:
        self.sockets, self.peers = PaperSockets(), PaperPeer()
        self.disk = disk or PaperDisk()
        self.now_ms = START_MS
        self.server = NameServer(
            self.sockets, self.disk, settings or Settings(), self.now, self.peers.connect
        )

    @property
    def now(self) -> Now:
        return Now(self.now_ms * 1_000_000, self.now_ms)

    def send_bytes(self, data: bytes, connection: int = 1) -> list[Frame]:
        """Send whole frames; the answers to them."""
        complete, used = frames.split(data)
        assert used == len(data)
        self.sockets.arriving += [(connection, bytes(one)) for one in complete]
        self.server.step(self.now)
        return self.answers()

    def ask(self, frame: Frame, connection: int = 1) -> Frame:
        """Send a request and take its one answer."""
        (answer,) = self.send_bytes(frames.encode(frame), connection)
        assert answer.response
        assert answer.opaque == frame.opaque
        return answer

    def tell(self, frame: Frame, connection: int = 1) -> None:
        """Send a one-way request, which must have no answer."""
        frame.flag |= ONEWAY
        assert self.send_bytes(frames.encode(frame), connection) == []

    def answers(self) -> list[Frame]:
        sent, self.sockets.sent = self.sockets.sent, []
        return [frames.decode(frames.split(data)[0][0]) for _, data in sent]

    def close(self, connection: int) -> None:
        """The peer closes a connection."""
        self.sockets.gone.append(connection)
        self.server.step(self.now)

    def pass_time(self, ms: int, pace_ms: int = 100) -> None:
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(self.now_ms + pace_ms, until_ms)
            self.server.step(self.now)


def registration(topics: dict[str, dict[str, Any]], counter: int = 1, state: int = 0) -> bytes:
    """The body of a broker's registration."""
    table = {
        name: {"topicName": name, "readQueueNums": 4, "writeQueueNums": 4, "perm": 6, **config}
        for name, config in topics.items()
    }
    version = {"counter": counter, "stateVersion": state, "timestamp": 1}
    wrapper = {"dataVersion": version, "topicConfigTable": table}
    return json.dumps({"filterServerList": [], "topicConfigSerializeWrapper": wrapper}).encode()
