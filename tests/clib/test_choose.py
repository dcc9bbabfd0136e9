"""choose.c: plain sends and their queue rows; everything else, in order, for others."""

from typing import Any

from appliance.net.frame import Frame
from clib import ffi, lib
from tests.clib.sends import KEY, MESSAGE_MAX, SUFFIX, Sends
from tools.fuzz_frames import PULL, batch_item

BASE = 100


def choose(sends: Sends, *requests: Any) -> tuple[list[tuple[int, int]], list[int]]:
    """((index, queue row) of the chosen, indexes of the others)."""
    count = len(requests)
    array = ffi.new("ap_request[]", count)
    for place, request in zip(array, requests, strict=True):
        ffi.memmove(ffi.addressof(place), request, ffi.sizeof("ap_request"))
    chosen, rows, others = (ffi.new("uint32_t[]", count) for _ in range(3))
    other_count = ffi.new("uint64_t *")
    table = sends.scanner.topics.table
    found = lib.ap_send_choose(array, count, table, sends.build, chosen, rows, others, other_count)
    picked = list(zip(chosen[0:found], rows[0:found], strict=True))
    return picked, list(others[0 : other_count[0]])


def publish(sends: Sends, *, read: int = 4, write: int = 4, flags: int = 3) -> None:
    sends.scanner.topics.publish(
        "TopicTest",
        queue_base=BASE,
        read_queues=read,
        write_queues=write,
        perm=6,
        flags=flags,
        system_flag=0,
    )


def plain(sends: Sends, **fields: Any) -> bool:
    return choose(sends, sends.message(0, **fields)) == ([(0, BASE + int(fields.get("e", 2)))], [])


def test_queues_that_the_topic_has() -> None:
    sends = Sends()
    publish(sends, read=4, write=8)
    assert all(plain(sends, e=queue) for queue in range(8))
    assert not plain(sends, e=8) and not plain(sends, e=-1) and not plain(sends, e=-(1 << 31))
    publish(sends, read=0, write=0)
    assert not plain(sends, e=0)


def test_topics_that_take_no_plain_sends() -> None:
    sends = Sends()
    publish(sends)
    assert plain(sends)
    assert not plain(sends, b="unknown") and not plain(sends, b="")
    publish(sends, flags=lib.AP_TOPIC_PULL)
    assert not plain(sends)
    publish(sends)
    lib.ap_table_claim(sends.scanner.topics.table, b"TopicTest", 9)
    assert not plain(sends), "a row that is being changed"


def test_what_is_wrong_or_asks_for_more() -> None:
    sends = Sends()
    publish(sends)
    cases: list[dict[str, Any]] = [
        {"body": b""},
        {"body": bytes(MESSAGE_MAX + 1)},
        {"i": KEY + "DELAY\x011\x02"},
        {"i": "no key"},
        *({"f": flag} for flag in (4, 8, 12, 0x40, 0x80)),
        {"b": "y" * 128},
        {"flag": 1},
        {"i": KEY + "p\x01" + "v" * (32767 - len(SUFFIX) - len(KEY) - 2)},
    ]
    assert [case for case in cases if plain(sends, **case)] == []
    assert plain(sends, body=bytes(MESSAGE_MAX)) and plain(sends, f=0x701)


def test_order_is_kept() -> None:
    sends = Sends()
    publish(sends)
    pull = sends.request(Frame(11, fields=PULL))
    beat = sends.request(Frame(34))
    good = [sends.message(0, e=queue) for queue in (3, 0, 3)]
    odd = sends.message(0, e=77)
    picked, others = choose(sends, pull, good[0], odd, good[1], beat, good[2])
    assert picked == [(1, BASE + 3), (3, BASE), (5, BASE + 3)]
    assert others == [0, 2, 4]


def test_a_batch_whose_records_would_be_larger_than_any_message() -> None:
    """Items of one byte become records of a hundred and more: no file or arena is made for that."""
    sends = Sends()
    publish(sends)
    item = batch_item(b"x")
    most = (MESSAGE_MAX + 65536) // (len(item) + 115 + len("TopicTest") + len(SUFFIX) + 17)
    assert plain(sends, body=item * most, m="true")
    assert not plain(sends, body=item * (most + 1), m="true")
    assert len(item) * (most + 1) < MESSAGE_MAX, "its body alone would pass"
