"""measure.c: what properties and batches ask for, as record.py reads them."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.commitlog.record import (
    RecordError,
    decode_batch,
    decode_properties,
    java_hash,
    tags_code,
)
from clib import ffi, lib
from tools.fuzz_frames import batch_item

TAGS = Path(__file__).parent.parent / "golden" / "client" / "tags.json"
SPECIAL = {
    *("DELAY", "TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS", "TIMER_DEL_UNIQKEY"),
    *("TRAN_MSG", "POP_CK", "INNER_NUM", "INNER_MULTI_DISPATCH", "__CRC32#"),
}
TRANSIENT = "__RMQ.TRANSIENT."


def memory(data: bytes) -> Any:
    """The bytes in a piece of memory of their own size."""
    made = ffi.new("uint8_t[]", len(data) or 1)
    ffi.memmove(made, data, len(data))
    return made


def scan(text: bytes) -> Any:
    found = ffi.new("ap_properties *")
    lib.ap_properties_scan(memory(text), len(text), found)
    return found


def test_tag_codes_of_real_clients() -> None:
    for case in json.loads(TAGS.read_text())["hashes"]:
        data = case["tag"].encode()
        assert lib.ap_tags_code(memory(data), len(data)) == case["hash"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_tag_codes_of_any_text(text: str) -> None:
    data = text.encode()
    assert lib.ap_tags_code(memory(data), len(data)) == java_hash(text)


@given(st.binary(max_size=40))
def test_tag_codes_of_anything_end(data: bytes) -> None:
    lib.ap_tags_code(memory(data), len(data))


names = st.sampled_from([*SPECIAL, "TAGS", "UNIQ_KEY", "WAIT", "a", "DELAYS", "", TRANSIENT + "x"])
values = st.sampled_from(["", "x", "false", "3", "-1", "12345678901", "1x", "标", "a\x01b"])
separators = st.sampled_from(["\x02", "\x02", "\x02\x02", "\x01", ""])


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(names, st.sampled_from(["\x01", "\x01", ""]), values, separators), max_size=6
    )
)
def test_properties_of_any_form(parts: list[tuple[str, str, str, str]]) -> None:
    text = "".join(piece for part in parts for piece in part).encode()
    found, expected = scan(text), decode_properties(text)
    special = any(name in SPECIAL or name.startswith(TRANSIENT) for name in expected)
    assert found.odd == (lib.AP_ODD_PROPERTY if special else 0)
    assert found.tagged == ("TAGS" in expected)
    assert found.tags_code == tags_code(expected.get("TAGS"))
    key = text[found.unique_key_at : found.unique_key_at + found.unique_key_size]
    assert key.decode() == expected.get("UNIQ_KEY", "")
    assert found.wait_false == (expected.get("WAIT") == "false")
    assert bool(found.unended) == (text[-1:] not in (b"\x02", b""))
    level = expected.get("DELAY", "0")
    asked = int(level) if level.isdecimal() else 0
    assert found.delay_level == asked or min(asked, found.delay_level) > 99_999_999


@pytest.mark.parametrize(
    "text", [b"", b"\x01", b"\x02", b"\x01\x02", b"TAGS", b"TAGS\x01", b"\x01x"]
)
def test_properties_that_are_none(text: bytes) -> None:
    found = scan(text)
    assert not (found.odd or found.tagged or found.unique_key_size)


def measure(body: bytes, properties: bytes = b"", *, batch: bool) -> Any:
    request, kept = ffi.new("ap_request *"), (memory(body), memory(properties))
    request.body, request.text = (int(ffi.cast("uint64_t", it)) for it in kept)
    request.body_size, request.text_size = len(body), len(properties)
    request.record_count = batch
    lib.ap_request_measure(request)
    return request


item = st.builds(batch_item, st.binary(max_size=20), st.sampled_from([b"", b"TAGS\x01a\x02"]))
change = st.tuples(st.integers(0, 200), st.integers(0, 255))


@settings(max_examples=400)
@given(st.lists(item, max_size=5), st.lists(change, max_size=3), st.integers(0, 9))
def test_batches_with_any_damage(
    items: list[bytes], changes: list[tuple[int, int]], cut: int
) -> None:
    body = bytearray(b"".join(items))
    for at, value in changes:
        if at < len(body):
            body[at] = value
    del body[max(0, len(body) - cut) :]
    request = measure(bytes(body), batch=True)
    try:
        expected = decode_batch(bytes(body))
    except RecordError:
        expected = []
    if expected and all(it.body for it in expected):
        assert not request.odd & lib.AP_ODD_BATCH
        assert request.record_count == len(expected)
        assert request.properties_max == max(len(it.properties) for it in expected)
    else:
        assert request.odd & lib.AP_ODD_BATCH


@pytest.mark.parametrize("size", [0, 1, 21, 1 << 31, 0xFFFFFFFF])
@pytest.mark.parametrize("body_size", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lengths_that_lie(size: int, body_size: int) -> None:
    good = batch_item(b"good")
    head = b"".join(n.to_bytes(4) for n in (size, 0, 0, 0, body_size))
    assert measure(good + head + bytes(30), batch=True).odd & lib.AP_ODD_BATCH


def test_an_odd_property_of_any_item_counts() -> None:
    body = batch_item(b"a") + batch_item(b"b", b"DELAY\x012\x02")
    assert measure(body, batch=True).odd == lib.AP_ODD_PROPERTY


@pytest.mark.parametrize(("size", "odd"), [(0, True), (1, False), (255, False), (256, True)])
def test_a_single_message_needs_a_key_that_fits_an_answer(size: int, odd: bool) -> None:
    properties = b"UNIQ_KEY\x01" + b"k" * size + b"\x02"
    request = measure(b"body", properties, batch=False)
    assert bool(request.odd & lib.AP_ODD_KEY) == odd
    assert request.properties_max == len(properties)
