"""bindings.py: what a queue row shows when it is met first, met again, or moved."""

import pytest

from tests.commitlog.bench import Bench


def shown(bench: Bench, row: int) -> tuple[int, ...]:
    """(next, max, min, bound) of a queue row."""
    return tuple(int(number) for number in bench.memory.queues.offsets[row])


def fill(bench: Bench, count: int, queue_id: int = 0) -> None:
    """So many messages in a queue of T, appended and shown."""
    for _ in range(count):
        bench.producers[0].send("T", b"x", queue_id=queue_id)
    bench.append()
    bench.show()
    bench.producers[0].answers()


def test_a_new_queue_begins_at_zero(bench: Bench) -> None:
    row = bench.memory.row("T")
    assert shown(bench, row) == (0, 0, 0, 0)
    bench.rows.bind(row)
    assert shown(bench, row) == (0, 0, 0, 1)
    assert bench.queue_files("T") == []


def test_a_queue_of_the_store_shows_where_it_stands() -> None:
    with Bench() as before, Bench() as after:
        before.memory.topic("T")
        fill(before, 13, queue_id=1)
        after.disk = before.disk
        after.restart()
        after.memory.topic("T")
        row = after.memory.row("T", 1)
        after.rows.bind(row)
        assert shown(after, row) == (13, 13, 0, 1)


def test_binding_twice_changes_nothing(bench: Bench) -> None:
    fill(bench, 3)
    row = bench.memory.row("T")
    before = shown(bench, row)
    bench.rows.bind(row)
    assert shown(bench, row) == before == (3, 3, 0, 1)


def test_a_row_keeps_what_a_dead_writer_showed(bench: Bench) -> None:
    fill(bench, 3)
    bench.producers[0].send("T", b"not shown yet")
    bench.append()
    bench.restart()
    row = bench.memory.row("T")
    bench.rows.bind(row)
    assert shown(bench, row) == (4, 3, 0, 1)


def test_a_row_that_a_queue_moves_to_goes_on_where_it_was(bench: Bench) -> None:
    fill(bench, 3)
    bench.producers[0].send("T", b"not shown yet")
    bench.append()
    bench.memory.topic("T", 3)
    row = bench.memory.row("T")
    bench.rows.bind(row)
    # Its max is what the store has rows for: who asks for the fourth has to wait for it.
    assert shown(bench, row) == (4, 3, 0, 1)


def test_a_moved_row_after_a_death(bench: Bench) -> None:
    old = bench.memory.row("T")
    fill(bench, 3)
    bench.memory.topic("T", 3)
    bench.restart()
    bench.producers[0].send("T", b"x", row=old)
    bench.append()
    bench.show()
    assert bench.producers[0].answers()[0].queue_offset == 3
    assert shown(bench, bench.memory.row("T")) == (4, 4, 0, 1)


def test_a_row_that_was_never_handed_out_is_our_own_mistake(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="belongs to no topic"):
        bench.rows.bind(400)


def test_the_minimum_follows_the_store(bench: Bench) -> None:
    fill(bench, 3)
    rows = bench.memory.row("T"), bench.memory.row("U")
    for row in rows:
        bench.rows.bind(row)
    slot = bench.store.queues.slot("T", 0)
    bench.store.queues.min_offset[slot] = 2
    bench.rows.show_min()
    assert [shown(bench, row)[2] for row in rows] == [2, 0]
