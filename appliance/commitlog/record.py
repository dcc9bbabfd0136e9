"""One message as it lies in the CommitLog: the record's field table, its build and its checks.

Runs in: every process that touches one record at a time; batches are the work of clib's record.c,
         whose twin and oracle this file is.
Owns: nothing; bytes in, bytes out.
Fails: RecordError (a ValueError) with the Status found; a field that does not fit is an assert.

A record (specification: store sheet, section 2.1; Apache: MessageExtEncoder, CommitLog.
checkMessageAndReturnSize) is a head of fixed fields, then three strings that carry their length:

    head (FIELDS below) | body | topicLength topic | propertiesLength properties

All integers are big-endian and signed. The head holds two hosts of 8 bytes (IPv4: address and
port) or 20 (IPv6); system_flag says which, so there are four heads. topicLength takes one byte in
version 1 and two in version 2, which is used for topics of more than 127 bytes.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

import numpy as np

Buffer = bytes | bytearray | memoryview


class Field(NamedTuple):
    """One field of the head; `at` is its byte offset when both hosts are IPv4."""

    name: str
    kind: str
    at: int
    meaning: str


FIELDS: Final = (
    Field("total_size", "i4", 0, "the whole record, this field included"),
    Field("magic", "i4", 4, "MAGIC_V1 or MAGIC_V2"),
    Field("body_crc", "i4", 8, "CRC-32 of the stored body, without its top bit"),
    Field("queue_id", "i4", 12, "queue of the topic"),
    Field("flag", "i4", 16, "the application's value"),
    Field("queue_offset", "i8", 20, "row in the ConsumeQueue; 0 when the type has no row"),
    Field("physical_offset", "i8", 28, "own position in the log"),
    Field("system_flag", "i4", 36, "the *_FLAG bits below"),
    Field("born_timestamp", "i8", 40, "client's clock, ms"),
    Field("born_host", "born", 48, "client's address and port"),
    Field("store_timestamp", "i8", 56, "writer's clock, ms; never decreases along the log"),
    Field("store_host", "store", 64, "broker's address and port"),
    Field("reconsume_times", "i4", 72, "how often it was sent back"),
    Field("prepared_transaction_offset", "i8", 76, "half message of a committed one, else 0"),
    Field("body_length", "i4", 84, "stored as sent, maybe compressed"),
)

MAGIC_V1: Final = -626843481  # 0xDAA320A7
MAGIC_V2: Final = -626843477  # 0xDAA320AB
MAGIC_BLANK: Final = -875286124  # 0xCBD43194
BLANK_SIZE: Final = 8  # what is kept free at the end of a file, and written there (section 2.4)

COMPRESSED_FLAG: Final = 0x01
TRANSACTION_MASK: Final = 0x0C
TRANSACTION_PREPARED: Final = 0x04
TRANSACTION_COMMIT: Final = 0x08
TRANSACTION_ROLLBACK: Final = 0x0C
BORN_HOST_V6_FLAG: Final = 0x10
STORE_HOST_V6_FLAG: Final = 0x20

IPV4_HOST_SIZE: Final = 8
IPV6_HOST_SIZE: Final = 20
PROPERTIES_SIZE_MAX: Final = 32767
TOPIC_V1_SIZE_MAX: Final = 127

_NAME_END: Final = b"\x01"
_PAIR_END: Final = b"\x02"
_PROPERTY_CRC_NAME: Final = b"__CRC32#"
PROPERTY_CRC_SIZE: Final = 20
_MARK: Final = struct.Struct(">ii")
_BATCH_ITEM: Final = struct.Struct(">iiiii")
_SHORT: Final = struct.Struct(">h")


def _host_size(is_v6: bool) -> int:
    return IPV6_HOST_SIZE if is_v6 else IPV4_HOST_SIZE


def _head_dtype(born_v6: bool, store_v6: bool) -> np.dtype[np.void]:
    """The head as a numpy dtype, from FIELDS."""
    hosts = {"born": f"V{_host_size(born_v6)}", "store": f"V{_host_size(store_v6)}"}
    return np.dtype([(field.name, hosts.get(field.kind, ">" + field.kind)) for field in FIELDS])


def _head_struct(born_v6: bool, store_v6: bool) -> struct.Struct:
    """The head as a struct, from FIELDS: a single head is read faster so."""
    codes = {"i4": "i", "i8": "q"}
    codes |= {"born": f"{_host_size(born_v6)}s", "store": f"{_host_size(store_v6)}s"}
    return struct.Struct(">" + "".join(codes[field.kind] for field in FIELDS))


# Indexed by the two IPv6 bits of system_flag, shifted down: see head_index().
HEADS: Final = tuple(_head_dtype(bool(bits & 1), bool(bits & 2)) for bits in range(4))
_HEADS: Final = tuple(_head_struct(bool(bits & 1), bool(bits & 2)) for bits in range(4))
_NAMES: Final = tuple(field.name for field in FIELDS)
_SYSTEM_FLAG_AT: Final = next(field.at for field in FIELDS if field.name == "system_flag")
HEAD_SIZE: Final = HEADS[0].itemsize
RECORD_SIZE_MIN: Final = HEAD_SIZE + 1 + 2  # no body, no topic, no properties, version 1, IPv4

assert all(HEADS[0].fields[field.name][1] == field.at for field in FIELDS)  # type: ignore[index]
assert [head.itemsize for head in HEADS] == [head.size for head in _HEADS] == [88, 100, 100, 112]
assert RECORD_SIZE_MIN == 91


class Status(IntEnum):
    """What lies at a position of the log; the numbers are ap_walk's."""

    MESSAGE = 0
    BLANK = 1
    END = 2
    BAD_MAGIC = 3
    BAD_LENGTH = 4
    BAD_CRC = 5


