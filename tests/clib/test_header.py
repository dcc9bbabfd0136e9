"""header.c reads what net/frame.py and net/requests.py read, or leaves the frame to them."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.commitlog.record import encode_properties
from appliance.net import frame as frames
from appliance.net.frame import JSON, ONEWAY, RESPONSE, ROCKETMQ, Frame
from clib import lib
from tools.fuzz_frames import (
    PROPERTIES,
    PULL,
    SEND_V2,
    Scanner,
    batch_item,
    differences,
    fuzz,
    fuzz_streams,
    seeds,
)

GOLDEN = Path(__file__).parent.parent / "golden"
FUZZ_COUNT = int(os.environ.get("FUZZ_COUNT", 50_000))
LONG_FUZZ_COUNT = 2_000_000

FIT, ODD, OTHER = "fit", "odd", "other"
KINDS = {lib.AP_REQUEST_SEND: FIT, lib.AP_REQUEST_PULL: FIT, lib.AP_REQUEST_OTHER: OTHER}


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


def wire(frame: Frame) -> bytes:
    return frames.encode(frame)[4:]


def json_frame(header: str | bytes, body: bytes = b"body") -> bytes:
    data = header.encode() if isinstance(header, str) else header
    return struct.pack(">I", len(data)) + data + body


def send(fields: dict[str, Any] | None = None, **members: Any) -> str:
    """A JSON header in Java's order of keys."""
    values: dict[str, Any] = {"code": 310, "extFields": fields or SEND_V2, "flag": 0}
    values |= {"language": "JAVA", "opaque": 5, "version": 479} | members
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def said(scanner: Scanner, data: bytes) -> str:
    """What C said, once it is sure that Python says the same."""
    assert differences(scanner, data) == []
    request = scanner.request
    if request.kind == lib.AP_REQUEST_OTHER and request.odd:
        return ODD
    return ODD if request.odd else KINDS[request.kind]


# Frames as clients write them -------------------------------------------------------------------


def test_every_good_frame_is_fit(scanner: Scanner) -> None:
    for data in seeds():
        assert differences(scanner, data) == []
        request = scanner.request
        hot = request.code in (10, 11, 310, 320, 361) and not request.flag & RESPONSE
        assert not request.odd
        assert (request.kind in (lib.AP_REQUEST_SEND, lib.AP_REQUEST_PULL)) == hot


name = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
i32 = st.integers(-(1 << 31), (1 << 31) - 1)
i64 = st.integers(-(10**18) + 1, 10**18 - 1)
property_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x01\x02"), max_size=12
)


@st.composite
def sends(draw: st.DrawFn) -> dict[str, str]:
    properties = draw(st.dictionaries(property_text, property_text, max_size=5))
    properties = {k: v for k, v in properties.items() if k and not k.startswith("__")}
    text = encode_properties({**properties, "UNIQ_KEY": draw(property_text) or "k"}).decode()
    topic = draw(st.sampled_from(["T", "TopicTest", "unknown"]) | name)
    return SEND_V2 | {
        "b": topic,
        "e": str(draw(i32)),
        "f": str(draw(i32)),
        "g": str(draw(i64)),
        "h": str(draw(i32)),
        "i": text if draw(st.booleans()) else text[:-1],
        "j": str(draw(i32)),
        "n": draw(name),
    }


@st.composite
def pulls(draw: st.DrawFn) -> dict[str, str]:
    return PULL | {
        "consumerGroup": draw(name),
        "topic": draw(name),
        "queueId": str(draw(i32)),
        "queueOffset": str(draw(i64)),
        "maxMsgNums": str(draw(i32)),
        "sysFlag": str(draw(i32)),
        "commitOffset": str(draw(i64)),
        "subscription": draw(name),
        "suspendTimeoutMillis": str(draw(i64)),
        "subVersion": str(draw(i64)),
    }


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.sampled_from([310, 320]), sends())
    | st.tuples(st.sampled_from([11, 361]), pulls()),
    i32,
    st.sampled_from([JSON, ROCKETMQ]),
    st.sampled_from([0, ONEWAY]),
    st.binary(max_size=20),
    st.randoms(),
)
def test_any_values_in_any_order(
    asked: tuple[int, dict[str, str]],
    opaque: int,
    kind: int,
    flag: int,
    body: bytes,
    rng: Any,
) -> None:
    code, fields = asked
    pairs = list(fields.items())
    rng.shuffle(pairs)
    frame = Frame(code, opaque, flag, fields=dict(pairs), body=body, serialization=kind)
    assert differences(Scanner(), wire(frame)) == []


