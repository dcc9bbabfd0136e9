"""Two real processes on one ring: ten million entries, each with a checksum, none lost, none twice.

The batch is built and checked by numpy, so that the cursors in C are what is under stress.
"""

import mmap
import os
import signal
from collections.abc import Callable

import numpy as np

from appliance.ring import ring as rings
from appliance.ring import wait
from appliance.ring.region import Region
from appliance.ring.ring import Ring

TOTAL = 10_000_000
CAPACITY = 1 << 14
MIX = np.uint64(0x9E3779B97F4A7C15)


class ForkSegments:
    """Regions that a fork shares, without names."""

    def create(self, what: str, size: int) -> Region:
        region = Region(what, np.frombuffer(mmap.mmap(-1, (size + 4095) & ~4095), np.uint8))
        region.stamp(1)
        return region

    def remove(self) -> None:
        pass


def checksum(values: np.ndarray) -> np.ndarray:
    return (values * MIX) ^ (values >> np.uint64(7))


def produce(ring: Ring, total: int, idle: Callable[[], None]) -> None:
    head = ring.head
    while head < total:
        count = min(ring.freed + CAPACITY - head, total - head, 4096)
        if not count:
            idle()
            continue
        values = np.arange(head, head + count, dtype=np.uint64)
        slots = ring.slots(head, head + count)
        ring.entries["connection"][slots] = values
        ring.entries["received_ns"][slots] = checksum(values)
        head += count
        ring.publish(head)


def consume(ring: Ring, total: int, idle: Callable[[], None]) -> None:
    while ring.tail < total:
        first, last = ring.poll()
        if first == last:
            idle()
            continue
        part = ring.part(first, last)
        expected = np.arange(first, last, dtype=np.uint64)
        assert (part["connection"] == expected).all(), f"lost or repeated in {first}..{last}"
        assert (part["received_ns"] == checksum(expected)).all(), f"torn in {first}..{last}"
        ring.release(last)


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def test_ten_million_entries_between_two_processes() -> None:
    region = rings.create(ForkSegments(), "stress", "ap_frame", CAPACITY, 0)
    pid = in_child(lambda: produce(Ring(region, "ap_frame"), TOTAL, os.sched_yield))
    consume(Ring(region, "ap_frame"), TOTAL, os.sched_yield)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_producer_killed_again_and_again_loses_and_repeats_nothing() -> None:
    region = rings.create(ForkSegments(), "kills", "ap_frame", CAPACITY, 0)
    total, kills = 2_000_000, 20
    consumer, killed = Ring(region, "ap_frame"), 0

    def start() -> int:
        return in_child(lambda: produce(Ring(region, "ap_frame"), total, os.sched_yield))

    pid = start()
    while consumer.tail < total:
        if killed < kills and consumer.tail > total // (kills + 1) * (killed + 1):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
            pid = start()
        consume(consumer, min(total, consumer.tail + 20_000), os.sched_yield)
    os.waitpid(pid, 0)
    assert killed == kills


def test_sleepers_are_always_woken() -> None:
    """Outcomes allowed: the sleeper saw the entry, or its bell rang. Never neither."""
    total = 50_000
    region = rings.create(ForkSegments(), "bells", "ap_frame", 64, 0)
    table = wait.create(ForkSegments())
    bells = wait.Doorbells(table, 2)

    def sleep_on(number: int, has_work: Callable[[], bool]) -> None:
        bells.announce_sleep(number)
        if not has_work():
            os.set_blocking(bells.bells[number], True)
            os.eventfd_read(bells.bells[number])
        bells.awake(number)

    def produce_and_ring() -> None:
        ring = Ring(region, "ap_frame")
        while ring.head < total:
            if ring.push(kind=1):
                bells.wake(0)
            else:
                sleep_on(1, lambda: ring.freed + 64 > ring.head)

    pid = in_child(produce_and_ring)
    ring = Ring(region, "ap_frame")
    while ring.tail < total:
        first, last = ring.poll()
        if first == last:
            sleep_on(0, lambda: ring.head > ring.tail)
            continue
        ring.release(last)
        bells.wake(1)
    assert os.waitpid(pid, 0)[1] == 0
    bells.close()
