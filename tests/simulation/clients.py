"""Small clients that the scheduler turns: what they have in common, and producers.

Runs in: the seeded simulation.
Owns: its connection; it keeps the books of what it was promised and shown.
Fails: never; an answer that must not be is a finding in the books.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from socket import socket
from typing import Any

from appliance.clock import Clock
from appliance.commitlog.record import (
    RecordError,
    encode_properties,
)
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import ONEWAY, ROCKETMQ, Frame
from appliance.net.responses import SERVICE_NOT_AVAILABLE, SUCCESS, SYSTEM_BUSY
from tests.faults.ledger import Place
from tests.simulation.checker import Books, Queue

TAGS = ("", "TagA", "TagB")
ODD_PROPERTY = encode_properties({"POP_CK": "0"})
QUEUE_COUNT = 3
FLOOD_COUNT = 130
MS = 1_000_000
NEVER = 1 << 62

Connect = Callable[[Random], socket]
About = tuple[Any, ...]
"""What a request was about, kept until its answer comes."""


class Line:
    """Our end of one connection. What is asked may stop in the middle of a frame for a while."""

    def __init__(self, sock: socket, random: Random) -> None:
        self.lost = False
        self.opaque = 0
        """Of the last request."""
        self._socket, self._random = sock, random
        self._unsent = bytearray()
        self._unread = bytearray()

    @property
    def busy(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def ask(self, frame: Frame) -> int:
        """Sends a request; the opaque of its answer."""
        self.opaque += 1
        frame.opaque = self.opaque
        self._unsent += frames.encode(frame)
        whole = self._random.random() < 0.9
        self._send(len(self._unsent) if whole else self._random.randrange(40))
        return self.opaque

    def hear(self) -> list[Frame]:
        """The answers that have come; sends what is left."""
        self._send(len(self._unsent))
        try:
            while data := self._socket.recv(1 << 16):
                self._unread += data
            self.lost = True
        except BlockingIOError:
            pass
        except OSError:
            self.lost = True
        complete, used = frames.split(self._unread)
        heard = [frames.decode(one) for one in complete]
        self._unread = self._unread[used:]
        return [frame for frame in heard if frame.response]

    def _send(self, size: int) -> None:
        if not size or not self._unsent:
            return
        try:
            del self._unsent[: self._socket.send(self._unsent[:size])]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # what has come before the end can still be heard

    def close(self) -> None:
        self._socket.close()


class Client:
    """Connects again whenever it is cut off. Whatever it asks is answered, or its line is lost."""

    def __init__(
        self, name: str, connect: Connect, clock: Clock, books: Books, random: Random
    ) -> None:
        self.name = name
        self.due_ns = 0
        """When it wants a turn even if nothing has come; NEVER: it does not."""
        self.quiet = False
        """It is to ask nothing more."""
        self.asked: dict[int, About] = {}
        self._connect, self._clock, self._books, self._random = connect, clock, books, random
        self._line: Line | None = None
        self._line_count = 0

    @property
    def now_ns(self) -> int:
        return self._clock.now().monotonic_ns

    @property
    def line_name(self) -> str:
        return f"{self.name}/{self._line_count}"

    def turn(self) -> bool:
        """Hears and asks what there is; whether there was anything."""
        due = not self.quiet and self.now_ns >= self.due_ns
        if self._line is None:
            if due:
                self._open()
            return due
        sending, heard = self._line.busy, self.listen()
        if self._line.lost:
            self.cut()
            return True
        if due:
            self.act()
        return heard or due or sending

    def listen(self) -> bool:
        """Hears what has come; whether it was anything."""
        answers = self._line.hear() if self._line is not None else []
        for answer in answers:
            if self._line is not None and answer.opaque > self._line.opaque:
                self._books.findings.append(f"foreign: an answer that {self.line_name} never asked")
            about = self.asked.pop(answer.opaque, None)
            if about is None:
                continue  # a killed coordinator's successor may answer once more
            try:
                self.heard(answer, about)
            except (KeyError, RecordError, ValueError) as error:
                self._books.findings.append(f"foreign: {self.name} asked {about}: {error!r}")
        return bool(answers)

    def _open(self) -> None:
        try:
            self._line = Line(self._connect(self._random), self._random)
        except ConnectionRefusedError:
            self.due_ns = self.now_ns + 20 * MS
            return
        self._line_count += 1
        self.opened()

    def cut(self) -> None:
        """The connection ends, and with it what was asked."""
        if self._line is not None:
            self._line.close()
            self._line = None
            self.asked.clear()
            self.due_ns = self.now_ns + 5 * MS

    def ask(self, frame: Frame, *about: Any) -> None:
        assert self._line is not None
        if self._random.random() < 0.25:
            frame.serialization = ROCKETMQ
        opaque = self._line.ask(frame)
        if not frame.oneway:
            self.asked[opaque] = about

    def opened(self) -> None:
        """A connection is there."""
        raise NotImplementedError

    def heard(self, answer: Frame, about: About) -> None:
        """An answer has come."""
        raise NotImplementedError

    def act(self) -> None:
        """It is due: asks something and says when it wants to ask again."""
        raise NotImplementedError


# ---- producers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """How a producer sends. `size_max`: of a body; `fixed`: all bodies are as long as that.

    `flood`: some batches have so many small messages that their records fit into no log file.
    """

    topics: Sequence[str]
    messages_max: int
    window: int
    pace_ns: int
    size_max: int
    fixed: bool
    flood: bool


class Producer(Client):
    """Sends each message once, alone or in batches, a few at a time."""

    def __init__(self, load: Load, *args: Any) -> None:
        super().__init__(*args)
        self.sent_count = 0
        self._load = load
        self._known: set[str] = set()

    @property
    def done(self) -> bool:
        """It has sent everything."""
        return self.sent_count >= self._load.messages_max

    def opened(self) -> None:
        self.due_ns = self.now_ns

    def act(self) -> None:
        if self.done or len(self.asked) >= self._load.window:
            self.due_ns = NEVER
            return
        self._send()
        self._pause()

    def _pause(self) -> None:
        self.due_ns = self.now_ns + int(self._random.expovariate(1) * self._load.pace_ns)

    def _send(self) -> None:
        topic = self._random.choice(self._load.topics)
        queue = topic, self._random.randrange(QUEUE_COUNT)
        flood = self._load.flood and self._random.random() < 0.01
        count = self._random.randint(2, 6) if self._random.random() < 0.2 else 1
        count = FLOOD_COUNT if flood else count
        odd = count == 1 and self._random.random() < 0.1
        messages = [self._message(small=flood) for _ in range(count)]
        ids = [message_id for message_id, _, _ in messages]
        for message_id, body, tag in messages:
            self._books.sent(message_id, body, tag)
        if topic in self._known and not odd:
            self._books.sends[self.line_name, queue] += ids
        frame = _batch(queue, messages) if count > 1 else _single(queue, *messages[0], odd=odd)
        if self._random.random() < 0.05:
            frame.flag |= ONEWAY
        self.ask(frame, queue, ids)

    def _message(self, *, small: bool) -> tuple[str, bytes, str]:
        """(id, body, tag) of the next one."""
        self.sent_count += 1
        message_id = f"{self.name}-{self.sent_count:04d}"
        size = (
            self._load.size_max if self._load.fixed else self._random.randrange(self._load.size_max)
        )
        body = message_id.encode() + self._random.randbytes(0 if small else size)
        return message_id, body, self._random.choice(TAGS)

    def heard(self, answer: Frame, about: About) -> None:
        (topic, queue_id), ids = about
        if answer.code == SUCCESS:
            self._known.add(topic)
            first, places = int(answer.fields["queueOffset"]), answer.fields["msgId"].split(",")
            if len(places) != len(ids) or int(answer.fields["queueId"]) != queue_id:
                self._books.findings.append(f"foreign: {ids} were answered by {answer.fields}")
            for at, (message_id, place) in enumerate(zip(ids, places, strict=False)):
                self._books.acknowledged(message_id, Place(topic, queue_id, first + at, place))
        elif answer.code in (SYSTEM_BUSY, SERVICE_NOT_AVAILABLE):
            for message_id in ids:
                self._books.refused(message_id)
        if self.due_ns == NEVER:
            self._pause()


def _header(queue: Queue, **fields: object) -> dict[str, object]:
    return {
        "producerGroup": "producers",
        "topic": queue[0],
        "defaultTopic": "TBW102",
        "defaultTopicQueueNums": QUEUE_COUNT,
        "queueId": queue[1],
        "sysFlag": 0,
        "bornTimestamp": 1,
        "flag": 0,
        "reconsumeTimes": 0,
        "unitMode": False,
        **fields,
    }


def _properties(message_id: str, tag: str) -> bytes:
    return encode_properties({"UNIQ_KEY": message_id, **({"TAGS": tag} if tag else {})})


def _single(queue: Queue, message_id: str, body: bytes, tag: str, *, odd: bool) -> Frame:
    """`odd`: with a property for which the frontends leave it to the coordinator."""
    properties = _properties(message_id, tag) + (ODD_PROPERTY if odd else b"")
    fields = _header(queue, properties=properties.decode(), batch=False)
    return requests.ask("SEND_MESSAGE_V2", fields, body)


def _batch(queue: Queue, messages: Sequence[tuple[str, bytes, str]]) -> Frame:
    items = b"".join(
        _item(body, _properties(message_id, tag)) for message_id, body, tag in messages
    )
    return requests.ask("SEND_BATCH_MESSAGE", _header(queue, properties="", batch=True), items)


def _item(body: bytes, properties: bytes) -> bytes:
    size = 22 + len(body) + len(properties)
    head = struct.pack(">iiiii", size, 0, 0, 0, len(body))
    return head + body + struct.pack(">h", len(properties)) + properties
