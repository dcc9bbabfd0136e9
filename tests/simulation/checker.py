"""What the clients of one history were promised and shown, and whether the store kept to it.

Runs in: the seeded simulation.
Owns: the books: ledger, what readers saw, what they passed over, the offsets that they committed.
Fails: never; what is wrong is told as findings, a line each.

The rules for single messages are those of tests/faults/ledger.py. Beside them:

* sends of one connection to one queue lie in the order in which they were sent;
* a consumer was shown each message that it was moved past, if it wanted its tag;
* a committed consume offset survives every kill, and never points behind the log's end;
* every row of a ConsumeQueue leads to the record that it stands for, and every record has its row.

A power cut under async flush may take back what was not on disk: that is struck from the books.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.commitlog.record import Status, decode_message_id, parse, walk
from tests.commitlog.stores import open_store
from tests.fakes.disk import FakeDisk
from tests.faults.ledger import Entry, Place, Stored, check

Queue = tuple[str, int]


def body_hash(body: bytes) -> str:
    """How a body is told from others in the books."""
    return hashlib.sha1(body).hexdigest()


class Passage(NamedTuple):
    """A consumer was told to go on at `end`, having read from `begin`; `tag`: what it wants."""

    consumer: str
    topic: str
    queue_id: int
    begin: int
    end: int
    tag: str


@dataclass
class Books:
    """One history's."""

    sync: bool
    """Whether an acknowledgement says that the message is on disk."""
    ledger: dict[str, Entry] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    sends: defaultdict[tuple[str, Queue], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Ids by connection and queue, as they were sent on the fast path."""
    seen: list[Stored] = field(default_factory=list)
    shown: set[tuple[str, Place]] = field(default_factory=set)
    passages: list[Passage] = field(default_factory=list)
    commits: dict[tuple[str, Queue], int] = field(default_factory=dict)
    """Consume offsets by group and queue whose commit was answered."""
    findings: list[str] = field(default_factory=list)
    power_cuts: int = 0
    _time: int = 0

    def tick(self) -> int:
        """A time that no other event has."""
        self._time += 1
        return self._time

    # ---- what clients write ---------------------------------------------------------------------

    def sent(self, message_id: str, body: bytes, tag: str) -> None:
        """A message was put on the wire, for the one and only time."""
        self.ledger[message_id] = Entry(
            message_id, len(self.ledger), body_hash(body), self.tick(), attempt_count=1
        )
        self.tags[message_id] = tag

    def acknowledged(self, message_id: str, place: Place) -> None:
        entry = self.ledger[message_id]
        entry.place, entry.acked_ns = place, self.tick()

    def refused(self, message_id: str) -> None:
        """It was answered with a code that says that nothing was stored."""
        self.ledger[message_id].attempt_count = 0

    def saw(self, consumer: str, record: Stored, tag: str) -> None:
        """A reader was given a record."""
        self.seen.append(record)
        self.shown.add((consumer, record.place))
        if tag and self.tags.get(record.message_id) != tag:
            self.findings.append(f"unwanted: {record.place} was shown to {consumer} for {tag}")

    # ---- what the world writes ------------------------------------------------------------------

    def lost_memory(self) -> None:
        """All processes died: commits since the last save of the offsets may be gone."""
        self.commits.clear()

    def lost_power(self, durable: int) -> None:
        """What lies behind the physical offset `durable` was not on disk."""
        self.power_cuts += 1
        self.lost_memory()
        if self.sync:
            return
        for entry in self.ledger.values():
            if entry.place is not None and _end_of(entry.place) >= durable:
                entry.place = None
        self.seen = [record for record in self.seen if _end_of(record.place) < durable]
        self.passages.clear()
        self.shown.clear()

    # ---- the verdict ----------------------------------------------------------------------------

    def verdict(self, drained: Sequence[Stored]) -> list[str]:
        """All that is wrong, after a fresh reader has read everything."""
        report = check(self.ledger, drained, self.seen)
        found = [f"{kind}: {text}" for kind, texts in report.kinds() for text in texts]
        if self.power_cuts:  # may leave a blank row where a message was torn: see check_store
            found = [text for text in found if " stands where " not in text]
        return [*self.findings, *found, *self._overtaken(), *self._skipped(drained)]

    def _overtaken(self) -> Iterator[str]:
        for (_, queue), ids in self.sends.items():
            last = -1
            for message_id in ids:
                place = self.ledger[message_id].place
                if place is None:
                    continue
                if place.queue_offset <= last:
                    yield f"reordered: {message_id} lies before what was sent before it to {queue}"
                last = place.queue_offset

    def _skipped(self, drained: Sequence[Stored]) -> Iterator[str]:
        by_queue: defaultdict[Queue, list[Stored]] = defaultdict(list)
        for record in drained:
            by_queue[record.place[:2]].append(record)
        for passage in self.passages:
            for record in by_queue[passage.topic, passage.queue_id]:
                inside = passage.begin <= record.place.queue_offset < passage.end
                wanted = not passage.tag or self.tags.get(record.message_id) == passage.tag
                if inside and wanted and (passage.consumer, record.place) not in self.shown:
                    yield f"skipped: {passage.consumer} was led past {record.place}"


def _end_of(place: Place) -> int:
    """The physical offset of a record."""
    return decode_message_id(place.offset_id)[1]


def check_store(disk: FakeDisk, root: str, drained: Sequence[Stored], *, torn: bool) -> list[str]:
    """What is wrong with the store's files, after its end in order; `torn`: power was cut."""
    log = dict(_records(disk, root))
    store = open_store(disk, root)
    rows = {physical: (topic, queue, row) for topic, queue, row, physical in store.readable()}
    read = {decode_message_id(record.place.offset_id)[1]: record.place[:3] for record in drained}
    found = []
    if store.recovered.abnormal:
        found.append("store: it was not closed in order")
    if store.recovered.damaged and not torn:
        found.append(f"store: damaged at {store.recovered.damaged}")
    for name, these in (("a row", rows), ("a reader", read)):
        # Between what was torn there may be good records that recovery did not trust.
        for physical in sorted(these.keys() | (set() if torn else log.keys())):
            if log.get(physical) != these.get(physical):
                there = log.get(physical), these.get(physical)
                found.append(
                    f"store: the record at {physical} is {there[0]}, for {name} {there[1]}"
                )
    return found


def _records(disk: FakeDisk, root: str) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """(physical offset, (topic, queue id, queue offset)) of all records of the log."""
    for name in disk.listdir(f"{root}/commitlog"):
        data = disk.read(f"{root}/commitlog/{name}")
        at = 0
        while at < len(data):
            for status, position, size in walk(data[at:], at):
                if status is not Status.MESSAGE:
                    break
                record = parse(data, position)
                yield record.physical_offset, (record.topic, record.queue_id, record.queue_offset)
                at = position + size
            at = _next_record(data, at, int(name))


def _next_record(data: bytes, at: int, first_offset: int) -> int:
    """Where a good record begins again behind a torn one, or the end."""
    for position in range(at + 1, len(data) - 100):
        magic = data[position + 4 : position + 7] == b"\xda\xa3\x20"
        own = int.from_bytes(data[position + 28 : position + 36]) == first_offset + position
        if magic and own:
            return position
    return len(data)
