"""Broken frames for the C scanner and the socket engine, always the same; Python is the judge.

Runs in: a developer's terminal, as `python -m tools.fuzz_frames [count [seed]]`; tests use less.
Owns: the mutations, and `differences`: where C says something else than Python's twin of it.
Fails: exit code 1 with the frame in hex; a crash of C is a crash of this.
"""

import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from appliance.clock import Now
from appliance.commitlog import record
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import Frame, FrameError
from appliance.net.poll import SocketLimits, Sockets
from appliance.ring import tables
from appliance.ring.region import PrivateSegments
from clib import ffi, lib

NOW = Now(1, 1)
COUNT = int(os.environ.get("FUZZ_COUNT", 2_000_000))
TOPICS = ("T", "TopicTest", "世界", "x" * 127, "y" * 128, "%RETRY%" + "z" * 248)
GROUPS = ("G", "please_rename_unique_group_name", "群")
ODD_FRAME = "the C scanner called it fit for the fast path, Python closes the connection"


class Scanner:
    """ap_header_scan with two tables: one frame at a time."""

    def __init__(self, *, text_size: int = 1 << 16) -> None:
        segments = PrivateSegments()
        self.topics = tables.TopicTable(tables.create_named(segments, "t", "ap_topic", 16))
        self.groups = tables.GroupTable(tables.create_named(segments, "g", "ap_group", 16))
        for name in TOPICS:
            self.topics.publish(
                name, queue_base=0, read_queues=4, write_queues=4, perm=6, flags=3, system_flag=0
            )
        for name in GROUPS:
            self.groups.publish(name, flags=1)
        self.request = ffi.new("ap_request *")
        self._blank = bytes(ffi.sizeof("ap_request"))
        self._text = ffi.new("uint8_t[]", text_size)
        self._text_at = ffi.new("uint8_t **")

    def scan(self, data: bytes) -> int:
        """Scans what stands behind a length word into `request`; what C returned."""
        # A buffer of its own size: the sanitizer sees a step over either end.
        self._frame = ffi.new("uint8_t[]", len(data) or 1)
        ffi.memmove(self._frame, data, len(data))
        ffi.memmove(self.request, self._blank, len(self._blank))
        self.request.frame = int(ffi.cast("uint64_t", self._frame))
        self.request.frame_size = len(data)
        self._text_at[0] = self._text
        end = self._text + len(self._text)
        topics, groups = self.topics.table, self.groups.table
        return int(lib.ap_header_scan(self.request, topics, groups, self._text_at, end))

    def text(self) -> bytes:
        """The properties or the subscription that were found."""
        return self._bytes(self.request.text, self.request.text_size)

    def body(self) -> bytes:
        """The body that was found."""
        return self._bytes(self.request.body, self.request.body_size)

    @staticmethod
    def _bytes(address: int, size: int) -> bytes:
        return bytes(ffi.buffer(ffi.cast("char *", address), size)) if size else b""


# The judge ------------------------------------------------------------------------------------


def differences(scanner: Scanner, data: bytes) -> list[str]:
    """Where the two readers disagree about a frame; C may always leave one to Python."""
    refused = scanner.scan(data)
    try:
        frame = frames.decode(data)
    except FrameError:
        frame = None
    found = scanner.request
    if refused:
        return [] if frame is None else [f"C refuses with {refused} what Python reads"]
    if found.kind == lib.AP_REQUEST_OTHER and found.odd:
        left_alone = (found.code, found.opaque, found.flag) == (0, 0, frames.ONEWAY)
        return [] if left_alone else ["a header that is not understood gives no numbers"]
    if frame is None:
        # The binary header of a code that is not hot is not read to its end.
        skipped = found.binary and found.kind in (lib.AP_REQUEST_OTHER, lib.AP_REQUEST_RESPONSE)
        return [] if skipped or found.odd else [ODD_FRAME]
    return list(_wrong(scanner, frame))


