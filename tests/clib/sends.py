"""Sends on their way through the C files, one stage at a time; shared by the tests here."""

from typing import Any

from appliance.commitlog.record import Record, build, encode_host, parse, stamp
from appliance.net import frame as frames
from appliance.net.frame import Frame
from appliance.net.send import build_facts
from appliance.ring import ring as rings
from appliance.ring.region import PrivateSegments
from appliance.ring.ring import Ring
from clib import ffi, lib
from tests.clib.engine import PEER, Engine
from tools.fuzz_frames import SEND_V2, Scanner

CLUSTER, HOST, PORT = "DefaultCluster", "10.1.2.3", 10911
SUFFIX = f"MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02CLUSTER\x01{CLUSTER}\x02".encode()
MESSAGE_MAX = 1 << 20
KEY = "UNIQ_KEY\x01k\x02"


class Sends:
    """A connection table, topics, a send ring with its done ring, and requests for them."""

    def __init__(self, *, host: str = HOST, entries: int = 16, arena: int = 1 << 20) -> None:
        self.engine = Engine()
        self.scanner = Scanner(text_size=1 << 20)
        self.build = build_facts(CLUSTER, host, PORT, MESSAGE_MAX)
        self.store_host = encode_host(host, PORT)
        segments = PrivateSegments()
        send = rings.create(segments, "send", "ap_send", entries, arena)
        done = rings.create(segments, "done", "ap_done", entries, 0)
        self.send, self.done = Ring(send, "ap_send"), Ring(done, "ap_done")
        self.send.freed_by(self.done)
        self._keep: list[Any] = []

    def request(self, frame: Frame, connection: int = 0) -> Any:
        """A frame as ap_request, as the scanner fills it; it stays valid."""
        content = frames.encode(frame)[4:]
        data = ffi.new("uint8_t[]", len(content))
        ffi.memmove(data, content, len(content))
        made, text = ffi.new("ap_request *"), ffi.new("uint8_t[]", len(data) + 1)
        made.connection, made.frame, made.frame_size = connection, _address(data), len(data)
        at = ffi.new("uint8_t **", text)
        topics, groups = self.scanner.topics.table, self.scanner.groups.table
        assert lib.ap_header_scan(made, topics, groups, at, text + len(text)) == 0
        self._keep += [data, made, text]
        return made

    def message(self, connection: int, body: bytes = b"body", **fields: Any) -> Any:
        """A send; keywords are V2 fields, `code`, `flag` and `opaque` are the frame's."""
        members = {key: fields.pop(key) for key in ("opaque", "flag") if key in fields}
        code = fields.pop("code", 310)
        values = {**SEND_V2, "i": KEY, **{key: str(value) for key, value in fields.items()}}
        return self.request(Frame(code, fields=values, body=body, **members), connection)

    def put(self, *requests: Any, rows: list[int] | None = None) -> int:
        """ap_send_build of these requests, and what was built is published; its result."""
        array = ffi.new("ap_request[]", len(requests))
        for place, request in zip(array, requests, strict=True):
            ffi.memmove(ffi.addressof(place), request, ffi.sizeof("ap_request"))
        ring, head = self.send, self.send.head
        entry_limit, arena_limit = ring.limits()
        built = lib.ap_send_build(
            self.engine.net,
            array,
            ffi.new("uint32_t[]", list(range(len(requests)))),
            len(requests),
            self.build,
            ring.header,
            head,
            entry_limit,
            ring.arena_head,
            arena_limit,
            ffi.new("uint32_t[]", rows or [0] * len(requests)),
        )
        if built >= 0:
            ring.publish(head + built)
        return int(built)

    def entry(self, position: int) -> Any:
        """A send entry, as a row."""
        return self.send.entries[position & self.send.mask]

    def records(self, position: int) -> bytes:
        """The records of an entry, as they lie in the arena."""
        return bytes(self.send.data(position, int(self.entry(position)["record_size"])))

    def store(
        self, position: int, *, physical: int, offset: int, timestamp: int = 5, code: int = 0
    ) -> None:
        """What the writer finds out about an entry."""
        done = self.done.entries[position & self.done.mask]
        done["sequence"], done["code"], done["queue_row"] = position, code, 0
        done["physical_offset"], done["queue_offset"] = physical, offset
        done["store_timestamp"] = timestamp

    def expected(self, **changes: Any) -> bytes:
        """The record that Python builds of a message with these fields of Record."""
        values: dict[str, Any] = {
            "topic": "TopicTest",
            "body": b"body",
            "properties": KEY.encode() + SUFFIX,
            "queue_id": 2,
            "flag": 7,
            "born_timestamp": 1700000000000,
            "born_host": PEER,
            "store_host": self.store_host,
        }
        return build(Record(**{**values, **changes}))


def _address(memory: Any) -> int:
    return int(ffi.cast("uint64_t", memory))


def stamped(record: bytes, *, physical: int, offset: int, timestamp: int = 5) -> bytes:
    """A record as the log holds it."""
    data = bytearray(record)
    view = memoryview(data)
    stamp(view, queue_offset=offset, physical_offset=physical, store_timestamp=timestamp)
    assert parse(data).physical_offset == physical
    return bytes(data)
