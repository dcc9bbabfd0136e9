"""Compare what a client was promised with what a fresh reader finds in the log.

Runs in: pytest, after the faults.
Owns: nothing; reads the files of interop.Ledger and interop.Drain (tests/interop/java).
Fails: ValueError on a line that neither of them writes. What the broker did wrong is in the Report.

The rules, for each message by its unique id:

* acknowledged: it lies at the acknowledged place, or it is lost (found nowhere) or misplaced;
* not acknowledged: it may be stored or not;
* either way it is stored at most as often as the client put it on the wire. A client that had no
  answer in time sends again, so that two copies may be right; three of two attempts are not;
* a message that was acknowledged before another was sent lies before it, if in the same queue;
* a queue has no gap: its queue offsets count from 0;
* each record was sent, and has the body that was sent with its id;
* what any reader was ever shown is still there, in the same place.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

SHOWN_MAX = 10


class Place(NamedTuple):
    """Where a record lies: its row, and the id that tells host and physical offset."""

    topic: str
    queue: int
    queue_offset: int
    offset_id: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.queue}/{self.queue_offset}"


class Stored(NamedTuple):
    """A record as a reader found it."""

    message_id: str
    body_hash: str
    place: Place


@dataclass(slots=True)
class Entry:
    """A message of the ledger. Times are monotonic, of the ledger's process."""

    message_id: str
    sequence: int
    body_hash: str
    sent_ns: int
    attempt_count: int | None = None
    """How often it was put on the wire; None: the ledger ended before it knew."""
    acked_ns: int = 0
    place: Place | None = None
    """Where it was acknowledged; None: it was not."""

    def count(self, attempts: int) -> None:
        """Attempts up to one outcome; the client tells more than one of a send that timed out."""
        self.attempt_count = (self.attempt_count or 0) + attempts


@dataclass
class Report:
    """What was wrong, by kind, each finding one line."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not any(findings for _, findings in self.kinds())

    def kinds(self) -> Iterator[tuple[str, list[str]]]:
        """The kinds of findings by name."""
        for kind in fields(self):
            yield kind.name, getattr(self, kind.name)

    def __str__(self) -> str:
        lines = []
        for name, findings in self.kinds():
            lines.append(f"{name}: {len(findings)}")
            lines += [f"    {finding}" for finding in findings[:SHOWN_MAX]]
        return "\n".join(lines)


def read_ledger(path: Path) -> dict[str, Entry]:
    """The messages of a ledger by unique id, in the order in which they were sent."""
    ledger: dict[str, Entry] = {}
    for line in read_lines(path):
        match line:
            case ["sent", message_id, ns, sequence, body_hash]:
                ledger[message_id] = Entry(message_id, int(sequence), body_hash, int(ns))
            case ["acked", message_id, ns, attempts, topic, queue, queue_offset, offset_id]:
                entry = ledger[message_id]
                entry.count(int(attempts))
                entry.acked_ns = int(ns)
                entry.place = Place(topic, int(queue), int(queue_offset), offset_id)
            case ["unknown", message_id, _, attempts, _]:
                ledger[message_id].count(int(attempts))
            case _:
                raise ValueError(f"{path}: not a line of a ledger: {line}")
    return ledger


def read_stored(path: Path) -> list[Stored]:
    """The records that a reader wrote down, in its order."""
    records = []
    for line in read_lines(path):
        match line:
            case ["stored", message_id, topic, queue, queue_offset, body_hash, offset_id]:
                place = Place(topic, int(queue), int(queue_offset), offset_id)
                records.append(Stored(message_id, body_hash, place))
            case _:
                raise ValueError(f"{path}: not a line of a drain: {line}")
    return records


def read_lines(path: Path) -> Iterator[list[str]]:
    """The lines of a file as words; what stands after the last line feed was never finished."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield line[:-1].split("\t")


def check(
    ledger: Mapping[str, Entry], drained: Sequence[Stored], seen: Iterable[Stored] = ()
) -> Report:
    """Compare a ledger with a drain after the faults, and with what readers saw during them."""
    report = Report()
    places: defaultdict[str, list[Place]] = defaultdict(list)
    for record in drained:
        places[record.message_id].append(record.place)
    report.lost.extend(find_lost(ledger, places))
    report.duplicated.extend(find_duplicated(ledger, places))
    report.reordered.extend(find_misplaced(ledger, places))
    report.reordered.extend(find_gaps(drained))
    report.reordered.extend(find_overtaken(ledger, drained))
    report.foreign.extend(find_foreign(ledger, drained))
    report.phantom.extend(find_phantoms(drained, seen))
    return report


def find_lost(ledger: Mapping[str, Entry], places: Mapping[str, list[Place]]) -> Iterator[str]:
    """Acknowledged, and nowhere in the log."""
    for entry in ledger.values():
        if entry.place is not None and entry.message_id not in places:
            yield f"{entry.message_id} was acknowledged at {entry.place}"


def find_duplicated(
    ledger: Mapping[str, Entry], places: Mapping[str, list[Place]]
) -> Iterator[str]:
    """Stored more often than sent."""
    for message_id, copies in places.items():
        entry = ledger.get(message_id)
        if entry is None or entry.attempt_count is None:
            continue
        if len(copies) > entry.attempt_count:
            where = ", ".join(map(str, copies))
            yield f"{message_id} was sent {entry.attempt_count} times and lies at {where}"


def find_misplaced(ledger: Mapping[str, Entry], places: Mapping[str, list[Place]]) -> Iterator[str]:
    """In the log, but not where it was acknowledged."""
    for entry in ledger.values():
        copies = places.get(entry.message_id)
        if entry.place is not None and copies and entry.place not in copies:
            where = ", ".join(map(str, copies))
            yield f"{entry.message_id} was acknowledged at {entry.place} and lies at {where}"


def find_gaps(drained: Sequence[Stored]) -> Iterator[str]:
    """Queues whose offsets do not count from 0."""
    expected: Counter[tuple[str, int]] = Counter()
    for record in drained:
        queue = record.place[:2]
        if record.place.queue_offset != expected[queue]:
            yield f"{record.place} stands where {expected[queue]} should"
        expected[queue] = record.place.queue_offset + 1


def find_overtaken(ledger: Mapping[str, Entry], drained: Sequence[Stored]) -> Iterator[str]:
    """Acknowledged before another was sent, and behind it in the same queue."""
    latest: dict[tuple[str, int], Entry] = {}
    for record in drained:
        entry = ledger.get(record.message_id)
        if entry is None or entry.place != record.place:
            continue  # a copy whose answer never came stands wherever it was stored
        queue = record.place[:2]
        before = latest.get(queue)
        if before is not None and entry.acked_ns < before.sent_ns:
            yield f"{entry.message_id} at {entry.place} is behind {before.message_id}, sent later"
        if before is None or entry.sent_ns > before.sent_ns:
            latest[queue] = entry


def find_foreign(ledger: Mapping[str, Entry], drained: Sequence[Stored]) -> Iterator[str]:
    """Never sent, or not with this body."""
    for record in drained:
        entry = ledger.get(record.message_id)
        if entry is None:
            yield f"{record.message_id} at {record.place} was never sent"
        elif entry.body_hash != record.body_hash:
            yield f"{record.message_id} at {record.place} has another body than was sent"


def find_phantoms(drained: Sequence[Stored], seen: Iterable[Stored]) -> Iterator[str]:
    """Shown to a reader during the faults, and not there any more."""
    kept = set(drained)
    for record in seen:
        if record not in kept:
            yield f"{record.message_id} was shown at {record.place}"
