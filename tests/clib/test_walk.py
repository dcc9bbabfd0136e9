"""walk.c: what lies in a log, as record.py says; which records a pull gets, by Apache's rule."""

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from appliance.commitlog.consume_queue import BLANK_UNIT_SIZE, UNIT
from appliance.commitlog.record import (
    Record,
    Status,
    blank,
    build,
    decode_properties,
    encode_host,
    parse,
    tags_code,
    walk,
)
from clib import ffi, lib

BASE = 1 << 33
HOSTS = (encode_host("10.0.0.1", 1), encode_host("fe80::1", 65535))
KEYS = b"UNIQ_KEY\x01k1\x02DELAY\x013\x02TAGS\x01\xe6\xa0\x87\x02"


def walked(log: bytes, *, check_crc: bool = True, most: int = 64) -> list[Any]:
    """What ap_walk finds in memory that is as long as the log."""
    memory, out = ffi.new("uint8_t[]", len(log) or 1), ffi.new("ap_record[]", most)
    ffi.memmove(memory, log, len(log))
    count = lib.ap_walk(memory, len(log), BASE, check_crc, out, most)
    return [ffi.new("ap_record *", out[i]) for i in range(count)]


def same_as_python(log: bytes, *, check_crc: bool = True) -> None:
    found = walked(log, check_crc=check_crc)
    expected = list(walk(log, BASE, check_crc=check_crc))
    assert [(it.status, it.physical_offset) for it in found] == [row[:2] for row in expected]
    for it, (status, _, size) in zip(found, expected, strict=True):
        if status in (Status.MESSAGE, Status.BLANK, Status.BAD_CRC):
            assert it.size == size
        if status == Status.MESSAGE:
            same_record(it, log, check_crc=check_crc)


def same_record(found: Any, log: bytes, *, check_crc: bool) -> None:
    at = found.physical_offset - BASE
    record = parse(log, at, check_crc=check_crc)
    data = log[at : at + found.size]
    assert found.record_offset == record.physical_offset
    assert (found.queue_id, found.queue_offset) == (record.queue_id, record.queue_offset)
    assert (found.system_flag, found.store_timestamp) == (
        record.system_flag,
        record.store_timestamp,
    )
    topic = data[found.topic_at : found.topic_at + found.topic_size]
    assert topic == record.topic.encode("utf-8", "surrogateescape")
    assert data[found.body_at : found.body_at + found.body_size] == record.body
    begin = found.properties_at
    assert data[begin : begin + found.properties_size] == record.properties
    try:
        properties = decode_properties(record.properties.decode().encode())
    except UnicodeDecodeError:
        return  # a hash of what is no text is no promise
    assert found.tags_code == tags_code(properties.get("TAGS"))
    key = data[found.unique_key_at : found.unique_key_at + found.unique_key_size]
    assert key.decode() == properties.get("UNIQ_KEY", "")


records = st.builds(
    Record,
    topic=st.sampled_from(["T", "世界", "x" * 127, "y" * 128, "z" * 255]),
    body=st.binary(max_size=60),
    properties=st.sampled_from([b"", KEYS, b"TAGS\x01a", b"\x02\x01"]),
    queue_id=st.integers(-1, 9),
    queue_offset=st.integers(0, 1 << 62),
    physical_offset=st.integers(0, 1 << 62),
    system_flag=st.sampled_from([0, 1, 8, 0x701]),
    store_timestamp=st.integers(0, 1 << 60),
    born_host=st.sampled_from(HOSTS),
    store_host=st.sampled_from(HOSTS),
)
damages = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=6), damages, st.integers(0, 100), st.booleans(), st.booleans())
def test_any_log_with_any_damage(
    parts: list[Record],
    changes: list[tuple[float, int]],
    cut: int,
    filled: bool,
    check_crc: bool,
) -> None:
    log = bytearray(b"".join(map(build, parts)))
    log += (blank(40) + bytes(32)) if filled else bytes(60)
    for place, value in changes:
        log[int(place * (len(log) - 1))] = value
    del log[len(log) - min(cut, len(log)) :]
    same_as_python(bytes(log), check_crc=check_crc)