class RecordError(ValueError):
    """The bytes at a position are not the message that was expected there."""

    def __init__(self, status: Status, at: int) -> None:
        super().__init__(f"no message at byte {at}: {status.name.lower().replace('_', ' ')}")
        self.status = status
        self.at = at


@dataclass(frozen=True, slots=True)
class Record:
    """One message record. Hosts are as stored (see encode_host), properties are as stored too.

    version 0 lets build() choose by the length of the topic; parse() gives 1 or 2.
    """

    topic: str
    body: bytes
    properties: bytes = b""
    queue_id: int = 0
    flag: int = 0
    queue_offset: int = 0
    physical_offset: int = 0
    system_flag: int = 0
    born_timestamp: int = 0
    born_host: bytes = bytes(IPV4_HOST_SIZE)
    store_timestamp: int = 0
    store_host: bytes = bytes(IPV4_HOST_SIZE)
    reconsume_times: int = 0
    prepared_transaction_offset: int = 0
    version: int = 0

    @property
    def message_id(self) -> str:
        """The offset message id that a send answers with."""
        return encode_message_id(self.store_host, self.physical_offset)


class Extent(NamedTuple):
    """Where the parts of a checked record lie, relative to its first byte; sizes in bytes."""

    size: int
    version: int
    body_at: int
    body_size: int
    topic_at: int
    topic_size: int
    properties_at: int
    properties_size: int


def head_index(system_flag: int) -> int:
    """Which of HEADS a record with this flag has."""
    return system_flag >> 4 & 3