def _wrong(scanner: Scanner, frame: Frame) -> Iterator[str]:
    found = scanner.request
    yield from _unequal(found, frame, "code opaque flag version")
    if scanner.body() != frame.body:
        yield "body"
    if found.kind == lib.AP_REQUEST_RESPONSE or frame.response:
        if (found.kind == lib.AP_REQUEST_RESPONSE) != frame.response:
            yield "kind"
    elif found.kind == lib.AP_REQUEST_SEND and not found.odd:
        yield from _wrong_send(scanner, requests.request(frame, now_ms=0).args, frame.body)
    elif found.kind == lib.AP_REQUEST_PULL and not found.odd:
        yield from _wrong_pull(scanner, requests.request(frame, now_ms=0).args)


def _unequal(found: Any, expected: Any, names: str) -> Iterator[str]:
    for pair in names.split():
        ours, _, wire = pair.partition("=")
        if getattr(found, ours) != getattr(expected, wire or ours):
            yield f"{ours}: {getattr(found, ours)} is not {getattr(expected, wire or ours)!r}"


def _wrong_send(scanner: Scanner, asked: Any, body: bytes) -> Iterator[str]:
    found = scanner.request
    yield from _unequal(
        found, asked, "queue_id=queueId system_flag=sysFlag born_timestamp=bornTimestamp"
    )
    if found.topic_row != scanner.topics.find(asked.topic or ""):
        yield "topic"
    if (found.user_flag, found.reconsume_times) != (asked.flag, asked.reconsumeTimes or 0):
        yield "flag or reconsumeTimes"
    properties = (asked.properties or "").encode()
    if scanner.text() != properties:
        yield "properties"
    if bool(asked.batch) != bool(found.record_count):
        yield "batch"
    if asked.batch:
        yield from _wrong_batch(found, body)
    else:
        yield from _wrong_single(found, properties)


def _wrong_single(found: Any, properties: bytes) -> Iterator[str]:
    decoded = record.decode_properties(properties)
    key = properties[found.unique_key_at : found.unique_key_at + found.unique_key_size]
    if key.decode() != decoded.get("UNIQ_KEY"):
        yield "UNIQ_KEY"
    if found.tags_code != record.tags_code(decoded.get("TAGS")):
        yield "tags_code"
    if found.properties_max != len(properties):
        yield "properties_max"


def _wrong_batch(found: Any, body: bytes) -> Iterator[str]:
    items = record.decode_batch(body)
    if found.record_count != len(items):
        yield "record_count"
    if found.properties_max != max(len(item.properties) for item in items):
        yield "properties_max"


def _wrong_pull(scanner: Scanner, asked: Any) -> Iterator[str]:
    found = scanner.request
    yield from _unequal(found, asked, "queue_id=queueId queue_offset=queueOffset")
    yield from _unequal(found, asked, "max_count=maxMsgNums system_flag=sysFlag")
    yield from _unequal(found, asked, "commit_offset=commitOffset suspend_ms=suspendTimeoutMillis")
    yield from _unequal(found, asked, "subscription_version=subVersion")
    if found.topic_row != scanner.topics.find(asked.topic or ""):
        yield "topic"
    if found.group_row != scanner.groups.find(asked.consumerGroup or ""):
        yield "group"
    if scanner.text() != (asked.subscription or "").encode():
        yield "subscription"
    if (asked.expressionType or "TAG") != "TAG":
        yield "expressionType"


# The mutations --------------------------------------------------------------------------------

