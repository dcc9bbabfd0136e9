"""Small clients that the scheduler turns: producers, consumers, and the last reader.

Runs in: the seeded simulation.
Owns: its connection; it keeps the books of what it was promised and shown.
Fails: never; an answer that must not be is a finding in the books.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from socket import socket
from typing import Any

from appliance.clock import Clock
from appliance.commitlog.record import (
    Record,
    RecordError,
    decode_properties,
    encode_properties,
    parse,
    tags_code,
)
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import ONEWAY, ROCKETMQ, Frame
from appliance.net.responses import SERVICE_NOT_AVAILABLE, SUCCESS, SYSTEM_BUSY
from tests.simulation.checker import Books, Passage, Place, Queue, Stored, body_hash

NOT_FOUND, RETRY, MOVED = 19, 20, 21
QUERY_NOT_FOUND = 22
COMMIT, SUSPEND, SUBSCRIPTION = 1, 2, 4

TAGS = ("", "TagA", "TagB")
QUEUE_COUNT = 3
MS = 1_000_000
NEVER = 1 << 62

Connect = Callable[[Random], socket]
About = tuple[Any, ...]
"""What a request was about, kept until its answer comes."""


class Line:
    """Our end of one connection. What is asked may stop in the middle of a frame for a while."""

    def __init__(self, sock: socket, random: Random) -> None:
        self.lost = False
        self._socket, self._random = sock, random
        self._unsent = bytearray()
        self._unread = bytearray()
        self._opaque = 0

    @property
    def busy(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def ask(self, frame: Frame) -> int:
        """Sends a request; the opaque of its answer."""
        self._opaque += 1
        frame.opaque = self._opaque
        self._unsent += frames.encode(frame)
        whole = self._random.random() < 0.9
        self._send(len(self._unsent) if whole else self._random.randrange(40))
        return self._opaque

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
            about = self.asked.pop(answer.opaque, None)
            if about is None:
                continue  # a killed coordinator's successor may answer once more
            try:
                self.heard(answer, about)
            except RecordError as error:
                self._books.findings.append(f"foreign bytes: for {self.name}'s {about}: {error}")
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
    """How a producer sends. `size_max`: of a body; `fixed`: all bodies are as long as that."""

    topics: Sequence[str]
    messages_max: int
    window: int
    pace_ns: int
    size_max: int
    fixed: bool


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
        count = self._random.randint(2, 6) if self._random.random() < 0.2 else 1
        messages = [self._message() for _ in range(count)]
        ids = [message_id for message_id, _, _ in messages]
        for message_id, body, tag in messages:
            self._books.sent(message_id, body, tag)
        if topic in self._known:
            self._books.sends[self.line_name, queue] += ids
        frame = _batch(queue, messages) if count > 1 else _single(queue, *messages[0])
        if self._random.random() < 0.05:
            frame.flag |= ONEWAY
        self.ask(frame, queue, ids)

    def _message(self) -> tuple[str, bytes, str]:
        """(id, body, tag) of the next one."""
        self.sent_count += 1
        message_id = f"{self.name}-{self.sent_count:04d}"
        size = (
            self._load.size_max if self._load.fixed else self._random.randrange(self._load.size_max)
        )
        body = message_id.encode() + self._random.randbytes(size)
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


def _single(queue: Queue, message_id: str, body: bytes, tag: str) -> Frame:
    fields = _header(queue, properties=_properties(message_id, tag).decode(), batch=False)
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


# ---- readers -------------------------------------------------------------------------------------


def pull(queue: Queue, group: str, offset: int, **fields: object) -> Frame:
    """A request for what lies in a queue from an offset on."""
    values: dict[str, object] = {
        "consumerGroup": group,
        "topic": queue[0],
        "queueId": queue[1],
        "queueOffset": offset,
        "maxMsgNums": 16,
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


def stored(record: Record) -> Stored:
    """A record as the books have it."""
    message_id = decode_properties(record.properties).get("UNIQ_KEY", "")
    place = Place(record.topic, record.queue_id, record.queue_offset, record.message_id)
    return Stored(message_id, body_hash(record.body), place)


@dataclass
class Slot:
    """One queue as a consumer sees it. `offset` None: the broker is to say where to begin."""

    queue: Queue
    offset: int | None = None
    trusted: bool = False
    """The offset is what the broker said was committed, and nothing was pulled from it yet."""
    asking: bool = False
    due_ns: int = 0


class Consumer(Client):
    """Reads every queue by long polls from where its group has committed, and commits."""

    def __init__(self, topics: Sequence[str], tag: str, online: bool, *args: Any) -> None:
        """`online`: it subscribes by heartbeat, else each pull brings its subscription."""
        super().__init__(*args)
        self._slots = [Slot((topic, q)) for topic in topics for q in range(QUEUE_COUNT)]
        self._tag, self._online = tag, online
        self._topics = topics

    def opened(self) -> None:
        self._slots = [Slot(slot.queue) for slot in self._slots]
        self.due_ns = self.now_ns
        if self._online:
            self._beat()

    def _beat(self) -> None:
        subscriptions = [
            {
                "topic": topic,
                "subString": self._tag or "*",
                "subVersion": 1,
                "expressionType": "TAG",
                "tagsSet": [self._tag] if self._tag else [],
                "codeSet": [tags_code(self._tag)] if self._tag else [],
            }
            for topic in self._topics
        ]
        consumer = {
            "groupName": self.name,
            "consumeType": "CONSUME_PASSIVELY",
            "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
            "subscriptionDataSet": subscriptions,
        }
        body = {"clientID": self.name, "consumerDataSet": [consumer], "producerDataSet": []}
        self.ask(requests.ask("HEART_BEAT", {}, json.dumps(body).encode()), "beat")

    def act(self) -> None:
        for slot in self._slots:
            if not slot.asking and slot.due_ns <= self.now_ns:
                slot.asking = True
                if slot.offset is None:
                    self.ask(query(slot.queue, self.name), "query", slot)
                else:
                    self._pull(slot, slot.offset)
        self._plan()

    def _plan(self) -> None:
        self.due_ns = min((s.due_ns for s in self._slots if not s.asking), default=NEVER)

    def _pull(self, slot: Slot, offset: int) -> None:
        flag = SUSPEND | (0 if self._online else SUBSCRIPTION)
        flag |= COMMIT if not slot.trusted and self._random.random() < 0.2 else 0
        frame = pull(
            slot.queue,
            self.name,
            offset,
            sysFlag=flag,
            commitOffset=offset,
            suspendTimeoutMillis=self._random.choice((50, 500, 2000)),
            subscription=self._tag or "*",
        )
        self.ask(frame, "pull", slot, offset)

    def heard(self, answer: Frame, about: About) -> None:
        kind = about[0]
        if kind == "commit" and answer.code == SUCCESS:
            _, queue, offset = about
            self._books.commits[self.name, queue] = offset
        elif kind == "query":
            self._begin(answer, about[1])
        elif kind == "pull":
            self._take(answer, about[1], about[2])
        self._plan()

    def _begin(self, answer: Frame, slot: Slot) -> None:
        slot.asking = False
        floor = self._books.commits.get((self.name, slot.queue), 0)
        if answer.code == SUCCESS:
            slot.offset, slot.trusted = int(answer.fields["offset"]), True
        elif answer.code == QUERY_NOT_FOUND:
            slot.offset = 0
        else:
            slot.due_ns = self.now_ns + 20 * MS
            return
        if slot.offset < floor:
            self._books.findings.append(
                f"offset lost: {self.name} committed {floor} of {slot.queue}, not {slot.offset}"
            )

    def _take(self, answer: Frame, slot: Slot, offset: int) -> None:
        slot.asking = False
        if answer.code not in (SUCCESS, NOT_FOUND, RETRY, MOVED):
            slot.due_ns = self.now_ns + 20 * MS
            if self._online:
                self._beat()
            return
        following = int(answer.fields["nextBeginOffset"])
        if answer.code == MOVED and slot.trusted and offset > int(answer.fields["maxOffset"]):
            self._books.findings.append(
                f"offset beyond the log: {self.name} had {offset} of {slot.queue} committed, "
                f"which ends at {answer.fields['maxOffset']}"
            )
        if answer.code != MOVED:
            self._see(answer, slot.queue, offset, following)
        slot.offset, slot.trusted = following, False
        if following > offset and self._random.random() < 0.5:
            self._commit(slot.queue, following)

    def _see(self, answer: Frame, queue: Queue, offset: int, following: int) -> None:
        for record in records(answer.body):
            one = stored(record)
            if one.place[:2] != queue or not offset <= one.place.queue_offset < following:
                self._books.findings.append(
                    f"foreign: {one.place} was shown to who asked for {queue} from {offset}"
                )
            self._books.saw(self.name, one, self._tag)
        if following > offset:
            passage = Passage(self.name, *queue, offset, following, self._tag)
            self._books.passages.append(passage)

    def _commit(self, queue: Queue, offset: int) -> None:
        fields = {
            "consumerGroup": self.name,
            "topic": queue[0],
            "queueId": queue[1],
            "commitOffset": offset,
        }
        flag = ONEWAY if self._random.random() < 0.3 else 0
        frame = requests.ask("UPDATE_CONSUMER_OFFSET", fields, flag=flag)
        self.ask(frame, "commit", queue, offset)


def query(queue: Queue, group: str) -> Frame:
    """Asks how far a group has read."""
    fields = {
        "consumerGroup": group,
        "topic": queue[0],
        "queueId": queue[1],
        "setZeroIfNotFound": False,
    }
    return requests.ask("QUERY_CONSUMER_OFFSET", fields)


class Reader(Client):
    """Reads all there is, one pull after the other; then asks how far the groups have read."""

    def __init__(self, topics: Sequence[str], groups: Sequence[str], *args: Any) -> None:
        super().__init__(*args)
        self.drained: list[Stored] = []
        self._queues = [(topic, q) for topic in topics for q in range(QUEUE_COUNT)]
        self._todo = [("pull", queue, "reader", 0) for queue in reversed(self._queues)]
        self._groups = groups
        self._ends: dict[Queue, int] = {}

    @property
    def done(self) -> bool:
        return not self._todo and not self._groups

    def opened(self) -> None:
        self.due_ns = self.now_ns

    def act(self) -> None:
        self.due_ns = NEVER
        if not self._todo and self._groups:
            self._todo = [("query", q, group, 0) for q in self._queues for group in self._groups]
            self._groups = ()
        if self._todo:
            kind, queue, group, offset = self._todo[-1]
            frame = pull(queue, group, offset) if kind == "pull" else query(queue, group)
            self.ask(frame, *self._todo[-1])

    def heard(self, answer: Frame, about: About) -> None:
        kind, queue, group, offset = about
        self.due_ns = self.now_ns
        if answer.code in (SYSTEM_BUSY, SERVICE_NOT_AVAILABLE):
            self.due_ns += 20 * MS
            return
        self._todo.pop()
        if kind == "query":
            self._compare(answer, queue, group)
        elif "nextBeginOffset" in answer.fields:
            self._take(answer, queue, group, offset)

    def _take(self, answer: Frame, queue: Queue, group: str, offset: int) -> None:
        following = int(answer.fields["nextBeginOffset"])
        self._ends[queue] = int(answer.fields["maxOffset"])
        self.drained += [stored(record) for record in records(answer.body)]
        if following > offset:
            self._todo.append(("pull", queue, group, following))

    def _compare(self, answer: Frame, queue: Queue, group: str) -> None:
        offset = int(answer.fields["offset"]) if answer.code == SUCCESS else 0
        if offset > self._ends.get(queue, 0):
            self._books.findings.append(
                f"offset beyond the log: {group} has {offset} of {queue} committed, "
                f"which ends at {self._ends.get(queue, 0)}"
            )
        if offset < self._books.commits.get((group, queue), 0):
            self._books.findings.append(
                f"offset lost: {group} committed more of {queue} than {offset}"
            )
