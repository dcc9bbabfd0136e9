"""Bytes to frames and back, with JSON and ROCKETMQ (binary) headers, one frame at a time.

Runs in: every process that speaks RocketMQ, and the client. No I/O.
Owns: the frame layout, the language bytes, the flag bits.
Fails: `FrameError` on anything for which Apache's decoder closes the connection.

The frame (remoting.md section 1), big-endian throughout:

    0   u32  total: the length of everything after this field
    4   u8   header serialization: 0 JSON, 1 ROCKETMQ
    5   u24  header length H
    8   H    header
    8+H      body, total - 4 - H bytes

The ROCKETMQ header (section 1.2), at least 21 bytes:

    0   i16  code             9   i32  flag
    2   u8   language        13   i32  remark length, then the remark
    3   i16  version              i32  length of the fields, then repeated:
    5   i32  opaque               i16  key length, key, i32 value length, value
"""

import struct
from dataclasses import dataclass, field
from json import JSONEncoder
from typing import Any

from appliance.net import json_text

JSON, ROCKETMQ = 0, 1
RESPONSE, ONEWAY = 1, 2

FRAME_SIZE_MAX = 16_777_216
"""Apache's limit on a whole frame, its first four bytes included."""

LANGUAGES = (
    *("JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY"),
    *("OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"),
)
"""Language names in the order of their byte (remoting.md section 1.4)."""

LANGUAGE_BYTES = {name: byte for byte, name in enumerate(LANGUAGES)}
JAVA, PYTHON, OTHER = (LANGUAGE_BYTES[name] for name in ("JAVA", "PYTHON", "OTHER"))

VERSION = 479
"""MQVersion ordinal V5_3_3. Clients switch on it, so every frame of ours carries it."""

_WORDS = struct.Struct(">II")
_WORD = struct.Struct(">I")
_BINARY = struct.Struct(">hBhii")
_I32 = struct.Struct(">i")
_I16 = struct.Struct(">h")

_I32_MIN, _I32_MAX = -(1 << 31), (1 << 31) - 1

_encode_json = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class FrameError(ValueError):
    """The bytes are not a frame; the connection they came on cannot be used any more."""


@dataclass(slots=True)
class Frame:
    """One request or response. An absent body is `b""`, absent fields are `{}`."""

    code: int
    opaque: int = 0
    flag: int = 0
    language: int = PYTHON
    version: int = VERSION
    remark: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    serialization: int = JSON

    @property
    def response(self) -> bool:
        """Whether this answers a request."""
        return bool(self.flag & RESPONSE)

    @property
    def oneway(self) -> bool:
        """Whether the sender reads no answer."""
        return bool(self.flag & ONEWAY)


def split(
    buffer: bytes | bytearray | memoryview, limit: int = FRAME_SIZE_MAX
) -> tuple[list[memoryview], int]:
    """Complete frames at the start of `buffer`, without their length words, and the bytes used.

    Raises:
        FrameError: a length is impossible, or the whole frame is longer than `limit` bytes.
    """
    view = memoryview(buffer)
    frames = []
    start = 0
    while len(view) - start >= 4:
        (total,) = _WORD.unpack_from(view, start)
        if not 4 <= total <= limit - 4:
            raise FrameError(f"frame length {total} is not within 4..{limit - 4}")
        end = start + 4 + total
        if end > len(view):
            break
        frames.append(view[start + 4 : end])
        start = end
    return frames, start


def decode(data: bytes | memoryview) -> Frame:
    """The frame in `data`, which is everything after the length word.

    Raises:
        FrameError: as Apache's `RemotingCommand.decode`, which closes the connection.
    """
    if len(data) < 4:
        raise FrameError(f"a frame of {len(data)} bytes has no header length")
    (word,) = _WORD.unpack_from(data)
    serialization, header_size = word >> 24, word & 0xFFFFFF
    if header_size > len(data) - 4:
        raise FrameError(f"header length {header_size} in a frame of {len(data)} bytes")
    header = bytes(data[4 : 4 + header_size])
    if serialization == JSON:
        frame = _decode_json_header(header)
    elif serialization == ROCKETMQ:
        frame = _decode_binary_header(header)
    else:
        raise FrameError(f"unknown header serialization {serialization}")
    frame.body = bytes(data[4 + header_size :])
    return frame


def encode(frame: Frame) -> bytes:
    """The whole frame, length word included.

    Raises:
        FrameError: a number does not fit the binary header, or the frame is over Apache's limit.
    """
    binary = frame.serialization == ROCKETMQ
    header = _encode_binary_header(frame) if binary else _encode_json_header(frame)
    total = 4 + len(header) + len(frame.body)
    if total > FRAME_SIZE_MAX - 4:
        raise FrameError(f"a frame of {total} bytes is over the limit of {FRAME_SIZE_MAX}")
    word = frame.serialization << 24 | len(header)
    return b"".join((_WORDS.pack(total, word), header, frame.body))


# JSON header ------------------------------------------------------------------------------------


def _decode_json_header(header: bytes) -> Frame:
    values = _header_values(header)
    remark = values.get("remark")
    return Frame(
        code=_number(values, "code"),
        opaque=_number(values, "opaque"),
        flag=_number(values, "flag"),
        language=_language(values.get("language", "JAVA")),
        version=_number(values, "version"),
        remark=remark if remark is None or type(remark) is str else _text(remark),
        fields=_fields(values.get("extFields")),
    )


