"""recovery.py on the stores of a real broker, on damaged ones, and on a disk that forgets."""

import random
from pathlib import Path
from typing import Any

import pytest

from appliance.commitlog import checkpoint as c
from appliance.commitlog.checkpoint import Checkpoint
from appliance.commitlog.disk import RealDisk
from appliance.commitlog.files import StoreRefused
from appliance.commitlog.record import decode_properties, parse
from tests.commitlog import stores
from tests.commitlog.stores import Appending, Opened, open_store
from tests.fakes.disk import FakeDisk

CASES: dict[str, Any] = {case["case"]: case for case in stores.manifest("recovery_cases")["cases"]}

# Where we keep what Apache loses: case -> (log end, messages that it loses and we serve).
BETTER = {
    "crash-midfile-bitflip": (352492, 89),
    "crash-cq-garbage-tail": (352492, 4),
    "clean-one-queue-cq-deleted": (168128, 21),
    "clean-cq-tail-lost": (168128, 3),
}
# What these cases damage is not read here: the timer, and a size that we take from the files.
NOT_OURS = {"clean-wheel-bad-length", "clean-cq-size-mismatch"}


def readable(name: str) -> set[tuple[str, int, int, int]]:
    """All messages of a golden store that have a row."""
    found = stores.messages(name).values()
    return {(m["topic"], m["queueId"], m["queueOffset"], m["physicalOffset"]) for m in found}


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_store(name: str, tmp_path: Path) -> None:
    """As the real broker serves it, or better, as BETTER tells."""
    case = CASES[name]
    root = stores.unpack(case["base"], tmp_path)
    stores.damage(root, case["changes"])
    if not case["opens"] and name not in NOT_OURS:
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        with pytest.raises(StoreRefused):
            open_store(RealDisk(), str(root))
        assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return
    opened = open_store(RealDisk(), str(root))
    lost = {tuple(message) for message in case.get("unreadable", ())}
    log_end, queues = case.get("logEndOffset", 168128), case.get("queues", opened.bounds())
    if name == "clean-only-commitlog-and-config":
        # The broker delivered two timer messages a second time, behind the end of the others.
        log_end, queues = 168128, CASES["clean-asis"]["queues"]
    if name in BETTER:
        log_end, kept = BETTER[name]
        assert len(readable(case["base"]) - opened.readable()) == len(lost) - kept
    else:
        assert opened.readable() == readable(case["base"]) - lost
        assert opened.bounds() == queues
    assert opened.recovered.log_end == log_end
    assert opened.recovered.log_min == case.get("logMinOffset", 0)


@pytest.mark.parametrize("name", ["clean", "crash"])
def test_a_golden_store(name: str, tmp_path: Path) -> None:
    """Every message of the manifest is found by its row, every queue has its ends."""
    expected = stores.manifest(name)
    opened = open_store(RealDisk(), str(stores.unpack(name, tmp_path)))
    assert opened.recovered.abnormal == (name == "crash")
    assert opened.recovered.damaged == () and opened.recovered.implausible_count == 0
    for topic, queues in expected["queues"].items():
        for queue, ends in queues.items():
            slot = opened.queues.slot(topic, int(queue), create=False)
            found = opened.queues.min_offset[slot], opened.queues.next_offset[slot]
            assert found == (ends["minOffset"], ends["maxOffset"])
    log = opened.log_reader()
    for at, message in stores.messages(name).items():
        data = log.record_at(at)
        assert data is not None and len(data) == message["storeSize"]
        assert decode_properties(parse(data).properties) == message["properties"]
    assert opened.readable() == readable(name)


@pytest.mark.parametrize("name", ["clean", "crash"])
def test_a_second_start_finds_nothing_to_do(name: str, tmp_path: Path) -> None:
    root = stores.unpack(name, tmp_path)
    first = open_store(RealDisk(), str(root))
    close(first)
    second = open_store(RealDisk(), str(root))
    assert not second.recovered.abnormal
    assert second.recovered.log_end == first.recovered.log_end == second.recovered.walk_begin
    assert second.recovered.record_count == second.recovered.row_count == 0
    assert second.recovered.last_store_timestamp == first.recovered.last_store_timestamp
    assert second.bounds() == first.bounds()