def test_any_order_of_members(scanner: Scanner) -> None:
    members = json.loads(send())
    keys = list(members)
    for turn in range(len(keys)):
        turned = {key: members[key] for key in keys[turn:] + keys[:turn]}
        for header in (
            json.dumps(turned),
            json.dumps(turned, indent=3),
            json.dumps(turned) + " \r\n",
        ):
            assert said(scanner, json_frame(header)) == FIT


def test_a_batch_is_what_the_field_says_not_the_code(scanner: Scanner) -> None:
    body = batch_item(b"one") + batch_item(b"two", b"TAGS\x01t\x02")
    yes, no = {**SEND_V2, "m": "true"}, {**SEND_V2, "m": "false"}
    assert said(scanner, json_frame(send(yes, code=310), body)) == FIT
    assert scanner.request.record_count == 2
    assert said(scanner, json_frame(send(yes, code=320), body)) == FIT
    assert said(scanner, json_frame(send(no, code=320), body)) == ODD
    assert said(scanner, json_frame(send(no, code=310), body)) == FIT
    assert scanner.request.record_count == 0


def test_topics_too_long_for_a_record_of_version_1(scanner: Scanner) -> None:
    assert said(scanner, json_frame(send({**SEND_V2, "b": "x" * 127}))) == FIT
    assert said(scanner, json_frame(send({**SEND_V2, "b": "y" * 128}))) == ODD
    long = "%RETRY%" + "z" * 248
    assert said(scanner, wire(Frame(11, 1, fields={**PULL, "topic": long}))) == FIT
    assert scanner.request.topic_row == 5


def test_a_negative_queue_is_a_number_like_others(scanner: Scanner) -> None:
    assert said(scanner, json_frame(send({**SEND_V2, "e": "-1"}))) == FIT
    assert scanner.request.queue_id == -1


def test_answers_are_told_from_requests(scanner: Scanner) -> None:
    for flag in (RESPONSE, RESPONSE | ONEWAY, RESPONSE | 4):
        assert differences(scanner, json_frame(send(flag=flag))) == []
        assert scanner.request.kind == lib.AP_REQUEST_RESPONSE


def test_a_text_area_that_is_full_makes_odd(scanner: Scanner) -> None:
    small = Scanner(text_size=100)
    assert said(small, json_frame(send({**SEND_V2, "i": "UNIQ_KEY\x01k\x02"}))) == FIT
    assert differences(small, json_frame(send({**SEND_V2, "i": PROPERTIES * 5}))) == []
    assert small.request.odd & lib.AP_ODD_TEXT and small.request.text_size == 0


# Oddities ---------------------------------------------------------------------------------------


def with_field(field: str) -> str:
    """A send whose extFields have one member more, as it is written here."""
    return send().replace('"extFields":{', '"extFields":{' + field + ",")


def without(key: str) -> str:
    return send({k: v for k, v in SEND_V2.items() if k != key})


def valued(key: str, value: str) -> str:
    """A send in which one field has this JSON text for its value."""
    old = json.dumps({key: SEND_V2[key]}, ensure_ascii=False, separators=(",", ":"))[1:-1]
    assert old in send()
    return send().replace(old, f'"{key}":{value}')


FIELD_CASES = [
    *((without(key), ODD) for key in "befgh"),
    *((without(key), FIT) for key in "acdjklm"),
    (without("i"), ODD),  # no UNIQ_KEY
    (valued("e", "2"), FIT),
    (valued("e", "-0"), FIT),
    (valued("e", '"007"'), FIT),
    (valued("e", "007"), FIT),
    (valued("e", '"+2"'), ODD),
    (valued("e", '""'), ODD),
    (valued("e", "null"), ODD),
    (valued("e", "true"), ODD),
    (valued("e", "2.0"), ODD),
    (valued("e", '"2147483647"'), FIT),
    (valued("e", '"2147483648"'), ODD),
    (valued("g", "9" * 18), FIT),
    (valued("g", "9" * 19), ODD),
    (valued("b", "5"), ODD),  # text of a number is for Python to make
    (valued("b", "007"), ODD),
    (valued("b", "null"), ODD),
    (valued("b", '"Topic\\u0054est"'), ODD),
    (valued("i", "null"), ODD),
    (valued("i", "12"), ODD),
    (valued("i", r'"UNIQ_KEY\u0001a\"b\\c\/\b\f\n\r\t\u00e9\u4e16\u0002"'), FIT),
    (valued("i", r'"UNIQ_KEY\u0001\uD83D\uDE00\u0002"'), FIT),
    (valued("i", r'"UNIQ_KEY\u0001\ud83d\u0002"'), ODD),
    (valued("i", r'"UNIQ_KEY\u0001\ude00\u0002"'), ODD),
    (valued("i", r'"UNIQ_KEY\u0001\ud83dx\u0002"'), ODD),
    (valued("i", r'"UNIQ_KEY\u0001\q\u0002"'), ODD),
    (valued("i", r'"UNIQ_KEY\u0001\u12\u0002"'), ODD),
    (valued("i", '"UNIQ_KEY\x01raw control bytes\x02"'), FIT),
    (valued("m", "false"), FIT),
    (valued("m", '"FALSE"'), ODD),
    (valued("m", "null"), ODD),
    (with_field('"e":"2"'), ODD),  # twice
    (with_field(r'"\u0065":"3"'), ODD),
    (with_field('"lo":"true"'), ODD),
    (with_field('"lo":"false"'), FIT),
    (with_field('"bname":"b","ns":""'), FIT),
    (with_field('"x":1.5'), ODD),
    (with_field('"x":{}'), ODD),
    (with_field('"x":[1]'), ODD),
    (with_field('x:"y"'), ODD),
    (with_field("'x':'y'"), ODD),
    (with_field(""), ODD),
]