def build(record: Record, *, property_crc: bool = False) -> bytes:
    """One record's bytes; offsets and storeTimestamp may be stamped on later (see stamp)."""
    topic = record.topic.encode("utf-8", "surrogateescape")
    version = record.version or (1 if len(topic) <= TOPIC_V1_SIZE_MAX else 2)
    properties = _room_for_crc(record.properties) if property_crc else record.properties
    assert version == 2 or len(topic) <= TOPIC_V1_SIZE_MAX, "a long topic needs version 2"
    assert len(properties) <= PROPERTIES_SIZE_MAX, "the sender's properties were not checked"
    flags = record.system_flag & ~(BORN_HOST_V6_FLAG | STORE_HOST_V6_FLAG)
    flags |= BORN_HOST_V6_FLAG if len(record.born_host) == IPV6_HOST_SIZE else 0
    flags |= STORE_HOST_V6_FLAG if len(record.store_host) == IPV6_HOST_SIZE else 0
    topic_part = len(topic).to_bytes(version, "big") + topic
    properties_part = _SHORT.pack(len(properties)) + properties
    head = _HEADS[head_index(flags)]
    computed = {
        "total_size": head.size + len(record.body) + len(topic_part) + len(properties_part),
        "magic": MAGIC_V1 if version == 1 else MAGIC_V2,
        "body_crc": crc(record.body),
        "system_flag": flags,
        "body_length": len(record.body),
    }
    values = (computed[name] if name in computed else getattr(record, name) for name in _NAMES)
    data = bytearray(head.pack(*values) + record.body + topic_part + properties_part)
    if property_crc:
        seal(memoryview(data))
    return bytes(data)


def stamp(
    record: memoryview, *, queue_offset: int, physical_offset: int, store_timestamp: int
) -> None:
    """Write what only the appender knows into a built record, and its property CRC if it has one.

    queue_offset counts rows, physical_offset bytes, store_timestamp ms.
    """
    head = HEADS[head_index(int.from_bytes(record[_SYSTEM_FLAG_AT : _SYSTEM_FLAG_AT + 4], "big"))]
    row = np.frombuffer(record, head, 1)
    row["queue_offset"] = queue_offset
    row["physical_offset"] = physical_offset
    row["store_timestamp"] = store_timestamp
    if property_crc_of(record) is not None:
        seal(record)


def examine(buffer: Buffer, at: int = 0, *, check_crc: bool = True) -> tuple[Status, Extent | None]:
    """What lies at `at`; the buffer ends where the file ends. Blanks have no extent.

    The checks are those of Apache's CommitLog.checkMessageAndReturnSize (section 5.4), and the
    stored physical offset is left alone, as there.
    """
    view = memoryview(buffer)[at:]
    if len(view) < _MARK.size:
        return Status.END, None
    total_size, magic = _MARK.unpack_from(view)
    if total_size == 0 and magic == 0:
        return Status.END, None
    if magic == MAGIC_BLANK:
        fits = BLANK_SIZE <= total_size <= len(view)
        return (Status.BLANK if fits else Status.BAD_LENGTH), None
    if magic not in (MAGIC_V1, MAGIC_V2):
        return Status.BAD_MAGIC, None
    extent = _extent(view, total_size, version=1 if magic == MAGIC_V1 else 2)
    if extent is None:
        return Status.BAD_LENGTH, None
    body = view[extent.body_at : extent.body_at + extent.body_size]
    if check_crc and crc(body) != int.from_bytes(view[8:12], "big"):
        return Status.BAD_CRC, extent
    return Status.MESSAGE, extent


def parse(buffer: Buffer, at: int = 0, *, check_crc: bool = True) -> Record:
    """The message at `at`; RecordError when there is none."""
    status, extent = examine(buffer, at, check_crc=check_crc)
    if status is not Status.MESSAGE or extent is None:
        raise RecordError(status, at)
    view = memoryview(buffer)[at : at + extent.size]
    flags = int.from_bytes(view[_SYSTEM_FLAG_AT : _SYSTEM_FLAG_AT + 4], "big")
    values = dict(zip(_NAMES, _HEADS[head_index(flags)].unpack_from(view), strict=True))
    for computed in ("total_size", "magic", "body_crc", "body_length"):
        del values[computed]
    topic = bytes(view[extent.topic_at : extent.topic_at + extent.topic_size])
    return Record(
        topic=topic.decode("utf-8", "surrogateescape"),
        body=bytes(view[extent.body_at : extent.body_at + extent.body_size]),
        properties=bytes(view[extent.properties_at :]),
        version=extent.version,
        **values,
    )


