"""Records on their way to the writer, and what came of them.

Runs in: coordinator.
Owns: the coordinator's send ring, and `appended_origin` in the coordinator's page.
Fails: never; a full ring is an answer, and the request that needs it waits in its own ring.

Every entry carries its `origin`: who caused it (a frontend, or a delay level) and which of his
requests it was, counted from 1. `appended_origin` remembers the last one whose result was seen. So
a successor knows what was handed over already: what the page says, and what is still in the ring.
The answer is built from the entry alone; nothing about it is kept anywhere else.
"""

import struct
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from appliance.commitlog.record import encode_message_id
from appliance.net.frame import JSON, ONEWAY, ROCKETMQ, Frame
from appliance.net.requests import BY_NAME, Response, answer
from appliance.net.responses import SERVICE_NOT_AVAILABLE, SUCCESS, SYSTEM_ERROR, name_of
from appliance.ring.ring import Ring
from clib import ffi, lib

from appliance.broker.effects import Append, Connection, connection_of, frontend_of, local_of
from appliance.broker.kept.topics import Topics
from appliance.broker.state import REGION

SOURCES_MAX: int = dict(ffi.typeof("ap_coordinator").fields)["appended_origin"].type.length
"""Sources that a page has room for: frontends from 0 up, delay levels from the end down."""

_SOURCE_SHIFT = 56
_POSITION_MASK = (1 << _SOURCE_SHIFT) - 1
_INDEX = struct.Struct("=IIq")
"""Behind the records of a batch, one each: size, 0, tags code (clib's record.c)."""

_STORED = range(10, 13)
"""FLUSH_DISK_TIMEOUT … FLUSH_SLAVE_TIMEOUT: stored, although not as safely as asked."""

_BIND_UNSET = (
    *("record_size", "flags", "tags_code", "connection", "frontend", "opaque", "code"),
    *("unique_key_at", "unique_key_size", "queue_id", "origin", "received_ns"),
)
"""Fields of an entry that asks for no append: a used slot holds what stood there before."""

