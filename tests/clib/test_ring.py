"""ring.c: cursors, bells, and the queues' ends."""

import os

from clib import ffi, lib


def test_cursors_hold_64_bits() -> None:
    cursor = ffi.new("uint64_t *")
    for value in (1, 1 << 32, (1 << 64) - 1, 0):
        lib.ap_store(cursor, value)
        assert lib.ap_load(cursor) == value


def test_only_a_sleeper_is_woken_and_once() -> None:
    sleeping, bell = ffi.new("uint64_t *"), os.eventfd(0, os.EFD_NONBLOCK)
    assert lib.ap_wake(sleeping, bell) == 0
    lib.ap_announce_sleep(sleeping)
    assert sleeping[0] == 1
    assert [lib.ap_wake(sleeping, bell) for _ in range(3)] == [1, 0, 0]
    assert os.eventfd_read(bell) == 1
    lib.ap_announce_sleep(sleeping)
    lib.ap_awake(sleeping)
    assert lib.ap_wake(sleeping, bell) == 0
    lib.ap_announce_sleep(sleeping)
    assert lib.ap_wake(sleeping, 9999) == 0, "a bell that is gone"
    os.close(bell)


def test_queues_that_moved_beyond_what_was_read() -> None:
    queues = ffi.new("ap_queue[]", 6)
    rows, values = [5, 0, 3, 3], [7, 1, 4, 9]
    lib.ap_queues_publish(
        queues, ffi.new("uint32_t[]", rows), ffi.new("int64_t[]", values), len(rows)
    )
    assert [queue.max for queue in queues] == [1, 0, 0, 9, 0, 7]
    assert all((queue.next, queue.min, queue.bound) == (0, 0, 0) for queue in queues)
    waiting = [(0, 0), (0, 1), (3, 8), (5, 9), (1, -1), (2, 0)]
    out = ffi.new("uint32_t[]", len(waiting))
    count = lib.ap_queues_ready(
        queues,
        ffi.new("uint32_t[]", [row for row, _ in waiting]),
        ffi.new("int64_t[]", [offset for _, offset in waiting]),
        len(waiting),
        out,
    )
    assert list(out[0:count]) == [0, 2, 4]