PROPERTIES = (
    "UNIQ_KEY\x01AC11000100002A9F00000000000000FF\x02TAGS\x01标签\x02KEYS\x01a b\x02WAIT\x01false"
)
SEND_V2 = {
    "a": "PG",
    "b": "TopicTest",
    "c": "TBW102",
    "d": "4",
    "e": "2",
    "f": "0",
    "g": "1700000000000",
    "h": "7",
    "i": PROPERTIES,
    "j": "0",
    "k": "false",
    "m": "false",
}
SEND = {
    "producerGroup": "PG",
    "topic": "T",
    "queueId": "1",
    "sysFlag": "0",
    "flag": "0",
    "bornTimestamp": "1700000000000",
    "properties": PROPERTIES,
    "reconsumeTimes": "0",
}
PULL = {
    "consumerGroup": "G",
    "topic": "世界",
    "queueId": "0",
    "queueOffset": "12345678901",
    "maxMsgNums": "32",
    "sysFlag": "6",
    "commitOffset": "0",
    "subVersion": "1700000000000",
    "suspendTimeoutMillis": "15000",
    "subscription": "a || b",
    "expressionType": "TAG",
}
WORDS = (
    *(b"0", b"-1", b"007", b"-0", b"1.5", b"1e3", b"2147483648", b"-2147483649", b"9" * 19),
    *(b"null", b"true", b"false", b'""', b'"', b"\\", b"\\u", b"\\u0001", b"\\uD83D\\uDE00"),
    *(b"\\ud800", b"\\q", b"{", b"}", b"[", b"]", b":", b",", b" ", b"\n", b"\0", b"\x01"),
    *(b"\x02", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x7f\xff\xff\xff"),
    *(b'"code":11', b'"opaque":9', b'"extFields":{}', b'"language":99', b'"e":"3"', b"UNIQ_KEY"),
    *(b',"code":11', b',"extFields":null', b',"e":"3"', b',"opaque":1', b',"c\\u006fde":11'),
    *(b'"m":true', b"DELAY\x013\x02", b"TAGS\x01\x02", b"\xff\xff\xff\xff", b"'", b"TAG"),
)


def seeds() -> list[bytes]:
    """Good frames, without their length word: every hot code, both headers, and a few others."""
    item = record.encode_properties({"TAGS": "b", "UNIQ_KEY": "k2"})
    body = b"".join(batch_item(b"body" * n, item) for n in (1, 2, 3))
    sends = [(310, SEND_V2, b"hello"), (10, SEND, b"x" * 40), (320, {**SEND_V2, "m": "true"}, body)]
    pulls = [(11, PULL, b""), (361, {**PULL, "requestSource": "-1"}, b"")]
    others = [(34, {}, b'{"clientID":"c"}'), (14, {"consumerGroup": "G", "topic": "T"}, b"")]
    made = []
    for code, fields, content in [*sends, *pulls, *others]:
        for kind in (frames.JSON, frames.ROCKETMQ):
            for flag in (0, frames.ONEWAY, frames.RESPONSE):
                frame = Frame(code, 77, flag, fields=fields, body=content, serialization=kind)
                made.append(frames.encode(frame)[4:])
    return made


def batch_item(body: bytes, properties: bytes = b"", flag: int = 0) -> bytes:
    """One message of a batch as clients write it (store sheet, 2.6)."""
    size = 22 + len(body) + len(properties)
    head = b"".join(n.to_bytes(4) for n in (size, 0, 0, flag, len(body)))
    return head + body + len(properties).to_bytes(2) + properties


def _flip(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _delete(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 1, 2, 5, 30))]


