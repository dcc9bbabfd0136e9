"""house.py: checkpoint, files to come and to go: a little at a time, and all at the end."""

import errno

import pytest

from appliance.commitlog.checkpoint import Checkpoint, was_running
from appliance.commitlog.house import EXPIRY_NS, FILES_A_TICK, ROUND_NS, House
from tests.commitlog.bench import Bench

HOUR_MS = 3_600_000


class Scene:
    """An open store with messages in it, and who keeps it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store = bench.store
        self.house = House(bench.disk, bench.store, retention_ms=HOUR_MS)

    def grow(self, size: int = 1, topic: str = "T") -> None:
        self.bench.producers[0].send(topic, bytes(size))
        self.bench.append(now_ms=5_000)
        self.bench.show()
        self.bench.producers[0].answers()

    def tick(self, *, flushed: int = 1 << 40, dispatched_ms: int = 5_000) -> None:
        now = self.bench.clock.now()
        self.house.tick(now, flushed=flushed, dispatched_ms=dispatched_ms)

    def round(self) -> None:
        """Ticks until everything that a round does is done."""
        for _ in range(10):
            self.tick()

    def checkpoint(self) -> Checkpoint:
        return self.store.checkpoint.read()

    def synced(self, word: str) -> int:
        """How often something below a directory of that name was synced."""
        return sum(
            operation == "sync" and f"/{word}/" in path
            for operation, path in self.bench.disk.operations
        )


@pytest.fixture
def scene(bench: Bench) -> Scene:
    return Scene(bench)


def test_an_open_store_is_marked_as_running(scene: Scene) -> None:
    assert was_running(scene.bench.disk, scene.store.paths)


def test_a_round_syncs_queue_files_and_writes_the_checkpoint(scene: Scene) -> None:
    scene.grow()
    scene.grow(topic="U")
    end = scene.bench.memory.watermarks.appended
    scene.round()
    assert scene.synced("consumequeue") > 0
    assert scene.checkpoint() == Checkpoint(
        physic_timestamp=5_000, logics_timestamp=5_000, settled_offset=end, settled_rows=2
    )


def test_a_tick_syncs_few_files(scene: Scene) -> None:
    for topic in ("T", "U"):
        scene.grow(topic=topic)
    for ticks in range(1, 3):
        scene.tick()
        synced = [
            op for op, path in scene.bench.disk.operations if op == "sync" and "queue" in path
        ]
        assert len(synced) == ticks * FILES_A_TICK
    assert scene.checkpoint() == Checkpoint()


def test_the_checkpoint_waits_for_the_log(scene: Scene) -> None:
    scene.grow()
    end = scene.bench.memory.watermarks.appended
    for _ in range(10):
        scene.tick(flushed=end - 1)
    assert scene.checkpoint() == Checkpoint()
    scene.tick(flushed=end)
    assert scene.checkpoint().settled_offset == end


def test_the_checkpoint_tells_of_nothing_after_the_begin_of_its_round(scene: Scene) -> None:
    scene.grow()
    settled = scene.bench.memory.watermarks.appended
    scene.tick(dispatched_ms=5_000)
    scene.grow()
    for _ in range(10):
        scene.tick(dispatched_ms=6_000)
    assert scene.checkpoint().settled_offset == settled
    assert scene.checkpoint().physic_timestamp == 5_000


def test_rounds_are_a_second_apart(scene: Scene) -> None:
    scene.grow()
    scene.round()
    before = scene.checkpoint()
    scene.grow()
    scene.round()
    assert scene.checkpoint() == before
    scene.bench.clock.advance(ROUND_NS)
    scene.round()
    assert scene.checkpoint().settled_offset == scene.bench.memory.watermarks.appended


def test_the_next_log_file_is_made_ahead(scene: Scene) -> None:
    scene.grow(500)
    assert not scene.bench.disk.exists(scene.bench.log_path(1))
    scene.tick()
    assert scene.bench.disk.exists(scene.bench.log_path(1))
    scene.bench.disk.capacity = scene.bench.disk.used()
    scene.grow(3900)
    assert scene.bench.memory.watermarks.appended > scene.bench.log_file_size


def test_what_fails_is_tried_again(scene: Scene) -> None:
    scene.grow()
    for operation in ("allocate", "sync"):
        scene.bench.disk.fail(errno.EIO, on=operation)
        with pytest.raises(OSError, match="Input/output"):
            scene.round()
    scene.round()
    assert scene.checkpoint().settled_rows == 1
    scene.bench.clock.advance(ROUND_NS)
    scene.round()
    assert scene.bench.disk.exists(scene.bench.log_path(1))


# Expiry -------------------------------------------------------------------------------------------


def test_old_files_go_and_it_is_said_so(scene: Scene) -> None:
    for _ in range(3):
        scene.grow(3000)
    clock = scene.bench.clock
    assert scene.house.expire(clock.now())
    assert scene.store.log.first_offset == 2 * scene.bench.log_file_size
    assert not scene.house.expire(clock.now())


def test_expiry_has_its_own_pace(scene: Scene) -> None:
    clock = scene.bench.clock
    scene.bench.disk.now_ms = clock.now().wall_ms
    for _ in range(3):
        scene.grow(3000)
    assert not scene.house.expire(clock.now())
    scene.house = House(scene.bench.disk, scene.store, retention_ms=0)
    assert scene.house.expire(clock.now())
    scene.grow(3000)
    assert not scene.house.expire(clock.now())
    clock.advance(EXPIRY_NS)
    assert scene.house.expire(clock.now())


# The end ------------------------------------------------------------------------------------------


def test_a_clean_end_needs_no_recovery(scene: Scene) -> None:
    scene.grow(3000)
    scene.grow(3000)
    scene.tick()
    scene.grow(topic="U")
    end = scene.bench.memory.watermarks.appended
    scene.house.close(5_000)
    disk = scene.bench.disk
    assert not was_running(disk, scene.store.paths)
    assert [disk.exists(scene.bench.log_path(number)) for number in range(3)] == [True, True, False]
    scene.bench.restart()
    recovered = scene.bench.store.recovered
    assert (recovered.abnormal, recovered.log_end, recovered.row_count) == (False, end, 0)
    assert (recovered.record_count, recovered.last_store_timestamp) == (0, 5_000)
    assert scene.bench.store.checkpoint.read().settled_offset == end
