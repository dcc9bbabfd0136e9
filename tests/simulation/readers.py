"""Small clients that read: consumers that commit how far they are, and the last reader.

Runs in: the seeded simulation.
Owns: its connection; it keeps the books of what it was shown.
Fails: never; an answer that must not be is a finding in the books.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.commitlog.record import Record, decode_properties, parse, tags_code
from appliance.net import requests
from appliance.net.frame import ONEWAY, Frame
from appliance.net.responses import SERVICE_NOT_AVAILABLE, SUCCESS, SYSTEM_BUSY
from tests.faults.ledger import Place, Stored
from tests.simulation.checker import Passage, Queue, body_hash
from tests.simulation.clients import MS, NEVER, QUEUE_COUNT, About, Client

NOT_FOUND, RETRY, MOVED = 19, 20, 21
QUERY_NOT_FOUND = 22
COMMIT, SUSPEND, SUBSCRIPTION = 1, 2, 4


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
                if self._random.random() < 0.05:
                    slot.offset = None  # as after a rebalance
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
