"""dispatch.py: rows, then readers, then senders, then space, whoever dies in between."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from appliance import failpoint
from appliance.commitlog.record import tags_code
from tests.commitlog.bench import Bench
from tests.fakes.world_parts import Answer, killed_at, watched

PLACES = [place for place in failpoint.PLACES if place.startswith("dispatch.")]


def states(bench: Bench) -> dict[str, tuple[int, ...]]:
    """By place: (rows in the queue's file, its max, `dispatched`, done.head, send.tail) there."""
    seen: dict[str, tuple[int, ...]] = {}
    producer, row = bench.producers[0], bench.memory.row("T")

    def note(place: str) -> None:
        seen[place] = (
            int(bench.store.queues.next_offset[bench.store.queues.slot("T", 0)]),
            bench.memory.queues.max(row),
            bench.memory.watermarks.dispatched,
            producer.done.head,
            producer.ring.tail,
        )

    failpoint.arm(note)
    try:
        bench.show()
    finally:
        failpoint.arm(None)
    return seen


def test_the_order_is_rows_readers_senders_space(bench: Bench) -> None:
    bench.producers[0].send("T", b"a", b"b")
    bench.append()
    end = bench.memory.watermarks.appended
    assert states(bench) == {
        "dispatch.rows": (2, 0, 0, 0, 0),
        "dispatch.shown": (2, 2, end, 0, 0),
        "dispatch.answered": (2, 2, end, 1, 0),
        "dispatch.released": (2, 2, end, 1, 1),
    }


def test_rows_say_where_each_record_lies_and_its_tag(bench: Bench) -> None:
    records = bench.producers[0].send("T", b"a", b"bb", b"ccc", tags="TagA")
    (single,) = bench.producers[0].send("T", b"d", tags="TagB")
    bench.append()
    bench.show()
    a, b, c = (len(record) for record in records)
    tag = tags_code("TagA")
    last = a + b + c, len(single), tags_code("TagB")
    assert bench.queue("T") == [(0, a, tag), (a, b, tag), (a + b, c, tag), last]


def test_nothing_is_shown_beyond_the_limit(bench: Bench) -> None:
    ends = []
    for body in (b"a", b"b", b"c"):
        bench.producers[0].send("T", body)
        bench.append()
        ends.append(bench.memory.watermarks.appended)
    assert bench.dispatcher.show(ends[0] - 1) == 0 == bench.memory.max("T")
    assert bench.dispatcher.show(ends[2] - 1) == 2 == bench.memory.max("T")
    assert [answer.queue_offset for answer in bench.producers[0].answers()] == [0, 1]
    assert (bench.memory.watermarks.dispatched, bench.dispatcher.waiting) == (ends[1], 1)
    assert bench.dispatcher.show(ends[2]) == 1
    assert bench.dispatcher.waiting == 0 == bench.dispatcher.show(ends[2])


def test_senders_of_every_ring_are_woken_once(bench: Bench) -> None:
    for ring in (0, 1, 0):
        bench.producers[ring].send("T", b"x")
        bench.append(ring)
    bench.show()
    assert sorted(bench.woken) == [0, 1]
    assert bench.dispatcher.last_timestamp == 1_000


def test_more_rows_than_the_buffer_has(bench: Bench) -> None:
    for number in range(120):
        bench.producers[number % 2].send("T", *[b""] * 40, queue_id=number % 2)
    assert bench.append(0) + bench.append(1) == 120
    bench.show()
    assert [bench.memory.max("T", queue_id) for queue_id in (0, 1)] == [2400, 2400]


# The disk says no ---------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["open_map", "allocate", "make_directories"])
def test_an_error_of_a_queue_file_leaves_all_to_the_next_step(bench: Bench, operation: str) -> None:
    bench.producers[0].send("U", b"x")
    bench.append()
    bench.producers[1].send("T", b"x", b"y")
    bench.append(1)
    bench.disk.fail(errno.EIO, on=operation)
    with pytest.raises(OSError, match="Input/output"):
        bench.show()
    assert bench.memory.max("U") == bench.memory.max("T") == bench.memory.watermarks.dispatched == 0
    assert bench.producers[0].answers() == bench.producers[1].answers() == [] == bench.woken
    assert bench.dispatcher.waiting == 2
    assert bench.show() == 2
    assert (bench.memory.max("U"), bench.memory.max("T")) == (1, 2)
    assert len(bench.producers[0].answers()) == len(bench.producers[1].answers()) == 1


# Deaths -------------------------------------------------------------------------------------------


def history(bench: Bench, show: Callable[[int], object]) -> list[list[Answer]]:
    """Three rounds of sends into two rings, each shown; the answers by ring."""
    heard: list[list[Answer]] = [[], []]
    for turn in range(3):
        for ring in (0, 1, 0):
            bench.producers[ring].send("T", b"x" * (turn + 1), b"y")
            bench.producers[ring].send("U", b"z" * 700)
            bench.append(ring)
        show(turn)
        for ring, producer in enumerate(bench.producers):
            heard[ring] += producer.answers()
    return heard


@contextmanager
def two_topics() -> Iterator[Bench]:
    with Bench() as bench:
        bench.memory.topic("T")
        bench.memory.topic("U", 1)
        yield bench


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turn", range(3))
def test_a_death_loses_nothing_and_answers_nothing_twice(place: str, turn: int) -> None:
    passed: list[str] = []
    with two_topics() as undisturbed, watched(passed):
        expected = history(undisturbed, lambda _: undisturbed.show())
    for count in range(1, passed.count(place) // 3 + 1):
        with two_topics() as killed:
            show = partial(_show_or_die, killed, place, {turn: count})
            assert history(killed, show) == expected
            for topic in ("T", "U"):
                assert killed.queue(topic) == undisturbed.queue(topic)
            marks = killed.memory.watermarks
            assert marks.dispatched == undisturbed.memory.watermarks.dispatched


def _show_or_die(bench: Bench, place: str, deaths: dict[int, int], turn: int) -> None:
    """Shows all. `deaths`: at which passing of the place the writer dies, by turn."""
    if turn in deaths:
        with killed_at(place, deaths[turn]):
            bench.show()
        bench.restart()
    bench.show()


def test_a_successor_releases_what_was_answered(bench: Bench) -> None:
    producer = bench.producers[0]
    producer.send("T", b"x")
    bench.append()
    with killed_at("dispatch.answered"):
        bench.show()
    assert (producer.done.head, producer.ring.tail) == (1, 0)
    bench.restart()
    assert (producer.ring.tail, bench.dispatcher.waiting) == (1, 0)


def test_a_successor_shows_in_the_order_of_the_log(bench: Bench) -> None:
    for ring in (1, 0, 1):
        (record,) = bench.producers[ring].send("T", b"x")
        bench.append(ring)
    bench.restart()
    assert bench.dispatcher.show(2 * len(record)) == 2
    assert [len(producer.answers()) for producer in bench.producers] == [1, 1]
