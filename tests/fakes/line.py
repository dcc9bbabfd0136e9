"""A client's end of a connection that a process under test has adopted, and what it may ask.

Runs in: tests.
Owns: its socket.
Fails: BlockingIOError when more is sent than the socket takes at once.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Any

from appliance.commitlog.record import Record, encode_properties, parse
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import ONEWAY, Frame
from appliance.net.poll import Sockets

COMMIT, SUSPEND, SUBSCRIPTION = 1, 2, 4
"""Bits of a pull's sysFlag."""
PEER = bytes((10, 0, 0, 7)) + (4711).to_bytes(4)
PEER_TEXT = "10.0.0.7:4711"
BORN_MS = 1_700_000_000_000


class Line:
    """One connection."""

    def __init__(self, sockets: Sockets, *, peer: bytes = PEER) -> None:
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.setblocking(False)
        self.socket = ours
        self.connection = sockets.adopt(theirs, peer)
        self._opaque = 0
        self._unread = bytearray()

    def ask(self, frame: Frame) -> int:
        """Sends a request; its opaque."""
        self._opaque += 1
        frame.opaque = self._opaque
        self.put(frames.encode(frame))
        return self._opaque

    def put(self, data: bytes) -> None:
        """Onto the wire as it is."""
        assert self.socket.send(data) == len(data)

    def hear(self) -> list[Frame]:
        """The frames that have come, in order."""
        try:
            while data := self.socket.recv(1 << 20):
                self._unread += data
        except BlockingIOError:
            pass
        complete, used = frames.split(self._unread)
        heard = [frames.decode(one) for one in complete]
        self._unread = self._unread[used:]
        return heard

    def close(self) -> None:
        self.socket.close()


def send(
    topic: str = "T",
    body: bytes = b"x",
    *,
    name: str = "SEND_MESSAGE_V2",
    oneway: bool = False,
    key: str = "k",
    properties: dict[str, str] | None = None,
    **fields: object,
) -> Frame:
    """A plain send, but for what `fields` say otherwise."""
    pairs = {**({"UNIQ_KEY": key} if key else {}), **(properties or {})}
    values: dict[str, object] = {
        "producerGroup": "P",
        "topic": topic,
        "defaultTopic": "TBW102",
        "defaultTopicQueueNums": 4,
        "queueId": 0,
        "sysFlag": 0,
        "bornTimestamp": BORN_MS,
        "flag": 0,
        "properties": encode_properties(pairs).decode(),
        "reconsumeTimes": 0,
        "unitMode": False,
        "batch": False,
    }
    return requests.ask(name, {**values, **fields}, body, flag=ONEWAY if oneway else 0)


def batch(*bodies: bytes, tags: str = "", **fields: Any) -> Frame:
    """A batch of messages as clients send it."""
    properties = encode_properties({"UNIQ_KEY": "b", **({"TAGS": tags} if tags else {})})
    items = b"".join(_item(body, properties) for body in bodies)
    return send(body=items, name="SEND_BATCH_MESSAGE", key="", batch=True, **fields)


def _item(body: bytes, properties: bytes) -> bytes:
    size = 22 + len(body) + len(properties)
    head = struct.pack(">iiiii", size, 0, 0, 0, len(body))
    return head + body + struct.pack(">h", len(properties)) + properties


def pull(offset: int = 0, topic: str = "T", group: str = "G", **fields: object) -> Frame:
    """A pull that brings its subscription and does not wait, but for what `fields` say."""
    values: dict[str, object] = {
        "consumerGroup": group,
        "topic": topic,
        "queueId": 0,
        "queueOffset": offset,
        "maxMsgNums": 32,
        "sysFlag": SUBSCRIPTION,
        "commitOffset": 0,
        "suspendTimeoutMillis": 0,
        "subscription": "*",
        "subVersion": 1,
        "expressionType": "TAG",
    }
    return requests.ask("PULL_MESSAGE", {**values, **fields})


def records(body: bytes) -> Iterator[Record]:
    """The records of a pull's answer."""
    at = 0
    while at < len(body):
        yield parse(body, at)
        at += int.from_bytes(body[at : at + 4])