def walk(
    buffer: Buffer, base_offset: int = 0, *, check_crc: bool = True
) -> Iterator[tuple[Status, int, int]]:
    """(status, physical_offset, size) of each record; the twin of ap_walk.

    Ends with the buffer, or after the first row that is no message.
    """
    at = 0
    while at < len(buffer):
        status, extent = examine(buffer, at, check_crc=check_crc)
        blank_size = _MARK.unpack_from(buffer, at)[0] if status is Status.BLANK else 0
        size = extent.size if extent else blank_size
        yield status, base_offset + at, size
        if status is not Status.MESSAGE:
            return
        at += size


def blank(size: int) -> bytes:
    """The mark that fills the last `size` bytes of a file (only its first 8 are written)."""
    assert size >= BLANK_SIZE, "every append leaves room for the blank"
    return _MARK.pack(size, MAGIC_BLANK)


def _extent(view: memoryview, total_size: int, *, version: int) -> Extent | None:
    """Where the parts lie, or None when the lengths do not add up to total_size."""
    if not RECORD_SIZE_MIN <= total_size <= len(view):
        return None
    flags = int.from_bytes(view[_SYSTEM_FLAG_AT : _SYSTEM_FLAG_AT + 4], "big")
    body_at = _HEADS[head_index(flags)].size
    if body_at > total_size:
        return None
    body_size = int.from_bytes(view[body_at - 4 : body_at], "big", signed=True)
    topic_at = body_at + body_size + version
    if body_size < 0 or topic_at > total_size:
        return None
    topic_size = int.from_bytes(view[topic_at - version : topic_at], "big", signed=True)
    properties_at = topic_at + topic_size + 2
    if topic_size < 0 or properties_at > total_size:
        return None
    properties_size = _SHORT.unpack_from(view, properties_at - 2)[0]
    if properties_size < 0 or properties_at + properties_size != total_size:
        return None
    return Extent(
        total_size,
        version,
        body_at,
        body_size,
        topic_at,
        topic_size,
        properties_at,
        properties_size,
    )


# Checksums and hashes


def crc(data: Buffer) -> int:
    """CRC-32 as Apache stores it: without the top bit (UtilAll.crc32)."""
    return zlib.crc32(data) & 0x7FFFFFFF


def java_hash(text: str) -> int:
    """Java's String.hashCode: over UTF-16 units, 32 bits, signed."""
    value = 0
    for (unit,) in struct.iter_unpack(">H", text.encode("utf-16-be", "surrogatepass")):
        value = (31 * value + unit) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def tags_code(tags: str | None) -> int:
    """The ConsumeQueue's tag column (MessageExtBrokerInner.tagsString2tagsCode)."""
    return java_hash(tags) if tags else 0


def schedule_tags_code(level: int, store_timestamp: int, levels_ms: Sequence[int]) -> int:
    """Delivery time in ms: what SCHEDULE_TOPIC_XXXX has in the tag column (section 3.1)."""
    capped = min(level, len(levels_ms))
    return store_timestamp + (levels_ms[capped - 1] if capped > 0 else 1000)


def _room_for_crc(properties: bytes) -> bytes:
    """Properties with the 20 bytes of the property CRC behind them, still without its digits."""
    gap = _PAIR_END if properties and not properties.endswith(_PAIR_END) else b""
    return properties + gap + _PROPERTY_CRC_NAME + _NAME_END + b"0" * 10 + _PAIR_END


def property_crc_of(record: Buffer) -> int | None:
    """The stored property CRC of a whole record, None when it has none (section 2.2)."""
    tail = bytes(memoryview(record)[-PROPERTY_CRC_SIZE:])
    if not tail.startswith(_PROPERTY_CRC_NAME + _NAME_END):
        return None
    digits = tail[9:19]
    return int(digits[::-1]) if digits.isdigit() else None