MEMBER_CASES = [
    (send(remark="r", serializeTypeCurrentRPC="JSON", body=None), FIT),
    (send(code="310", opaque="-7", flag="0"), FIT),
    (send(opaque=-(1 << 31)), FIT),
    (send(opaque=1 << 31), ODD),
    (send(opaque=None), ODD),
    (send(flag=None), ODD),
    (send(version=None), ODD),
    (send(language="KLINGON"), FIT),
    (send(language=3), ODD),
    (send(language=99), ODD),
    (send(extra=[1, 2]), ODD),
    (send(extra={"a": 1}), ODD),
    (send(extra=1e300), ODD),
    (send(code=34), OTHER),
    (send(code=1 << 20), OTHER),
    (send()[:-1] + ',"code":11}', ODD),
    (send()[:-1] + ',"opaque":6}', ODD),
    (send()[:-1] + ',"extFields":{}}', ODD),
    (send()[:-1] + ',"extFields":null}', ODD),
    (send()[:-1] + r',"c\u006fde":11}', ODD),
    (send()[:-1] + ",}", ODD),
    (send() + "x", ODD),
    (send() + "{}", ODD),
    (send()[:-1], ODD),
    ('{"code":310,"opaque":1}', ODD),
    ('{"code":310,"opaque":1,"extFields":null}', ODD),
    ('{"code":310,"opaque":1,"extFields":"x"}', ODD),
    ('{"code":34}', ODD),
    ('{"opaque":1}', ODD),
    ("{}", ODD),
    ("[]", ODD),
    ("", ODD),
    ("{" * 300, ODD),
    ('{"code":34,"opaque":1,"extFields":{"a":"' + "b" * 70_000 + '"}}', OTHER),
]


@pytest.mark.parametrize(("header", "expected"), FIELD_CASES)
def test_fields_of_every_form(scanner: Scanner, header: str, expected: str) -> None:
    assert said(scanner, json_frame(header)) == expected


@pytest.mark.parametrize(("header", "expected"), MEMBER_CASES)
def test_headers_of_every_form(scanner: Scanner, header: str, expected: str) -> None:
    assert said(scanner, json_frame(header)) == expected


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]
)
def test_what_is_not_utf8_is_left_to_python(scanner: Scanner, bad: bytes) -> None:
    properties = b"UNIQ_KEY\x01k\x02a\x01" + bad + b"\x02"
    good = send({**SEND_V2, "i": "MARK"}).encode()
    assert said(scanner, json_frame(good.replace(b"MARK", properties))) == ODD
    assert said(scanner, json_frame(good.replace(b"MARK", properties + b"\\n"))) == ODD
    binary = wire(Frame(310, 1, fields={**SEND_V2, "i": "M" * len(properties)}, serialization=1))
    assert said(scanner, binary.replace(b"M" * len(properties), properties)) == ODD


@pytest.mark.parametrize("name", [b"DELAY", b"TRAN_MSG", b"TIMER_DELAY_MS", b"__RMQ.TRANSIENT.x"])
def test_properties_that_ask_for_more(scanner: Scanner, name: bytes) -> None:
    more = PROPERTIES + "\x02" + name.decode() + "\x011"
    assert said(scanner, json_frame(send({**SEND_V2, "i": more}))) == ODD
    assert scanner.request.odd == lib.AP_ODD_PROPERTY