@settings(max_examples=200, deadline=None)
@given(records, st.integers(0, 120), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
def test_every_byte_of_the_head(record: Record, at: int, value: int) -> None:
    log = bytearray(build(record) * 2)
    log[at] = value
    same_as_python(bytes(log))
    same_as_python(bytes(log), check_crc=False)


def test_a_log_cut_anywhere() -> None:
    log = build(Record("T", b"body", KEYS)) + build(
        Record("y" * 200, b"", KEYS, born_host=HOSTS[1])
    )
    for size in range(len(log) + 1):
        same_as_python(log[:size])


@pytest.mark.parametrize("size", [0, 7, 8, 9, 90, 91, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("magic", [0, 0xCBD43194, 0xDAA320A7, 0xDAA320AB, 0xFFFFFFFF])
@pytest.mark.parametrize("left", [8, 9, 91, 200])
def test_sizes_and_magics(size: int, magic: int, left: int) -> None:
    same_as_python((size.to_bytes(4) + magic.to_bytes(4)).ljust(left, b"\0"))


def test_a_walk_stops_when_its_rows_are_full() -> None:
    log = build(Record("T", b"body")) * 5
    assert [it.status for it in walked(log, most=3)] == [0, 0, 0]
    assert walked(log, most=0) == walked(b"") == []


def test_properties_beside_the_tags() -> None:
    (it,) = walked(build(Record("T", b"", KEYS)))
    assert (it.delay_level, it.tags_code) == (3, tags_code("标"))


# Pulls ------------------------------------------------------------------------------------------

FILE_SIZE = 4096
MEMORY_BYTES, MEMORY_COUNT, DISK_BYTES, DISK_COUNT = 262144, 32, 65536, 8


@dataclass
class Rule:
    """What a pull asks and what the log has: ap_filter and ap_log in one."""

    codes: list[int] | None
    """None: every tag."""
    max_count: int = 32
    max_bytes: int = 128 << 20
    max_examined: int = 800
    memory_begin: int = 0
    log_begin: int = 0
    log_end: int = 1 << 40
    file_size: int = FILE_SIZE
    missing: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    files: int = 64
    first_offset: int = 0


Row = tuple[int, int, int]
"""(physical offset, size, tags code)"""


@dataclass
class Answer:
    """What a pull gets."""

    given: list[tuple[int, int]]
    examined: int
    removed: bool
    missing: int | None = None
    last_offset: int = 0


def by_the_rule(rows: list[Row], rule: Rule) -> Answer:
    """DefaultMessageStore.getMessage, as far as it concerns rows (store sheet, 7.1)."""
    answer, size_sum = Answer([], 0, removed=False), 0
    for offset, size, code in rows[: rule.max_examined]:
        if offset < 0 or not 91 <= size <= BLANK_UNIT_SIZE:
            break  # not written yet
        memory = offset >= rule.memory_begin
        count_max = min(rule.max_count, MEMORY_COUNT if memory else DISK_COUNT)
        bytes_max = min(rule.max_bytes, MEMORY_BYTES if memory else DISK_BYTES)
        full = len(answer.given) >= count_max or size_sum + size > bytes_max
        if answer.given and full:
            break
        if size < BLANK_UNIT_SIZE and offset + size > rule.log_end:
            break
        if rule.codes is not None and code not in rule.codes:
            answer.removed = False
        elif (
            offset < rule.log_begin
            or size == BLANK_UNIT_SIZE
            or (rule.files and offset >= rule.first_offset and not_whole(rule, offset, size))
        ):
            answer.removed = True
        else:
            number = (offset - rule.first_offset) // rule.file_size
            if number in rule.missing or not 0 <= number < rule.files:
                answer.missing = offset
                break
            answer.given.append((offset, size))
            size_sum += size
        answer.examined += 1
        answer.last_offset = offset
    return answer


def not_whole(rule: Rule, offset: int, size: int) -> bool:
    """The record crosses its file's end, or the file is no longer there."""
    number, at = divmod(offset - rule.first_offset, rule.file_size)
    return at + size > rule.file_size or (number < rule.files and number in rule.gone)


def merged(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours as one."""
    slices: list[tuple[int, int]] = []
    for address, size in pieces:
        if slices and sum(slices[-1]) == address:
            slices[-1] = (slices[-1][0], slices[-1][1] + size)
        else:
            slices.append((address, size))
    return slices


def pulled(
    rows: list[Row], rule: Rule, *, slices_max: int = 1000
) -> tuple[list[tuple[int, int]], Any]:
    """(slices, ap_found). Files lie one behind the other with a gap of a megabyte."""
    units = np.array(rows, UNIT)
    memory = ffi.new("uint8_t[]", max(units.nbytes, 1))
    ffi.memmove(memory, units.tobytes(), units.nbytes)
    addresses = [address_in(rule, n) for n in range(rule.files)]
    for numbers, mark in ((rule.missing, 0), (rule.gone, lib.AP_GONE)):
        for number in numbers & frozenset(range(rule.files)):
            addresses[number] = mark
    array = ffi.new("uint64_t[]", addresses)
    log = ffi.new("ap_log *", [rule.first_offset, rule.file_size, rule.files, array])
    asked = ffi.new("ap_filter *")
    asked.max_count, asked.max_bytes = rule.max_count, rule.max_bytes
    asked.max_examined, asked.memory_begin = rule.max_examined, rule.memory_begin
    asked.log_begin, asked.log_end = rule.log_begin, rule.log_end
    asked.every_tag, codes = rule.codes is None, rule.codes or []
    asked.code_count = len(codes)
    asked.codes[0 : len(codes)] = codes
    out, found = ffi.new("uint64_t[]", 2 * slices_max), ffi.new("ap_found *")
    count = lib.ap_pull_rows(memory, len(rows), log, asked, out, slices_max, found)
    return [(out[2 * i], out[2 * i + 1]) for i in range(count)], found


def address_in(rule: Rule, number: int) -> int:
    return (1 << 40) + number * (rule.file_size + (1 << 20))


def addressed(rule: Rule, offset: int) -> int:
    at = offset - rule.first_offset
    return address_in(rule, at // rule.file_size) + at % rule.file_size


def check(rows: list[Row], rule: Rule) -> Answer:
    """C gives what the rule gives."""
    expected = by_the_rule(rows, rule)
    slices, found = pulled(rows, rule)
    assert slices == merged([(addressed(rule, at), size) for at, size in expected.given])
    assert (found.matched, found.examined) == (len(expected.given), expected.examined)
    assert found.bytes == sum(size for _, size in expected.given)
    assert bool(found.removed) == expected.removed
    assert found.last_offset == expected.last_offset
    told = (lib.AP_EMAP, expected.missing) if expected.missing is not None else (0, 0)
    assert (found.status, found.missing) == told
    return expected


@st.composite
def queues(draw: st.DrawFn) -> list[Row]:
    rows, at = list[Row](), draw(st.integers(0, 3 * FILE_SIZE))
    for _ in range(draw(st.integers(0, 60))):
        kind = draw(st.integers(0, 30))
        if kind == 0:
            rows.append((0, BLANK_UNIT_SIZE, 0))
            continue
        if kind == 1:
            rows.append(draw(st.sampled_from([(0, 0, 0), (-5, 100, 0), (at, 90, 0), (at, -1, 0)])))
            continue
        size = draw(st.integers(91, 400))
        at += draw(st.sampled_from([0, 0, 0, 100]))
        if at % FILE_SIZE + size > FILE_SIZE and kind != 2:
            at += -at % FILE_SIZE
        rows.append((at, size, draw(st.sampled_from([0, 7, -9, 1 << 40]))))
        at += size
    return rows


@settings(max_examples=500, deadline=None)
@given(
    queues(),
    st.builds(
        Rule,
        codes=st.sampled_from([None, [], [7], [-9, 7], [0], [5]]),
        max_count=st.integers(1, 60),
        max_bytes=st.sampled_from([100, 1000, 128 << 20]),
        max_examined=st.sampled_from([0, 5, 800]),
        memory_begin=st.integers(0, 5 * FILE_SIZE),
        log_begin=st.sampled_from([0, FILE_SIZE, 2 * FILE_SIZE]),
        log_end=st.sampled_from([0, 2 * FILE_SIZE, 1 << 40]),
        missing=st.frozensets(st.integers(0, 6), max_size=2),
        gone=st.frozensets(st.integers(0, 6), max_size=2),
        files=st.sampled_from([0, 2, 64]),
        first_offset=st.sampled_from([0, FILE_SIZE]),
    ),
)
def test_pulls_by_the_rule(rows: list[Row], rule: Rule) -> None:
    check(rows, rule)


@pytest.mark.parametrize(
    ("memory", "size", "count"),
    [(True, 100, 32), (False, 100, 8), (True, 10_000, 26), (False, 10_000, 6)],
)
def test_limits_in_memory_and_on_disk(memory: bool, size: int, count: int) -> None:
    rule = Rule(None, max_count=1000, memory_begin=0 if memory else 1 << 40, file_size=1 << 20)
    rows = [(at * size, size, 0) for at in range(50)]
    assert len(check(rows, rule).given) == count


def test_the_first_record_comes_whatever_its_size() -> None:
    rows = [(0, 900_000, 1), (900_000, 100, 1)]
    rule = Rule(None, max_bytes=100, memory_begin=1 << 40, file_size=1 << 20)
    assert check(rows, rule).given == [(0, 900_000)]


def test_neighbours_are_one_slice_and_slices_are_bounded() -> None:
    rows = [(at * 100, 100, at % 2) for at in range(20)]
    rule = Rule(None, file_size=1 << 20)
    assert len(pulled(rows, rule)[0]) == 1
    odd = Rule([1], file_size=1 << 20)
    slices, found = pulled(rows, odd, slices_max=4)
    assert (len(slices), found.matched, found.examined) == (4, 4, 8)


def test_rows_that_lie_about_their_record() -> None:
    """A row may be wrong: nothing beyond the mapped file is ever sent."""
    rule = Rule(None, log_end=(1 << 63) - 1)
    for row in ((FILE_SIZE - 50, 100, 0), ((1 << 63) - 1, 100, 0), (0, 0x7FFFFFFE, 0)):
        slices, found = pulled([row], rule)
        assert slices == [] and found.matched == 0
    assert check([(FILE_SIZE - 91, 91, 0)], rule).given


def test_more_codes_than_a_filter_holds() -> None:
    codes = list(range(lib.AP_CODES_MAX + 1))
    asked, found = ffi.new("ap_filter *"), ffi.new("ap_found *")
    asked.code_count = len(codes)
    result = lib.ap_pull_rows(ffi.NULL, 1, ffi.NULL, asked, ffi.NULL, 1, found)
    assert result == lib.AP_EINVAL
    check([(0, 100, code) for code in range(60)], Rule(codes[:-1], max_count=60))