_SEND_BACK = BY_NAME["CONSUMER_SEND_MSG_BACK"].code
_UNAVAILABLE = (
    "service not available now. It may be caused by one of the following reasons: the broker's "
    "disk is full, messages are put to the slave, message store has been shut down, etc."
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which request caused an append."""

    source: int
    position: int

    @staticmethod
    def of(number: int) -> "Origin":
        """From an entry's field."""
        return Origin(number >> _SOURCE_SHIFT, (number & _POSITION_MASK) - 1)

    @property
    def number(self) -> int:
        """As it stands in an entry."""
        return self.source << _SOURCE_SHIFT | self.position + 1


@dataclass(frozen=True, slots=True)
class Asker:
    """Who is answered when the records are stored."""

    connection: Connection
    frame: Frame


@dataclass(frozen=True, slots=True)
class Appended:
    """What came of one append."""

    origin: Origin
    code: int
    """Response code; SUCCESS when it is stored."""
    connection: Connection
    answer: Frame | None
    """None when nobody asked, or nobody reads it."""


class Appends:
    """The coordinator's pair of rings with the writer."""

    def __init__(
        self,
        send: Ring,
        done: Ring,
        page: Any,
        topics: Topics,
        store_host: bytes,
        wake_writer: Callable[[], None],
    ) -> None:
        """`page` is the coordinator's own (a cffi `ap_coordinator`)."""
        self._send = send
        self._done = done
        self._page = page
        self._topics = topics
        self._store_host = store_host
        self._wake_writer = wake_writer
        send.freed_by(done)
        self._last = [int(number) for number in page.appended_origin]
        self._looked = done.tail
        self._find_pending()

    def _find_pending(self) -> None:
        """What a predecessor handed over and saw no result of."""
        for position in range(self._done.tail, self._send.head):
            entry = self._send.entries[position & self._send.mask]
            if int(entry["kind"]) == lib.AP_SEND:
                origin = Origin.of(int(entry["origin"]))
                self._last[origin.source] = max(self._last[origin.source], origin.position + 1)

    def after(self, source: int) -> int:
        """The position behind the last one of a source that was handed over."""
        return self._last[source]

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return self._done.tail == self._send.head

    @property
    def blocked(self) -> bool:
        """Whether results wait that have been looked at."""
        return self._done.tail != self._looked

    @property
    def pending(self) -> bool:
        """Whether there are results since the last look."""
        return self._done.head != self._looked

    # To the writer -------------------------------------------------------------------------------

    def push(self, append: Append, origin: Origin, asker: Asker | None = None) -> bool:
        """Hand records over; False when there is no room now."""
        row = self._topics.queue_row(append.topic, append.queue_id)
        assert row >= 0, f"{append.topic} has no queue {append.queue_id}"
        records = b"".join(append.records)
        key_at, key_size = _unique_key(append)
        pushed = self._send.push(
            records + _index(append, len(records)),
            record_size=len(records),
            record_count=len(append.records),
            queue_index=row,
            kind=lib.AP_SEND,
            flags=_flags(append, asker),
            tags_code=append.tags_codes[0],
            connection=local_of(asker.connection) if asker else 0,
            frontend=frontend_of(asker.connection) if asker else 0,
            opaque=asker.frame.opaque if asker else 0,
            code=asker.frame.code if asker else 0,
            unique_key_at=key_at,
            unique_key_size=key_size,
            queue_id=append.answered_queue_id,
            origin=origin.number,
            received_ns=0,
        )
        if pushed:
            self._last[origin.source] = origin.position + 1
            self._wake_writer()
        return pushed

    def bind(self, first_row: int, count: int) -> bool:
        """Ask the writer to fill in the offsets of queue rows; False when there is no room now."""
        unset: dict[str, Any] = dict.fromkeys(_BIND_UNSET, 0)
        pushed = self._send.push(
            kind=lib.AP_BIND, queue_index=first_row, record_count=count, **unset
        )
        if pushed:
            self._wake_writer()
        return pushed

    # From the writer -----------------------------------------------------------------------------

    def results(self, count_max: int) -> Generator[Appended, None, None]:
        """What has come back, in order. A result counts as seen when the next one is asked for."""
        first, last = self._done.poll()
        self._looked = last
        for position in range(first, min(last, first + count_max)):
            entry = self._send.entries[position & self._send.mask]
            if int(entry["kind"]) == lib.AP_SEND:
                result = self._result(position, entry)
                yield result
                origin = result.origin
                self._page.appended_origin[origin.source] = origin.position + 1
            self._done.release(position + 1)

    def _result(self, position: int, entry: Any) -> Appended:
        done = self._done.entries[position & self._done.mask]
        origin = Origin.of(int(entry["origin"]))
        code = int(done["code"])
        asked = int(entry["code"])
        quiet = bool(int(entry["flags"]) & lib.AP_ONEWAY)
        frame = None if asked == 0 or quiet else self._answer(position, entry, done)
        connection = connection_of(int(entry["frontend"]), int(entry["connection"]))
        return Appended(origin, SUCCESS if code in _STORED else code, connection, frame)

    def _answer(self, position: int, entry: Any, done: Any) -> Frame:
        serialization = ROCKETMQ if int(entry["flags"]) & lib.AP_BINARY else JSON
        asked = Frame(int(entry["code"]), int(entry["opaque"]), serialization=serialization)
        code = int(done["code"])
        stored = code == SUCCESS or code in _STORED
        if asked.code == _SEND_BACK:
            remark = None if stored else name_of(code)
            return answer(asked, Response(SUCCESS if stored else SYSTEM_ERROR, remark))
        fields: dict[str, object] = {"MSG_REGION": REGION, "TRACE_ON": True}
        if not stored:
            remark = _UNAVAILABLE if code == SERVICE_NOT_AVAILABLE else name_of(code)
            return answer(asked, Response(code, remark, fields))
        records = self._send.data(position, int(entry["record_size"]))
        return answer(asked, Response(code, None, fields | self._sent(records, entry, done)))

    def _sent(self, records: memoryview, entry: Any, done: Any) -> dict[str, object]:
        """The header of a send's answer (SendMessageResponseHeader)."""
        physical_offset = int(done["physical_offset"])
        key_at, key_size = int(entry["unique_key_at"]), int(entry["unique_key_size"])
        key = bytes(records[key_at : key_at + key_size]).decode("utf-8", "replace")
        ids = [encode_message_id(self._store_host, physical_offset + at) for at in _begins(records)]
        return {
            "msgId": ",".join(ids),
            "queueId": int(entry["queue_id"]),
            "queueOffset": int(done["queue_offset"]),
            "transactionId": key or None,
        }


def _begins(records: memoryview) -> Iterator[int]:
    """Where each record begins."""
    at = 0
    while at < len(records):
        yield at
        at += int.from_bytes(records[at : at + 4], "big")


def _flags(append: Append, asker: Asker | None) -> int:
    flags = lib.AP_BATCH if len(append.records) > 1 else 0
    if asker is not None:
        flags |= lib.AP_ONEWAY if asker.frame.flag & ONEWAY else 0
        flags |= lib.AP_BINARY if asker.frame.serialization == ROCKETMQ else 0
    return int(flags)


def _unique_key(append: Append) -> tuple[int, int]:
    """Where the key stands in the record: properties come last, so its last place is the right."""
    key = append.unique_key.encode("utf-8", "replace")
    at = append.records[0].rfind(b"UNIQ_KEY\x01" + key + b"\x02") if key else -1
    return (at + len(b"UNIQ_KEY\x01"), len(key)) if at >= 0 else (0, 0)


def _index(append: Append, size: int) -> bytes:
    """What the ConsumeQueue rows of a batch need, from the next multiple of 8 on."""
    if len(append.records) == 1:
        return b""
    rows = zip(append.records, append.tags_codes, strict=True)
    index = b"".join(_INDEX.pack(len(record), 0, tags) for record, tags in rows)
    return bytes(-size % 8) + index
