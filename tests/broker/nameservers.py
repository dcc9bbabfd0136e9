"""NameServers of paper: they hear what is registered, answer, refuse, are slow, go away."""

import json
from collections import defaultdict
from typing import Any

from appliance.net import frame as frames
from appliance.net import json_text
from appliance.net.frame import RESPONSE, Frame


class _End:
    """Our end of one connection."""

    def __init__(self, server: "PaperNameServer") -> None:
        self._server = server
        self._incoming = bytearray()
        self.open = True

    def getpeername(self) -> object:
        return self._server.address

    def fileno(self) -> int:
        return -1

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        self._check()
        for view in frames.split(bytes(data))[0]:
            answer = self._server.hear(frames.decode(view))
            if answer is not None:
                self._incoming += frames.encode(answer)
        return len(data)

    def recv(self, size: int, /) -> bytes:
        self._check()
        if not self._incoming:
            raise BlockingIOError
        data = bytes(self._incoming[:size])
        del self._incoming[:size]
        return data

    def close(self) -> None:
        self.open = False

    def _check(self) -> None:
        if not self.open or not self._server.up:
            raise ConnectionResetError("connection reset")


class PaperNameServer:
    """One of them. `up` false: nobody listens and every connection is gone."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.up = True
        self.silent = False
        """It takes requests and never answers."""
        self.code = 0
        self.body = b""
        self.heard: list[Frame] = []

    def hear(self, frame: Frame) -> Frame | None:
        self.heard.append(frame)
        if self.silent:
            return None
        return Frame(self.code, frame.opaque, RESPONSE, body=self.body)

    def registrations(self) -> list[list[str]]:
        """The topics of each REGISTER_BROKER so far, in order; forgets them."""
        told = [frame for frame in self.heard if frame.code == 103]
        self.heard = [frame for frame in self.heard if frame.code != 103]
        return [sorted(table_of(frame)["topicConfigTable"]) for frame in told]


def table_of(frame: Frame) -> dict[str, Any]:
    """The wrapper in the body of a registration."""
    assert json.loads(frame.body) == json_text.loads(frame.body), "strict JSON"
    wrapper: dict[str, Any] = json.loads(frame.body)["topicConfigSerializeWrapper"]
    return wrapper


class Net:
    """Connects to NameServers by address."""

    def __init__(self, *addresses: str) -> None:
        self.servers = {address: PaperNameServer(address) for address in addresses}
        self.attempts: dict[str, int] = defaultdict(int)

    def connect(self, address: str) -> _End:
        self.attempts[address] += 1
        server = self.servers[address]
        if not server.up:
            raise ConnectionRefusedError(111, "Connection refused")
        return _End(server)
