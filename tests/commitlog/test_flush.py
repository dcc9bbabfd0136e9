"""flush.py: when a sync is due, one at a time, and what a failed one means."""

import errno
import select
from collections.abc import Iterator
from os import EFD_NONBLOCK, eventfd, eventfd_read
from pathlib import Path

import pytest

from appliance.commitlog.disk import RealDisk
from appliance.commitlog.flush import ASYNC_WINDOW_NS, Flush, FlushFailed, ThreadSyncer
from tests.commitlog.bench import Bench
from tests.fakes.world_parts import HandSyncer, killed_at

MS = 1_000_000


class Scene:
    """A log that grows, and its flush."""

    def __init__(self, bench: Bench, *, at_once: bool = True) -> None:
        self.bench, self.syncer, self.marks = bench, HandSyncer(), bench.memory.watermarks
        self.flush = Flush(bench.store.log, self.marks, self.syncer, at_once=at_once)

    def grow(self, size: int = 1) -> int:
        """One more message; where the log ends now."""
        self.bench.producers[0].send("T", bytes(size))
        self.bench.append()
        return self.marks.appended

    def begin(self) -> bool:
        return self.flush.begin(self.bench.clock.now())

    def end(self, error: int = 0) -> bool:
        self.syncer.end(error)
        return self.flush.collect()


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene(bench)


def test_nothing_is_synced_when_all_is_on_disk(scene: Scene) -> None:
    assert (scene.flush.behind, scene.begin()) == (False, False)
    assert scene.flush.due_in_ns(scene.bench.clock.now()) is None
    end = scene.grow()
    assert (scene.flush.behind, scene.begin(), scene.end()) == (True, True, True)
    assert (scene.marks.flushed, scene.flush.behind, scene.begin()) == (end, False, False)
    assert scene.flush.took_ns == 7


def test_one_sync_at_a_time_and_the_next_takes_all_that_came_meanwhile(scene: Scene) -> None:
    first = scene.grow()
    assert scene.begin()
    scene.grow()
    last = scene.grow()
    assert not scene.begin() and not scene.flush.collect()
    assert scene.flush.due_in_ns(scene.bench.clock.now()) is None
    assert scene.end() and scene.marks.flushed == first
    assert scene.begin() and scene.end() and scene.marks.flushed == last
    assert len(scene.syncer.asked) == 2


def test_async_flush_waits_for_its_window(bench: Bench) -> None:
    scene = Scene(bench, at_once=False)
    scene.grow()
    assert scene.begin() and scene.end()
    scene.grow()
    assert not scene.begin()
    bench.clock.advance(ASYNC_WINDOW_NS - MS)
    assert not scene.begin() and scene.flush.due_in_ns(bench.clock.now()) == MS
    bench.clock.advance(MS)
    assert scene.flush.due_in_ns(bench.clock.now()) == 0 and scene.begin()


def test_a_window_that_is_over_is_due_at_once(bench: Bench) -> None:
    scene = Scene(bench, at_once=False)
    bench.clock.advance(10 * ASYNC_WINDOW_NS)
    scene.grow()
    assert scene.flush.due_in_ns(bench.clock.now()) == 0 and scene.begin()


def test_a_file_after_the_other(scene: Scene) -> None:
    size = scene.bench.log_file_size
    scene.grow(size - 500)
    end = scene.grow(3000)
    assert end > size
    assert scene.begin() and scene.end() and scene.marks.flushed == size
    assert scene.begin() and scene.end() and scene.marks.flushed == end
    assert [int(name) for name in scene.syncer.asked] == [0, size]
    first, second = scene.bench.store.log.files
    assert (first.synced_offset, second.synced_offset) == (size, end)


def test_a_failed_sync_raises_and_moves_nothing(scene: Scene) -> None:
    scene.grow()
    scene.begin()
    with pytest.raises(FlushFailed, match=r"0{20}: the sync failed: Input/output error"):
        scene.end(errno.EIO)
    assert scene.marks.flushed == 0
    assert scene.bench.store.log.files[0].synced_offset == 0


@pytest.mark.parametrize("place", ["flush.asked", "flush.seen", "flush.moved"])
def test_after_a_death_the_log_is_synced_from_what_is_known(bench: Bench, place: str) -> None:
    scene = Scene(bench)
    end = scene.grow()
    with killed_at(place):
        scene.begin()
        scene.end()
    assert scene.marks.flushed == (end if place == "flush.moved" else 0)
    bench.restart()
    successor = Scene(bench)
    end = successor.grow()
    assert successor.begin() and successor.end() and successor.marks.flushed == end


# A clean stop -------------------------------------------------------------------------------------


def test_finish_brings_all_to_the_disk(scene: Scene) -> None:
    scene.grow(3000)
    scene.begin()
    end = scene.grow(3000)
    scene.syncer.end()
    scene.flush.finish()
    assert scene.marks.flushed == end
    synced = [path for operation, path in scene.bench.disk.operations if operation == "sync"]
    assert [scene.bench.log_path(number) in synced for number in (0, 1)] == [True, True]


def test_finish_fails_as_a_sync_does(scene: Scene) -> None:
    scene.grow()
    scene.bench.disk.fail(errno.EIO, on="sync")
    with pytest.raises(FlushFailed, match="Input/output error"):
        scene.flush.finish()
    assert scene.marks.flushed == 0
    scene.begin()
    scene.syncer.end(errno.ENOSPC)
    with pytest.raises(FlushFailed, match="No space left"):
        scene.flush.finish()


# The real thread ----------------------------------------------------------------------------------


@pytest.fixture
def bell() -> Iterator[int]:
    with open(eventfd(0, EFD_NONBLOCK), closefd=True) as made:
        yield made.fileno()


def test_the_thread_syncs_rings_and_tells_how_it_ended(tmp_path: Path, bell: int) -> None:
    memory = RealDisk().open_map(str(tmp_path / "f"), 4096, create=True, writable=True)
    syncer = ThreadSyncer(bell)
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    assert syncer.poll() is None
    for expected in (0, 0, errno.EBADF):
        if expected:
            memory.close()
        syncer.ask(memory)
        assert poll.poll(10_000), "the bell rings when the sync has ended"
        eventfd_read(bell)
        outcome = syncer.poll()
        assert outcome is not None and outcome.error == expected and outcome.took_ns >= 0
        assert syncer.poll() is None
    syncer.stop()
    syncer._thread.join(0)
    assert not syncer._thread.is_alive()
