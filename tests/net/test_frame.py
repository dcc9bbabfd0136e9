"""Frames: real ones, every tolerance of Apache's reader, and everything it closes for."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.net import frame as frames
from appliance.net.frame import JSON, ROCKETMQ, Frame, FrameError

GOLDEN = Path(__file__).parent.parent / "golden" / "namesrv"

i32 = st.integers(-(1 << 31), (1 << 31) - 1)
i16 = st.integers(-(1 << 15), (1 << 15) - 1)
text = st.text(st.characters(exclude_categories=["Cs"]))
filled = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def json_frame(header: str | bytes, body: bytes = b"") -> bytes:
    data = header.encode() if isinstance(header, str) else header
    return struct.pack(">I", len(data)) + data + body


def binary_frame(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", ROCKETMQ << 24 | len(header)) + header + body


def binary_header(remark: bytes = b"", fields: bytes = b"", **sizes: int) -> bytes:
    fixed = struct.pack(">hBhii", 105, 9, 317, 7, 2)
    remark_size = sizes.get("remark_size", len(remark))
    fields_size = sizes.get("fields_size", len(fields))
    return fixed + struct.pack(">i", remark_size) + remark + struct.pack(">i", fields_size) + fields


def pair(key: bytes, value: bytes) -> bytes:
    return struct.pack(">h", len(key)) + key + struct.pack(">i", len(value)) + value


def whole(frame: Frame) -> Frame:
    """Through the wire and back."""
    data = frames.encode(frame)
    (one,), used = frames.split(data)
    assert used == len(data)
    return frames.decode(one)


def golden(name: str) -> Iterator[dict[str, Any]]:
    """Every recorded frame: its bytes in hex, and what the recorder saw in it."""
    loaded = json.loads((GOLDEN / f"{name}.json").read_text())
    steps = loaded.get("script") or [s for v in loaded.values() for s in v["frames"]]
    for step in steps:
        yield from (step[side] for side in ("request", "response") if side in step)


RECORDINGS = ("frames_default", "frames_zone_unit", "frames_acting_master", "broker_frames")


@pytest.mark.parametrize("name", RECORDINGS)
def test_reads_and_rewrites_real_frames(name: str) -> None:
    count = 0
    for recorded in golden(name):
        (data,), _ = frames.split(bytes.fromhex(recorded["hex"]))
        frame, header = frames.decode(data), recorded["header"]
        seen = (frame.code, frame.opaque, frame.flag, frame.version)
        assert seen == tuple(header[key] for key in ("code", "opaque", "flag", "version"))
        assert frames.LANGUAGES[frame.language] == header["language"]
        assert frame.remark == header.get("remark")
        assert frame.fields == (header.get("extFields") or {})
        if "body_text" in recorded:
            assert frame.body.decode() == recorded["body_text"]
        assert whole(frame) == frame
        count += 1
    assert count


def test_writes_what_java_writes() -> None:
    frame = Frame(
        105,
        opaque=3,
        language=frames.JAVA,
        remark="a\tb/é",
        fields={"topic": "T\x01"},
    )
    header = (
        '{"code":105,"extFields":{"topic":"T\\u0001"},"flag":0,"language":"JAVA","opaque":3,'
        '"remark":"a\\tb/é","serializeTypeCurrentRPC":"JSON","version":479}'
    ).encode()
    assert frames.encode(frame) == struct.pack(">II", 4 + len(header), len(header)) + header


def test_our_frames_say_who_we_are() -> None:
    frame = Frame(10)
    assert (frame.language, frame.version) == (frames.LANGUAGE_BYTES["PYTHON"], 479)
    assert not (frame.response or frame.oneway)
    assert Frame(0, flag=frames.RESPONSE).response
    assert Frame(0, flag=frames.ONEWAY).oneway


# Splitting --------------------------------------------------------------------------------------


def test_splits_what_is_complete() -> None:
    one = frames.encode(Frame(1, body=b"x"))
    complete, used = frames.split(one + one + one[:-1])
    assert [bytes(c) for c in complete] == [one[4:], one[4:]]
    assert used == 2 * len(one)


@pytest.mark.parametrize("size", range(4))
def test_waits_for_the_length(size: int) -> None:
    assert frames.split(b"\0" * size) == ([], 0)


@pytest.mark.parametrize(
    "total", [0, 3, frames.FRAME_SIZE_MAX - 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
)
def test_refuses_an_impossible_length(total: int) -> None:
    with pytest.raises(FrameError):
        frames.split(struct.pack(">I", total))


def test_the_longest_frame_is_apaches() -> None:
    """16 MiB with the length word: one byte more and the peer closes."""
    spare = frames.FRAME_SIZE_MAX - len(frames.encode(Frame(1)))
    data = frames.encode(Frame(1, body=b"x" * spare))
    assert len(data) == frames.FRAME_SIZE_MAX
    assert frames.split(data)[1] == len(data)
    with pytest.raises(FrameError):
        frames.encode(Frame(1, body=b"x" * (spare + 1)))


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 40))
def test_any_cut_gives_the_same_frames(bodies: list[bytes], cut: int) -> None:
    data = b"".join(frames.encode(Frame(1, body=body)) for body in bodies)
    seen, unread = [], b""
    for start in range(0, len(data), cut):
        unread += data[start : start + cut]
        complete, used = frames.split(unread)
        seen += [frames.decode(one).body for one in complete]
        unread = unread[used:]
    assert (seen, unread) == (bodies, b"")


# Tolerance (remoting.md sections 1.1, 1.2) ------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('{"code":1}', {"code": 1, "opaque": 0, "flag": 0, "version": 0, "language": 0}),
        ("{'code':1,'remark':'x'}", {"code": 1, "remark": "x"}),
        ("{code:1,flag:2}", {"code": 1, "flag": 2}),
        ('{"code":"310","opaque":"-9","version":"317"}', {"code": 310, "opaque": -9}),
        ('{"opaque":-2147483648,"code":0}', {"opaque": -2147483648}),
        ('{"code":1,"flag":null,"remark":null}', {"flag": 0, "remark": None}),
        ('{"code":1,"remark":""}', {"remark": ""}),
        ('{"code":1,"remark":12}', {"remark": "12"}),
        ('{"code":1,"unknown":[{}],"body":"AAAA"}', {"code": 1, "body": b"payload"}),
        ('{"code":1,"language":"GO"}', {"language": 9}),
        ('{"code":1,"language":"go"}', {"language": 9}),
        ('{"code":1,"language":13}', {"language": 13}),
        ('{"code":1,"language":"COBOL"}', {"language": frames.OTHER}),
        ('{"code":1,"language":null}', {"language": frames.OTHER}),
        ('{"code":1,"extFields":null}', {"fields": {}}),
        ('{"code":1,"extFields":{}}', {"fields": {}}),
        (
            '{"code":1,"extFields":{"i":5,"d":1.50,"e":1e3,"t":true,"f":false,"n":null,"s":""}}',
            {"fields": {"i": "5", "d": "1.50", "e": "1e3", "t": "true", "f": "false", "s": ""}},
        ),
        ('{"code":1,"extFields":{"o":{"a":[1]}}}', {"fields": {"o": '{"a":[1]}'}}),
        ("{'code':1,'extFields':{a:1.50,7:'x'}}", {"fields": {"a": "1.50", "7": "x"}}),
        ('{"code":1,"extFields":{"p":"\\u0001\\ud800"}}', {"fields": {"p": "\x01?"}}),
    ],
)
def test_reads_headers_as_java_does(header: str, expected: dict[str, object]) -> None:
    frame = frames.decode(json_frame(header, b"payload"))
    assert {name: getattr(frame, name) for name in expected} == expected
    assert frame.serialization == JSON


def test_broken_utf8_in_a_header_is_replaced() -> None:
    assert frames.decode(json_frame(b'{"code":1,"remark":"\xff"}')).remark == "\ufffd"


def test_reads_a_binary_header() -> None:
    fields = pair(b"topic", "T\u00e9".encode()) + pair(b"empty", b"") + pair(b"", b"lost")
    frame = frames.decode(binary_frame(binary_header(b"why", fields), b"body"))
    assert frame == Frame(
        105,
        opaque=7,
        flag=2,
        language=9,
        version=317,
        remark="why",
        fields={"topic": "T\u00e9"},
        body=b"body",
        serialization=ROCKETMQ,
    )


@pytest.mark.parametrize("fields_size", [0, -1])
def test_a_binary_header_without_fields_or_remark(fields_size: int) -> None:
    header = binary_header(fields_size=fields_size)
    assert len(header) == 21
    frame = frames.decode(binary_frame(header))
    assert (frame.remark, frame.fields, frame.body) == (None, {}, b"")


def test_an_unknown_language_byte_is_other() -> None:
    header = bytearray(binary_header())
    header[2] = 200
    assert frames.decode(binary_frame(bytes(header))).language == frames.OTHER


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        *("", "x", "[]", "1", '"text"', "null", '{"code":1', "{}}", "{" * 5000),
        '{"code":1,"opaque":2147483648}',
        '{"code":1,"opaque":-2147483649}',
        '{"code":1,"opaque":1e99}',
        '{"code":99999999999}',
        '{"code":"ten"}',
        '{"code":1.5}',
        '{"code":[1]}',
        '{"code":1,"language":14}',
        '{"code":1,"language":-1}',
        '{"code":1,"extFields":[]}',
        '{"code":1,"extFields":"x"}',
        '{"code":1,"extFields":{"deep":' + "[" * 900 + "]" * 900 + "}}",
    ],
)
def test_refuses_a_json_header(header: str) -> None:
    with pytest.raises(FrameError):
        frames.decode(json_frame(header))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        struct.pack(">I", 1),  # a header longer than the frame
        struct.pack(">I", 0xFFFFFF) + b"{}",
        struct.pack(">I", 2 << 24 | 2) + b"{}",  # no such serialization
        struct.pack(">I", 0xFF << 24 | 2) + b"{}",
    ],
)
def test_refuses_a_frame(data: bytes) -> None:
    with pytest.raises(FrameError):
        frames.decode(data)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        binary_header()[:20],
        binary_header(remark_size=-1),
        binary_header(remark_size=0x7FFFFFFF),
        binary_header(fields_size=1),
        binary_header(fields_size=0x7FFFFFFF),
        binary_header(fields=b"\0"),
        binary_header(fields=b"\0\x05abc"),
        binary_header(fields=struct.pack(">h", -1) + b"abcdef"),
        binary_header(fields=struct.pack(">h", 1) + b"a" + struct.pack(">i", 2) + b"b"),
        binary_header(fields=struct.pack(">h", 1) + b"a" + struct.pack(">i", -2)),
        binary_header(fields=struct.pack(">h", 1) + b"a"),
    ],
)
def test_refuses_a_binary_header(header: bytes) -> None:
    """Its lengths may not even run into the body."""
    with pytest.raises(FrameError):
        frames.decode(binary_frame(header, b"\0" * 64))


@pytest.mark.parametrize(
    "frame",
    [
        Frame(200_050, serialization=ROCKETMQ),  # a pop code does not fit 16 bits
        Frame(1, opaque=1 << 31, serialization=ROCKETMQ),
        Frame(1, fields={"k" * 40_000: "v"}, serialization=ROCKETMQ),
        Frame(1, language=200),
    ],
)
def test_refuses_to_write_what_nobody_reads(frame: Frame) -> None:
    with pytest.raises(FrameError):
        frames.encode(frame)


# Properties -------------------------------------------------------------------------------------


@given(
    st.builds(
        Frame,
        code=i32,
        opaque=i32,
        flag=i32,
        language=st.integers(0, 13),
        version=i32,
        remark=st.none() | text,
        fields=st.dictionaries(text, text),
        body=st.binary(),
    )
)
def test_json_frames_survive_the_wire(frame: Frame) -> None:
    assert whole(frame) == frame


@given(
    st.builds(
        Frame,
        code=i16,
        opaque=i32,
        flag=i32,
        language=st.integers(0, 13),
        version=i16,
        remark=st.none() | filled,
        fields=st.dictionaries(filled, filled),
        body=st.binary(),
        serialization=st.just(ROCKETMQ),
    )
)
def test_binary_frames_survive_the_wire(frame: Frame) -> None:
    assert whole(frame) == frame


@given(st.binary(max_size=200), st.sampled_from([JSON, ROCKETMQ]), st.integers(0, 200))
def test_any_bytes_are_a_frame_or_refused(data: bytes, serialization: int, size: int) -> None:
    try:
        frames.decode(struct.pack(">I", serialization << 24 | size) + data)
    except FrameError:
        pass


@given(st.data())
def test_a_damaged_frame_is_a_frame_or_refused(data: st.DataObject) -> None:
    frame = Frame(10, fields={"topic": "T", "queueId": "3"}, remark="r", body=b"body")
    frame.serialization = data.draw(st.sampled_from([JSON, ROCKETMQ]))
    damaged = bytearray(frames.encode(frame)[4:])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames.encode(frames.decode(bytes(damaged)))
    except FrameError:
        pass