def _header_values(header: bytes) -> dict[str, Any]:
    """The header's object, read as tolerantly as fastjson (remoting.md section 1.1).

    Fractions stay text: a signature covers the digits that the client wrote (section 2, ACL).
    """
    try:
        values = json_text.parse(header.decode("utf-8", "replace"), parse_float=str)
    except json_text.JsonError as error:
        raise FrameError(f"the header is not JSON: {error}") from error
    if type(values) is not dict:
        raise FrameError("the JSON header is not an object")
    return values


def _number(values: dict[str, Any], name: str) -> int:
    """A number or quoted number; absent or null is 0 as for Java's primitive fields."""
    value = values.get(name, 0)
    if type(value) is not int:
        value = _quoted_number(value, name)
    if not _I32_MIN <= value <= _I32_MAX:
        raise FrameError(f"{name} {value} does not fit 32 bits")
    return int(value)


def _quoted_number(value: object, name: str) -> int:
    if value is None or value == "":
        return 0
    try:
        return int(value) if isinstance(value, bool) else int(str(value))
    except ValueError as error:
        raise FrameError(f"{name} is not a number") from error


def _language(value: object) -> int:
    """An unknown name is OTHER (Apache: null); an ordinal outside the enum closes (section 1.1)."""
    if isinstance(value, str):
        return LANGUAGE_BYTES.get(value.upper(), OTHER)
    if type(value) is int:
        if 0 <= value < len(LANGUAGES):
            return value
        raise FrameError(f"language {value} is no ordinal of the enum")
    return OTHER


def _fields(values: object) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise FrameError("extFields is not an object")
    for key, value in values.items():
        if type(value) is not str or type(key) is not str:
            break
    else:
        return values
    return {_text(key): _text(value) for key, value in values.items() if value is not None}


def _text(value: object) -> str:
    """A JSON value as the text Java makes of it."""
    if isinstance(value, str):
        return value
    try:
        return json_text.dump_text(value)
    except json_text.JsonError as error:
        raise FrameError(f"a header value is not text: {error}") from error


def _encode_json_header(frame: Frame) -> bytes:
    """Strict JSON with Java's keys in Java's (alphabetical) order."""
    if not 0 <= frame.language < len(LANGUAGES):
        raise FrameError(f"language {frame.language} has no name")
    values: dict[str, object] = {
        "code": frame.code,
        "extFields": frame.fields,
        "flag": frame.flag,
        "language": LANGUAGES[frame.language],
        "opaque": frame.opaque,
    }
    if frame.remark is not None:
        values["remark"] = frame.remark
    values["serializeTypeCurrentRPC"] = "JSON"
    values["version"] = frame.version
    # A lone surrogate, which JSON can smuggle in, becomes "?" as in Java's getBytes.
    return _encode_json(values).encode("utf-8", "replace")


# ROCKETMQ header --------------------------------------------------------------------------------


def _decode_binary_header(header: bytes) -> Frame:
    try:
        code, language, version, opaque, flag = _BINARY.unpack_from(header)
        remark, position = _take(header, _BINARY.size, _I32)
        (fields_size,) = _I32.unpack_from(header, position)
        position += 4
        if fields_size > len(header) - position:
            raise FrameError(f"field length {fields_size} runs over the header")
        fields = _decode_binary_fields(header[: position + max(fields_size, 0)], position)
    except struct.error as error:
        raise FrameError("the binary header is cut short") from error
    return Frame(
        code=code,
        opaque=opaque,
        flag=flag,
        language=language if language < len(LANGUAGES) else OTHER,
        version=version,
        remark=remark or None,
        fields=fields,
        serialization=ROCKETMQ,
    )


def _decode_binary_fields(header: bytes, position: int) -> dict[str, str]:
    """The pairs from `position` to the end. Zero length is null, and null is not kept."""
    fields = {}
    while position < len(header):
        key, position = _take(header, position, _I16)
        value, position = _take(header, position, _I32)
        if key and value:
            fields[key] = value
    return fields


def _take(header: bytes, position: int, length: struct.Struct) -> tuple[str, int]:
    """The text whose length stands at `position`, and the position after it."""
    (size,) = length.unpack_from(header, position)
    start = position + length.size
    if not 0 <= size <= len(header) - start:
        raise FrameError(f"text length {size} runs over the header")
    return header[start : start + size].decode("utf-8", "replace"), start + size


def _encode_binary_header(frame: Frame) -> bytes:
    remark = (frame.remark or "").encode("utf-8", "replace")
    try:
        fields = b"".join(_encode_binary_field(*pair) for pair in frame.fields.items())
        fixed = _BINARY.pack(frame.code, frame.language, frame.version, frame.opaque, frame.flag)
    except struct.error as error:
        raise FrameError(f"code {frame.code} has no binary header: {error}") from error
    return b"".join((fixed, _I32.pack(len(remark)), remark, _I32.pack(len(fields)), fields))


def _encode_binary_field(key: str, value: str) -> bytes:
    name, text = key.encode("utf-8", "replace"), value.encode("utf-8", "replace")
    return b"".join((_I16.pack(len(name)), name, _I32.pack(len(text)), text))