def seal(record: memoryview) -> None:
    """Write the property CRC of a record that has room for it: digits, least significant first."""
    value = crc(record[:-PROPERTY_CRC_SIZE])
    record[-11:-1] = f"{value:010d}"[::-1].encode()


def is_sealed(record: Buffer) -> bool:
    """Whether the property CRC is there and right."""
    return property_crc_of(record) == crc(memoryview(record)[:-PROPERTY_CRC_SIZE])


# Strings inside a record


def encode_properties(properties: Mapping[str, str]) -> bytes:
    """`name 0x01 value 0x02` for each pair (MessageDecoder.messageProperties2String)."""
    pairs = (name + "\x01" + value + "\x02" for name, value in properties.items())
    return "".join(pairs).encode("utf-8", "surrogateescape")


def decode_properties(data: Buffer) -> dict[str, str]:
    """The pairs of a property string; empty names and values are dropped, later ones win."""
    text = bytes(data).decode("utf-8", "surrogateescape")
    pairs = (item.partition("\x01") for item in text.split("\x02"))
    return {name: value for name, _, value in pairs if name and value}


def encode_host(address: str, port: int) -> bytes:
    """8 or 20 bytes: a numeric IPv4 or IPv6 address and the port."""
    return ip_address(address).packed + port.to_bytes(4, "big")


def decode_host(host: bytes) -> tuple[str, int]:
    """(numeric address, port) of a stored host; an IPv6 one stays IPv6."""
    packed, port = host[:-4], int.from_bytes(host[-4:], "big")
    return str(IPv6Address(packed) if len(packed) == 16 else ip_address(packed)), port


def encode_message_id(store_host: bytes, physical_offset: int) -> str:
    """Offset message id: 32 hex characters, 56 with an IPv6 host (section 2.1)."""
    return (store_host + physical_offset.to_bytes(8, "big")).hex().upper()


def decode_message_id(message_id: str) -> tuple[bytes, int]:
    """(store host, physical offset); ValueError when it is no offset message id."""
    data = bytes.fromhex(message_id)
    if len(data) not in (IPV4_HOST_SIZE + 8, IPV6_HOST_SIZE + 8):
        raise ValueError(f"an offset message id has 32 or 56 hex characters, not {len(message_id)}")
    return data[:-8], int.from_bytes(data[-8:], "big", signed=True)


class BatchItem(NamedTuple):
    """One message of a batch as the client sends it."""

    flag: int
    body: bytes
    properties: bytes


def decode_batch(body: Buffer) -> list[BatchItem]:
    """The messages of an old-style batch body (section 2.6, rule 3); RecordError when it is cut.

    Wire form of each: totalSize, magic, bodyCRC, flag, bodyLength + body, propertiesLength +
    properties. Magic and CRC are the client's and mean nothing, as in Apache.
    """
    view, at, items = memoryview(body), 0, []
    while at < len(view):
        item, size = _decode_batch_item(view[at:], at)
        items.append(item)
        at += size
    return items


def _decode_batch_item(view: memoryview, at: int) -> tuple[BatchItem, int]:
    bad = RecordError(Status.BAD_LENGTH, at)
    if len(view) < _BATCH_ITEM.size:
        raise bad
    total_size, _magic, _crc, flag, body_size = _BATCH_ITEM.unpack_from(view)
    properties_at = _BATCH_ITEM.size + body_size + 2
    if body_size < 0 or properties_at > min(total_size, len(view)):
        raise bad
    properties_size = _SHORT.unpack_from(view, properties_at - 2)[0]
    if properties_size < 0 or properties_at + properties_size != total_size:
        raise bad
    if total_size > len(view):
        raise bad
    body = bytes(view[_BATCH_ITEM.size : properties_at - 2])
    return BatchItem(flag, body, bytes(view[properties_at:total_size])), total_size