def close(opened: Opened, *, clean: bool = True) -> None:
    """As the writer closes a store."""
    while not opened.queues.sync():
        pass
    now = opened.recovered.last_store_timestamp
    settled, rows = opened.queues.settled
    opened.checkpoint.write(
        Checkpoint(now, now, settled_offset=settled, settled_rows=rows), sync=True
    )
    opened.checkpoint.close()
    if clean:
        c.mark_closed(opened.disk, opened.paths)
    opened.queues.close()
    opened.log.close()


def fresh(disk: FakeDisk) -> tuple[Opened, Appending]:
    """A store that runs, with a few messages that are settled."""
    opened = open_store(disk, "/store", file_size=16384)
    c.mark_running(disk, opened.paths, 1)
    writer = Appending(opened)
    for number in range(30):
        writer.append(f"topic{number % 2}", number % 3, b"settled %d" % number)
    settle(opened, writer)
    return opened, writer


def settle(opened: Opened, writer: Appending) -> None:
    """What the writer does every second."""
    opened.log.sync(writer.end)
    assert opened.queues.sync()
    settled, rows = opened.queues.settled
    opened.checkpoint.write(
        Checkpoint(writer.time_ms, writer.time_ms, settled_offset=settled, settled_rows=rows),
        sync=True,
    )


def test_an_empty_store() -> None:
    opened = open_store(FakeDisk(), "/store")
    assert opened.recovered.log_end == opened.recovered.record_count == 0
    assert opened.bounds() == {}


def test_the_walk_begins_at_the_checkpoint() -> None:
    disk = FakeDisk()
    _, writer = fresh(disk)
    settled = writer.end
    last = writer.append("topic0", 0, b"later")
    again = open_store(disk, "/store").recovered
    assert (again.abnormal, again.walk_begin, again.record_count) == (True, settled, 1)
    assert again.log_end == writer.end and again.last_store_timestamp == writer.time_ms
    assert last.physical_offset == settled


def test_undispatched_records_get_their_rows() -> None:
    disk = FakeDisk()
    opened, writer = fresh(disk)
    for number in range(20):
        writer.append("topic0", 0, b"x" * number, rows=False)
    again = open_store(disk, "/store")
    assert again.recovered.row_count == 20
    slot = again.queues.slot("topic0", 0, create=False)
    assert again.queues.next_offset[slot] == 25
    assert len(again.readable()) == 50 and opened.readable() < again.readable()


@pytest.mark.parametrize("clean", [True, False])
def test_a_queue_that_vanished_is_rebuilt_from_before_the_checkpoint(clean: bool) -> None:
    """Its last message is older than the checkpoint: only the count of rows tells."""
    disk = FakeDisk()
    opened, writer = fresh(disk)
    if clean:
        close(opened._replace(recovered=again_with_time(opened, writer)))
    before = open_store(disk, "/store").readable()
    disk.remove_tree("/store/consumequeue/topic1/2")
    again = open_store(disk, "/store")
    assert again.readable() == before and len(before) == 30
    assert again.recovered.row_count == 5


def again_with_time(opened: Opened, writer: Appending) -> Any:
    """The recovery's summary with the time of the last message, for close()."""
    return type("Summary", (), {"last_store_timestamp": writer.time_ms, "log_end": writer.end})()


def test_a_stale_record_behind_a_torn_one_stays_dead() -> None:
    """A record was cut off; what is appended over its begin does not bring its end back."""
    disk = FakeDisk()
    opened, writer = fresh(disk)
    torn = writer.append("topic0", 0, b"torn" * 20)
    behind = writer.append("topic0", 1, b"behind")
    file = opened.log.file_at(torn.physical_offset)
    assert file is not None
    file.view[torn.physical_offset - file.first_offset + 90] ^= 1
    opened.queues.truncate(torn.physical_offset)
    again = open_store(disk, "/store")
    assert again.recovered.log_end == torn.physical_offset
    assert again.recovered.stale_size > 0 and again.recovered.damaged == ()
    assert not again.log.files[-1].view[again.recovered.log_end % 16384 :].any()
    assert again.log_reader().record_at(behind.physical_offset) is None