def _insert(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(WORDS)


def _overwrite(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    word, at = rng.choice(WORDS), rng.randrange(len(data))
    data[at : at + len(word)] = word


def _repeat(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    data[last:last] = data[first:last]


def _splice(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    other = rng.choice(others)
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def _cut(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _letter(rng: random.Random, data: bytearray, others: list[bytes]) -> None:
    """Another letter or digit: the frame stays well-formed, its meaning changes."""
    at = rng.randrange(len(data))
    if bytes(data[at : at + 1]).isalnum():
        data[at] = rng.choice(b"0123456789abcdefghijklmTGB")


MUTATIONS: tuple[Callable[[random.Random, bytearray, list[bytes]], None], ...] = (
    *(_flip, _letter, _letter, _letter, _delete, _insert, _insert, _overwrite, _overwrite),
    *(_repeat, _splice, _cut),
)


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    """A good frame with up to four faults in its header or body, its header length mostly right."""
    frame = rng.choice(corpus)
    size = int.from_bytes(frame[1:4])
    header, body = bytearray(frame[4 : 4 + size]), bytearray(frame[4 + size :])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        part = body if body and rng.random() < 0.2 else header
        if part:
            rng.choice(MUTATIONS)(rng, part, corpus)
    if rng.random() < 0.05:
        size = rng.choice((0, 1, len(header) + len(body), len(header) + len(body) + 1, 0xFFFFFF))
    else:
        size = len(header)
    kind = frame[:1] if rng.random() < 0.97 else bytes([rng.randrange(256)])
    return kind + (size & 0xFFFFFF).to_bytes(3) + header + body


def fuzz(count: int, seed: int = 0, *, corpus: list[bytes] | None = None) -> int:
    """Tries `count` frames; how many of them C took for the fast path. Raises AssertionError."""
    rng, scanner, taken = random.Random(seed), Scanner(), 0
    corpus = corpus or seeds()
    for number in range(count):
        data = mutated(rng, corpus)
        wrong = differences(scanner, data)
        assert not wrong, f"seed {seed}, frame {number}: {'; '.join(wrong)}\n{data.hex()}"
        taken += scanner.request.kind in (lib.AP_REQUEST_SEND, lib.AP_REQUEST_PULL) and (
            not scanner.request.odd
        )
    return taken


# Streams --------------------------------------------------------------------------------------

FRAME_MAX = 1 << 16
LIMITS = SocketLimits(connections_max=4, frame_max=FRAME_MAX, backlog_max=1 << 20)


def expected(stream: bytes) -> tuple[list[bytes], bool]:
    """The frames of a stream up to the first that cannot be one, and whether there is one."""
    at, found = 0, list[bytes]()
    while len(stream) - at >= 4:
        size = int.from_bytes(stream[at : at + 4])
        if not 4 <= size <= FRAME_MAX - 4:
            return found, True
        if at + 4 + size > len(stream):
            break
        data = stream[at + 4 : at + 4 + size]
        if data[0] > frames.ROCKETMQ or int.from_bytes(data[1:4]) > size - 4:
            return found, True
        found.append(data)
        at += 4 + size
    return found, False


def broken_stream(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Frames one behind the other; now and then a length word says something else."""
    parts = []
    for _ in range(rng.randrange(1, 40)):
        data = mutated(rng, corpus) if rng.random() < 0.7 else rng.choice(corpus)
        if rng.random() < 0.1:
            data += bytes(rng.randrange(FRAME_MAX - len(data) - 4))
        size = len(data) if rng.random() < 0.98 else rng.choice((0, 3, 4, FRAME_MAX, 1 << 31))
        parts.append(size.to_bytes(4) + data)
    return b"".join(parts)


def fuzz_streams(count: int, seed: int = 0) -> int:
    """Sends `count` streams in pieces of any size; how many frames came. Raises AssertionError."""
    rng, corpus, total = random.Random(seed), seeds(), 0
    sockets = Sockets(LIMITS)
    for number in range(count):
        stream = broken_stream(rng, corpus)
        received, ended = _through(sockets, rng, stream)
        wanted, breaks = expected(stream)
        assert received == wanted and ended == breaks, f"seed {seed}, stream {number}"
        total += len(received)
    sockets.shut()
    return total


def _through(sockets: Sockets, rng: random.Random, stream: bytes) -> tuple[list[bytes], bool]:
    """What the engine makes of a stream: its frames, and whether it closed the connection."""
    ours, theirs = socket.socketpair()
    connection, received, at = sockets.adopt(theirs), list[bytes](), 0
    sockets.opened()
    while connection and at < len(stream):
        sent = ours.send(stream[at : at + rng.choice((1, 3, 7, 60, 900, 20_000, 150_000))])
        at += sent
        while sockets.wait(0, NOW):
            received += [data for _, data in sockets.receive()]
            if sockets.closed():
                ours.close()
                return received, True
    ours.close()
    sockets.wait(0, NOW)
    received += [data for _, data in sockets.receive()]
    assert sockets.closed() == [connection]
    return received, False


def main(arguments: list[str]) -> int:
    """Fuzz, in rounds that tell how far it is."""
    count = int(arguments[0]) if arguments else COUNT
    seed = int(arguments[1]) if len(arguments) > 1 else 0
    begin, done, part = time.monotonic(), 0, 100_000
    while done < count:
        step = min(part, count - done)
        try:
            taken = fuzz(step, seed)
        except AssertionError as error:
            print(error, file=sys.stderr)
            return 1
        done, seed = done + step, seed + 1
        seconds = time.monotonic() - begin
        print(f"{done} frames, {taken * 100 // step} % fit, {done / seconds:.0f}/s", flush=True)
    streams = max(1, count // 500)
    print(f"{streams} streams, {fuzz_streams(streams, seed)} frames came")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
