"""writer.py: what is shown and answered when, what a failed sync ends, what a successor finds."""

import errno
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from appliance.commitlog.checkpoint import was_running
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.files import StorePaths, StoreRefused
from appliance.commitlog.mapped_file import SyncFailed
from appliance.config import Flush
from appliance.failpoint import PLACES
from appliance.heritage import COORDINATOR, FRONTEND, WRITER
from appliance.ring.watermarks import FAILED, SERVING
from appliance.writer import Writer
from tests.fakes.clock import START_MS, FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.world_parts import (
    ROOT,
    ROW_COUNT,
    Answer,
    HandSyncer,
    Memory,
    Producer,
    killed_at,
    watched,
)

REFUSED = 14
MS = 1_000_000


class Scene:
    """A writer with two who send: ring 0 is a frontend's, ring 1 the coordinator's."""

    def __init__(self, flush: Flush = "sync", disk: FakeDisk | None = None) -> None:
        self.memory = Memory(flush=flush)
        self.disk, self.clock = disk or FakeDisk(now_ms=START_MS), FakeClock()
        self.producers = [Producer(self.memory, number) for number in (0, 1)]
        self.memory.topic("T")
        self.memory.topic("U", 1)
        self.restart()

    def restart(self) -> None:
        """The writer dies, a successor begins."""
        self.disk.kill()
        self.syncer = HandSyncer()
        self.writer = Writer(self.memory.heritage, self.disk, self.syncer, self.clock)

    def step(self) -> int:
        return self.writer.step(self.clock.now())

    def settle(self) -> None:
        """Steps until there is nothing more to do; syncs end at once."""
        for _ in range(100):
            under_way = len(self.syncer.asked)
            work = self.step()
            if len(self.syncer.asked) > under_way:
                self.syncer.end()
            elif not work:
                return
        raise AssertionError("it never comes to rest")

    def send(self, ring: int = 0, topic: str = "T", size: int = 1) -> None:
        self.producers[ring].send(topic, bytes(size))

    def codes(self, ring: int = 0) -> list[int]:
        return [answer.code for answer in self.producers[ring].answers()]

    def sleep(self, process: int) -> None:
        """That process waits to be woken."""
        self.memory.heritage.doorbells.announce_sleep(process)

    def woken(self, process: int) -> bool:
        poll = select.poll()
        poll.register(self.memory.heritage.doorbells.bells[process], select.POLLIN)
        return bool(poll.poll(0))

    def read(self, what: str) -> int:
        return int(getattr(self.memory.watermarks, what))

    def log(self) -> bytes:
        folder = f"{ROOT}/commitlog"
        return b"".join(self.disk.read(f"{folder}/{name}") for name in self.disk.listdir(folder))

    def rows(self, topic: str) -> list[tuple[int, int, int]]:
        """What readers may see of queue 0 of a topic."""
        size = self.memory.heritage.queue_file_size
        reader = ConsumeQueueReader(self.disk, f"{ROOT}/consumequeue", file_size=size)
        end = self.memory.max(topic)
        found: list[tuple[int, int, int]] = []
        for first in range(0, end, ROW_COUNT):
            rows = reader.rows(topic, 0, first, count_max=ROW_COUNT, visible_max=end)
            found += rows.tolist()
        return found


@contextmanager
def scene_of(flush: Flush = "sync", disk: FakeDisk | None = None) -> Iterator[Scene]:
    scene = Scene(flush, disk)
    with scene.memory:
        yield scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


@pytest.fixture
def lazy() -> Iterator[Scene]:
    """With async flush."""
    with scene_of("async") as made:
        yield made


# When what is shown -------------------------------------------------------------------------------


def test_sync_flush_shows_and_answers_nothing_that_is_not_on_disk(scene: Scene) -> None:
    scene.send()
    assert scene.step() == 2
    assert (scene.read("appended"), scene.read("flushed"), scene.read("dispatched")) == (93, 0, 0)
    assert (scene.memory.max("T"), scene.codes(), scene.step()) == (0, [], 0)
    scene.syncer.end()
    assert scene.step() == 2
    assert (scene.read("flushed"), scene.read("dispatched")) == (93, 93)
    assert (scene.memory.max("T"), scene.codes()) == (1, [0])