def test_pulls_that_are_not_plain(scanner: Scanner) -> None:
    def pull(**fields: str) -> str:
        return said(scanner, wire(Frame(11, 1, fields={**PULL, **fields})))

    assert pull() == pull(requestSource="-1", lo="false") == pull(consumerGroup="new") == FIT
    assert pull(expressionType="SQL92") == ODD
    assert pull(requestSource="0") == pull(lo="true") == pull(queueOffset="x") == ODD
    for key in PULL:
        fields = {k: v for k, v in PULL.items() if k != key}
        optional = key in ("subscription", "expressionType")
        assert said(scanner, wire(Frame(11, 1, fields=fields))) == (FIT if optional else ODD)


def binary(code: int, *pairs: bytes, remark: bytes = b"", size: int | None = None) -> bytes:
    fields = b"".join(pairs)
    head = struct.pack(">hBhiiI", code, 0, 479, 9, 0, len(remark)) + remark
    header = head + struct.pack(">I", len(fields) if size is None else size) + fields
    return struct.pack(">I", 1 << 24 | len(header)) + header + b"body"


def pair(key: bytes, value: bytes) -> bytes:
    return struct.pack(">H", len(key)) + key + struct.pack(">I", len(value)) + value


def test_binary_headers_of_every_form(scanner: Scanner) -> None:
    pairs = [pair(k.encode(), v.encode()) for k, v in SEND_V2.items()]
    every = b"".join(pairs)
    cases = [
        (binary(310, *pairs), FIT),
        (binary(310, *pairs, remark=b"hello"), FIT),
        (binary(310, *pairs, pair(b"", b"x"), pair(b"x", b"")), FIT),
        (binary(310, *pairs, pair(b"e", b"2")), ODD),
        (binary(310, *pairs, pair(b"k" * 32767, b"")), FIT),
        (binary(310, *pairs, pair(b"k" * 32768, b"")), ODD),  # a negative length for Java
        (binary(310, *pairs[1:], size=1 << 31), ODD),
        (binary(310, *pairs, size=len(every) + 1), ODD),
        (binary(310, *pairs, size=len(every) - 1), ODD),
        (binary(310), ODD),
        (binary(34), OTHER),
        (struct.pack(">I", 1 << 24 | 20) + bytes(20), ODD),
    ]
    for data, expected in cases:
        assert said(scanner, data) == expected


def test_frames_that_end_the_connection(scanner: Scanner) -> None:
    for data in (b"", b"\0\0\0", b"\0\0\0\1", b"\2\0\0\0", b"\xff\0\0\2{}"):
        assert differences(scanner, data) == []
        assert scanner.scan(data) == lib.AP_EINVAL


# Real frames, and broken ones -------------------------------------------------------------------


def golden() -> Iterator[bytes]:
    for path in sorted((GOLDEN / "namesrv").glob("*frames*.json")):
        loaded = json.loads(path.read_text())
        for step in loaded.get("script") or [s for v in loaded.values() for s in v["frames"]]:
            for side in ("request", "response"):
                if side in step:
                    yield bytes.fromhex(step[side]["hex"])[4:]
    cases = json.loads((GOLDEN / "client" / "broker_responses.json").read_text())["cases"]
    for case in cases:
        asked = case["request"]
        fields = {key: str(value) for key, value in (asked["extFields"] or {}).items()}
        for kind in (JSON, ROCKETMQ):
            if kind == JSON or asked["code"] < 1 << 15:
                body = (asked["body"] or "").encode()
                yield wire(Frame(asked["code"], 1, fields=fields, body=body, serialization=kind))


def test_real_frames(scanner: Scanner) -> None:
    count = 0
    for data in golden():
        assert differences(scanner, data) == []
        assert scanner.request.kind != lib.AP_REQUEST_OTHER or not scanner.request.odd
        count += 1
    assert count > 100


def test_frames_cut_anywhere(scanner: Scanner) -> None:
    for data in seeds():
        for size in range(len(data)):
            assert differences(scanner, data[:size]) == []
            header = max(0, min(size - 4, int.from_bytes(data[1:4])))
            shorter = data[:1] + header.to_bytes(3) + data[4:size]
            assert differences(scanner, shorter) == []


def test_mutated_frames() -> None:
    assert fuzz(FUZZ_COUNT) > FUZZ_COUNT // 50, "some are fit after all"
    assert fuzz_streams(FUZZ_COUNT // 500) > 0


def test_mutations_of_real_frames() -> None:
    fuzz(FUZZ_COUNT // 5, seed=1, corpus=list(golden()))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_million_mutated_frames() -> None:
    part = LONG_FUZZ_COUNT // 20
    for seed in range(20):
        fuzz(part, seed=1000 + seed)
    fuzz_streams(LONG_FUZZ_COUNT // 500, seed=1000)