def test_damage_in_the_middle_is_stepped_over_and_told() -> None:
    """What was dispatched behind a bad record is kept; the bad one's row turns blank."""
    disk = FakeDisk()
    opened, writer = fresh(disk)
    writer.append("topic0", 0, b"good")
    bad = writer.append("topic0", 0, b"will be bad")
    after = writer.append("topic0", 0, b"good again")
    assert opened.queues.sync()
    file = opened.log.file_at(bad.physical_offset)
    assert file is not None
    file.view[bad.physical_offset - file.first_offset + 3] ^= 1
    again = open_store(disk, "/store")
    size = after.physical_offset - bad.physical_offset
    assert again.recovered.damaged == ((bad.physical_offset, size),)
    assert again.recovered.log_end == writer.end and again.recovered.stale_size == 0
    offsets = {offset for _, _, _, offset in again.readable()}
    assert after.physical_offset in offsets and bad.physical_offset not in offsets
    assert again.queues.next_offset[again.queues.slot("topic0", 0)] == after.queue_offset + 1


def test_a_record_in_the_wrong_place_ends_the_log() -> None:
    """Copied but not stamped yet when the writer was killed."""
    disk = FakeDisk()
    opened, writer = fresh(disk)
    last = writer.append("topic0", 0, b"not stamped", rows=False)
    file = opened.log.file_at(last.physical_offset)
    assert file is not None
    at = last.physical_offset - file.first_offset
    file.view[at + 28 : at + 36] = 0
    assert open_store(disk, "/store").recovered.log_end == last.physical_offset


@pytest.mark.parametrize("lost", ["topic", "properties"])
def test_a_record_whose_last_sector_is_missing(lost: str) -> None:
    """The body's CRC is right and the lengths add up, yet it is not the message that was sent."""
    disk = FakeDisk()
    opened, writer = fresh(disk)
    topic, properties = "t" * 100, b"p" * 2000 if lost == "properties" else b""
    while True:
        last = writer.append(topic, 0, b"whole", rows=False, properties=properties)
        file = opened.log.files[-1]
        position = writer.end - file.first_offset
        if lost == "properties" or 10 < (position - 2) % 512 < 60:
            break
    cut = (position - 2) // 512 * 512
    file.view[cut : position - (2 if lost == "topic" else 0)] = 0
    assert open_store(disk, "/store").recovered.log_end == last.physical_offset


def test_names_that_lead_elsewhere_are_refused() -> None:
    disk = FakeDisk()
    _, writer = fresh(disk)
    for topic in ("../../etc", "..", ".", "a/b"):
        writer.append(topic, 0, b"x", rows=False)
    writer.append("topic0", -1, b"x", rows=False)
    again = open_store(disk, "/store")
    assert again.recovered.implausible_count == 5 and len(again.readable()) == 30
    assert disk.listdir("/store/consumequeue") == ["topic0", "topic1"]


@pytest.mark.parametrize("seed", range(60))
def test_power_cuts(seed: int) -> None:
    """What was synced survives with its order, whatever else reached the disk; twice in a row."""
    rng = random.Random(seed)
    disk = FakeDisk()
    opened = open_store(disk, "/store", file_size=8192)
    acknowledged: list[tuple[str, int, int, int]] = []
    for _ in range(3):
        c.mark_running(disk, opened.paths, 1)
        acknowledged += run_until_cut(opened, rng)
        disk.power_cut(rng)
        opened = open_store(disk, "/store", file_size=8192)
        found = opened.readable()
        assert set(acknowledged) <= found
        offsets: dict[tuple[str, int], int] = {}
        for topic, queue_id, _, physical_offset in sorted(found):
            assert offsets.get((topic, queue_id), -1) < physical_offset
            offsets[topic, queue_id] = physical_offset
        assert opened.recovered.implausible_count == 0


def run_until_cut(opened: Opened, rng: random.Random) -> list[tuple[str, int, int, int]]:
    """Append, sync and settle as the dice fall; returns what was on disk when it was promised."""
    writer = Appending(opened)
    appended: list[tuple[str, int, int, int]] = []
    synced = 0
    for _ in range(rng.randint(1, 150)):
        body = rng.randbytes(rng.choice((1, 30, 300)))
        topic, queue_id = f"topic{rng.randrange(3)}", rng.randrange(2)
        record = writer.append(topic, queue_id, body)
        appended.append((topic, queue_id, record.queue_offset, record.physical_offset))
        if rng.random() < 0.2:
            opened.log.sync(writer.end)
            synced = len(appended)
        if rng.random() < 0.1:
            opened.log.prepare_next()
        if rng.random() < 0.05:
            settle(opened, writer)
            synced = len(appended)
    return appended[:synced]