def test_the_next_sync_takes_all_that_came_during_one(scene: Scene) -> None:
    scene.send()
    scene.step()
    for _ in range(3):
        scene.send()
        scene.step()
    scene.syncer.end()
    scene.step()
    assert (len(scene.codes()), scene.memory.max("T")) == (1, 1)
    assert len(scene.syncer.asked) == 2
    scene.syncer.end()
    scene.step()
    assert (len(scene.codes()), scene.memory.max("T")) == (3, 4)


def test_async_flush_answers_at_once_and_syncs_behind(lazy: Scene) -> None:
    lazy.send()
    assert lazy.step() == 3
    assert (lazy.codes(), lazy.memory.max("T"), lazy.read("flushed")) == ([0], 1, 0)
    assert len(lazy.syncer.asked) == 1
    lazy.syncer.end()
    lazy.send()
    lazy.step()
    assert (lazy.read("flushed"), lazy.codes(), len(lazy.syncer.asked)) == (93, [0], 1)


def test_the_log_is_in_the_order_of_the_rings(lazy: Scene) -> None:
    lazy.send(1)
    lazy.send(0)
    lazy.step()
    first, second = lazy.producers[0].answers(), lazy.producers[1].answers()
    assert [(a.physical_offset, a.queue_offset) for a in first + second] == [(0, 0), (93, 1)]
    assert first[0].store_timestamp == START_MS


def test_who_waits_is_woken(lazy: Scene) -> None:
    lazy.sleep(COORDINATOR)
    lazy.sleep(FRONTEND)
    lazy.send(1)
    lazy.step()
    assert (lazy.woken(COORDINATOR), lazy.woken(FRONTEND)) == (True, False)
    lazy.memory.heritage.doorbells.rows[FRONTEND].parked = 1
    lazy.send(1)
    lazy.step()
    assert lazy.woken(FRONTEND), "its long polls may have what they wait for"


# Trouble ------------------------------------------------------------------------------------------


def test_after_a_failed_sync_nothing_is_acknowledged_ever_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.send()
    scene.step()
    scene.send(1)
    scene.step()
    scene.syncer.end(errno.EIO)
    scene.step()
    assert scene.read("state") == FAILED
    assert "the sync failed: Input/output error: no send is acknowledged" in caplog.text
    for _ in range(2):
        scene.step()
        assert (scene.codes(0), scene.codes(1)) == ([REFUSED], [REFUSED])
        scene.send(0)
        scene.send(1)
    scene.step()
    assert (scene.read("flushed"), scene.memory.max("T"), len(scene.syncer.asked)) == (0, 0, 1)
    assert (scene.writer.stop(scene.clock.now()), scene.writer.pending()) == (True, False)


def test_a_failed_store_is_not_closed_in_order(scene: Scene) -> None:
    scene.send()
    scene.step()
    scene.syncer.end(errno.EIO)
    scene.step()
    scene.step()
    scene.writer.close()
    assert was_running(scene.disk, StorePaths(ROOT)) and scene.syncer.stopped


def test_a_successor_of_a_failed_writer_acknowledges_nothing_either(scene: Scene) -> None:
    scene.send()
    scene.step()
    scene.syncer.end(errno.EIO)
    scene.step()
    scene.restart()
    scene.send()
    scene.step()
    assert (scene.codes(), scene.read("state"), scene.syncer.asked) == ([REFUSED] * 2, FAILED, [])
    assert scene.writer.stop(scene.clock.now())
    scene.writer.close()
    assert was_running(scene.disk, StorePaths(ROOT))


def test_a_sync_that_fails_as_a_successor_recovers_ends_acknowledgement_too(scene: Scene) -> None:
    def refuse(operation: str, path: str) -> None:
        if operation == "sync" and path == f"{ROOT}/commitlog/{0:020d}":
            raise OSError(errno.EIO, "Input/output error", path)

    scene.send()
    scene.step()
    whole, scene.disk.before = scene.disk.before, refuse
    with pytest.raises(SyncFailed):
        scene.restart()
    scene.disk.before = whole
    scene.restart()
    scene.settle()
    assert (scene.codes(), scene.read("state"), scene.read("flushed")) == ([REFUSED], FAILED, 0)


def test_after_a_start_with_fresh_memory_a_failed_store_serves_again(scene: Scene) -> None:
    scene.send()
    scene.step()
    scene.syncer.end(errno.EIO)
    scene.step()
    with scene_of(disk=scene.disk) as after:
        assert after.read("state") == SERVING
        after.send()
        after.settle()
        assert (after.codes(), after.memory.max("T")) == ([0], 2)


def test_messages_wait_while_queue_files_cannot_be_written(
    lazy: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    lazy.disk.fail(errno.EIO, on="open_map", after=1)
    lazy.send()
    lazy.step()
    assert "queue rows cannot be written" in caplog.text
    assert (lazy.codes(), lazy.memory.max("T"), lazy.read("appended")) == ([], 0, 93)
    lazy.step()
    assert (lazy.codes(), lazy.memory.max("T")) == ([0], 1)


def test_a_full_disk_refuses_and_the_next_send_is_served(lazy: Scene) -> None:
    lazy.disk.capacity = lazy.disk.used()
    lazy.send()
    lazy.step()
    assert (lazy.codes(), lazy.read("state")) == ([REFUSED], SERVING)
    lazy.disk.capacity = 1 << 40
    lazy.send()
    lazy.step()
    assert lazy.codes() == [0]


def test_house_work_that_fails_is_logged_and_tried_again(
    lazy: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    lazy.disk.fail(errno.ENOSPC, on="allocate", after=2)  # a log file, a queue file, then this
    lazy.send()
    for _ in range(9):
        lazy.clock.advance(2_000 * MS)
        lazy.step()
    assert "No space left on device" in caplog.text
    assert lazy.disk.exists(f"{ROOT}/commitlog/{4096:020d}")


def test_a_store_that_is_not_ours_is_refused() -> None:
    disk = FakeDisk()
    disk.add(f"{ROOT}/rocksdbstore/CURRENT", b"x")
    with pytest.raises(StoreRefused):
        Scene(disk=disk)


# Deaths -------------------------------------------------------------------------------------------


def play(scene: Scene, settle: Callable[[int], None]) -> list[list[Answer]]:
    """Four turns of sends into both rings, each settled; the answers by ring."""
    heard: list[list[Answer]] = [[], []]
    for turn in range(4):
        for ring in (0, 1, 0):
            scene.producers[ring].send("T", b"x" * turn, b"y")
            scene.producers[ring].send("U", b"z" * 900)
        scene.clock.advance(200 * MS)
        settle(turn)
        for ring, producer in enumerate(scene.producers):
            heard[ring] += producer.answers()
    return heard


def settle_watched(scene: Scene, passed: dict[int, list[str]], turn: int) -> None:
    """Notes the places that the writer passes, by turn."""
    with watched(passed.setdefault(turn, [])):
        scene.settle()


def settle_or_die(scene: Scene, deaths: dict[int, tuple[str, int]], turn: int) -> None:
    """`deaths`: at which passing of which place the writer dies, by turn."""
    if turn in deaths:
        with killed_at(*deaths[turn]):
            scene.settle()
        scene.restart()
    scene.settle()


WRITERS_PLACES = {
    place for place in PLACES if place.partition(".")[0] in ("append", "flush", "dispatch")
}


@pytest.mark.parametrize("flush", ["sync", "async"])
@pytest.mark.parametrize("turn", [0, 2])
def test_a_death_anywhere_changes_nothing_that_anybody_sees(flush: Flush, turn: int) -> None:
    passed: dict[int, list[str]] = {}
    with scene_of(flush) as undisturbed:
        expected = play(undisturbed, partial(settle_watched, undisturbed, passed))
        log, rows = undisturbed.log(), [undisturbed.rows(topic) for topic in ("T", "U")]
    assert set(passed[turn]) == WRITERS_PLACES
    for place in WRITERS_PLACES:
        for count in range(1, passed[turn].count(place) + 1):
            with scene_of(flush) as killed:
                show = partial(settle_or_die, killed, {turn: (place, count)})
                assert play(killed, show) == expected, (place, count)
                assert killed.log() == log, (place, count)
                assert [killed.rows(topic) for topic in ("T", "U")] == rows, (place, count)


def test_a_writer_that_dies_again_and_again_comes_to_an_end(scene: Scene) -> None:
    scene.send(size=2000)
    scene.send(1, size=2000)
    scene.send()
    for place in sorted(WRITERS_PLACES):
        with suppress(AssertionError), killed_at(place):
            scene.settle()
        scene.restart()
    scene.settle()
    assert (scene.codes(0), scene.codes(1)) == ([0, 0], [0])
    assert (scene.memory.max("T"), scene.read("flushed")) == (3, scene.read("appended"))


# House, sleep and end -----------------------------------------------------------------------------


def test_expired_files_are_told(lazy: Scene) -> None:
    lazy.disk.now_ms = 0
    for _ in range(3):
        lazy.send(size=3000)
        lazy.settle()
    lazy.clock.advance(20_000 * MS)
    lazy.step()
    assert lazy.read("expired") == 2 * 4096
    assert lazy.memory.queues.min(lazy.memory.row("T")) == 2


def test_how_long_it_may_sleep(lazy: Scene) -> None:
    assert lazy.writer.sleep_ms(lazy.clock.now()) > 100
    lazy.send()
    lazy.settle()
    lazy.send()
    lazy.step()
    lazy.clock.advance(40 * MS)
    assert lazy.writer.sleep_ms(lazy.clock.now()) == 61


def test_it_sleeps_on_its_bell(scene: Scene) -> None:
    assert not scene.writer.pending()
    scene.send()
    assert scene.writer.pending()
    scene.sleep(WRITER)
    scene.memory.heritage.doorbells.wake(WRITER)
    scene.writer.wait(10_000, scene.clock.now())
    assert not scene.woken(WRITER)
    scene.writer.wait(0, scene.clock.now())


def test_it_stops_when_all_is_answered(scene: Scene) -> None:
    scene.send()
    scene.step()
    assert not scene.writer.stop(scene.clock.now())
    scene.syncer.end()
    scene.step()
    assert scene.writer.stop(scene.clock.now())


def test_a_clean_end_needs_no_recovery(lazy: Scene) -> None:
    for _ in range(3):
        lazy.send(size=3000)
        lazy.step()
    end = lazy.read("appended")
    lazy.syncer.end()
    lazy.writer.close()
    assert lazy.syncer.stopped and not was_running(lazy.disk, StorePaths(ROOT))
    assert (lazy.read("flushed"), lazy.read("state")) == (end, SERVING)
    with scene_of("async", lazy.disk) as after:
        page = after.memory.heritage.writer.struct("ap_writer")
        assert (page.recovered_abnormal, page.recovered_records, page.recovered_rows) == (0, 0, 0)
        assert [after.read(name) for name in ("appended", "flushed", "dispatched")] == [end] * 3
        after.send()
        after.step()
        assert after.producers[0].answers()[0].queue_offset == 3


def test_what_a_recovery_did_is_told(lazy: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        lazy.send(size=100)
        lazy.settle()
    memory = lazy.disk.open_map(f"{ROOT}/commitlog/{0:020d}", 4096, writable=True)
    memory.view[192 + 90] ^= 1
    with scene_of("async", lazy.disk) as after:
        page = after.memory.heritage.writer.struct("ap_writer")
        assert (page.recovered_abnormal, page.recovered_damaged) == (1, 1)
        assert page.recovered_records == 2
    assert "the log is damaged: 192 bytes at 192 were stepped over" in caplog.text
