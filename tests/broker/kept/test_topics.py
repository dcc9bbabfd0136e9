"""Topics: on disk before they are shown, rows that last, queues that grow."""

import errno
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from appliance.broker.kept.topics import TopicConfig, Topics
from appliance.ring.tables import TOPIC_PULL, TOPIC_SEND, QueueTable, TableFull
from tests.broker.kept.tables import NOW_MS, Kept, Shared

PATH = "/store/config/topics.json"
GOLDEN = Path(__file__).parents[2] / "golden" / "store" / "clean.tar.gz"


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def topics(shared: Shared) -> Topics:
    return Kept(shared).topics


def row_of(shared: Shared, name: str) -> Any:
    row = shared.topics.read(shared.topics.find(name))
    assert row is not None
    return row


def test_a_topic_survives_a_restart(shared: Shared, topics: Topics) -> None:
    config = TopicConfig("T", 2, 3, attributes={"message.type": "FIFO"}, order=True)
    topics.put(config, now_ms=NOW_MS)
    shared.forget_memory()
    again = Kept(shared).topics
    assert again.get("T") == config
    assert again.version == topics.version
    assert row_of(shared, "T").write_queues == 3


def test_the_file_is_apaches(shared: Shared, topics: Topics) -> None:
    topics.put(TopicConfig("T", 2, 3), now_ms=NOW_MS)
    assert json.loads(shared.disk.read(PATH)) == {
        "dataVersion": {"counter": 1, "stateVersion": 0, "timestamp": NOW_MS},
        "topicConfigTable": {
            "T": {
                "attributes": {},
                "order": False,
                "perm": 6,
                "readQueueNums": 2,
                "topicFilterType": "SINGLE_TAG",
                "topicName": "T",
                "topicSysFlag": 0,
                "writeQueueNums": 3,
            }
        },
    }


def test_a_real_brokers_file_is_read(shared: Shared) -> None:
    with tarfile.open(GOLDEN) as store:
        member = store.extractfile("clean/config/topics.json")
        assert member is not None
        shared.disk.add(PATH, member.read())
    topics = Topics(Kept(shared).file("topics"), shared.topics, QueueTable(shared.queues))
    topics.load()
    assert topics.get("gold_pop") == TopicConfig("gold_pop", 1, 1)
    assert topics.version.counter == 12


def test_nothing_is_shown_that_is_not_on_disk(shared: Shared, topics: Topics) -> None:
    shared.disk.fail(errno.ENOSPC, on="write_atomic")
    with pytest.raises(OSError, match="No space"):
        topics.put(TopicConfig("T", 1, 1), now_ms=NOW_MS)
    assert "T" not in topics
    assert topics.row("T") == -1
    assert row_of(shared, "T").write_queues == 0, "at most its name is reserved"
    assert topics.version.counter == 0


def test_the_version_moves_with_every_change(topics: Topics) -> None:
    topics.put(TopicConfig("T", 1, 1), now_ms=NOW_MS)
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS - 5)
    topics.remove("T", now_ms=NOW_MS + 5)
    assert (topics.version.counter, topics.version.timestamp) == (3, NOW_MS + 5)


def test_rows_keep_their_numbers(shared: Shared, topics: Topics) -> None:
    for name in "ABC":
        topics.put(TopicConfig(name, 2, 2), now_ms=NOW_MS)
    rows = {name: (topics.row(name), topics.queue_row(name, 0)) for name in "ABC"}
    again = Kept(shared).topics
    assert {name: (again.row(name), again.queue_row(name, 0)) for name in "ABC"} == rows
    assert QueueTable(shared.queues).places["used"].sum() == 6


def test_a_topic_that_grows_moves_its_queues(shared: Shared, topics: Topics) -> None:
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    topics.put(TopicConfig("U", 1, 1), now_ms=NOW_MS)
    old = topics.queue_row("T", 0)
    topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    new = topics.queue_row("T", 0)
    places = QueueTable(shared.queues).places
    assert places["moved_to"][old : old + 2].tolist() == [new, new + 1]
    assert places["moved_to"][new : new + 4].tolist() == [-1] * 4
    assert [int(place["queue_id"]) for place in places[new : new + 4]] == [0, 1, 2, 3]


def test_a_topic_that_shrank_grows_in_place(topics: Topics) -> None:
    topics.put(TopicConfig("T", 8, 8), now_ms=NOW_MS)
    base = topics.queue_row("T", 0)
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    assert topics.queue_row("T", 3) == -1
    topics.put(TopicConfig("T", 8, 8), now_ms=NOW_MS)
    assert topics.queue_row("T", 0) == base


def test_a_death_between_moving_and_showing_is_made_good(shared: Shared, topics: Topics) -> None:
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    topics.put(TopicConfig("U", 1, 1), now_ms=NOW_MS)
    row, old = topics.row("T"), topics.queue_row("T", 0)
    queues = QueueTable(shared.queues)
    grown = queues.allocate(row, 4)
    queues.move(old, 2, grown)
    again = Kept(shared).topics
    again.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    assert again.queue_row("T", 0) == grown


def test_a_removed_topic_comes_back_in_its_row(shared: Shared, topics: Topics) -> None:
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    row = topics.row("T")
    topics.remove("T", now_ms=NOW_MS)
    assert (topics.row("T"), topics.queue_row("T", 0)) == (-1, -1)
    assert shared.topics.read(row) is None
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    assert topics.row("T") == row


def test_a_full_table_refuses_before_anything_is_kept(shared: Shared, topics: Topics) -> None:
    with pytest.raises(TableFull):
        topics.put(TopicConfig("T", 9000, 9000), now_ms=NOW_MS)
    assert "T" not in topics
    assert not shared.disk.exists(PATH)


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (TopicConfig("T", 1, 1), TOPIC_SEND | TOPIC_PULL),
        (TopicConfig("T", 1, 1, perm=2), TOPIC_SEND),
        (TopicConfig("T", 1, 1, perm=4), TOPIC_SEND | TOPIC_PULL),
        (TopicConfig("SCHEDULE_TOPIC_XXXX", 1, 1), TOPIC_PULL),
        (TopicConfig("%RETRY%g", 1, 1), TOPIC_PULL),
        (TopicConfig("T", 1, 1, filter_type="MULTI_TAG"), TOPIC_PULL),
        (TopicConfig("T", 1, 1, attributes={"cleanup.policy": "COMPACTION"}), TOPIC_PULL),
    ],
)
def test_the_fast_path_is_told_what_it_may_do(
    shared: Shared, topics: Topics, config: TopicConfig, flags: int
) -> None:
    topics.put(config, now_ms=NOW_MS)
    assert row_of(shared, config.name).flags == flags


def test_changes_are_taken_once(topics: Topics) -> None:
    topics.put(TopicConfig("T", 1, 1), TopicConfig("U", 1, 1), now_ms=NOW_MS)
    topics.put(TopicConfig("T", 2, 2), now_ms=NOW_MS)
    topics.remove("U", now_ms=NOW_MS)
    assert topics.take_changed() == [TopicConfig("T", 2, 2)]
    assert topics.take_changed() == []


def test_queues_are_bound_by_the_writer(shared: Shared, topics: Topics) -> None:
    topics.put(TopicConfig("T", 2, 3), now_ms=NOW_MS)
    assert topics.take_unbound() == [(topics.queue_row("T", 0), 3)]
    assert not topics.bound
    QueueTable(shared.queues).offsets["bound"][:3] = 1
    assert topics.bound


def test_rows_that_a_dead_predecessor_reserved_are_not_waited_for(
    shared: Shared, topics: Topics
) -> None:
    topics.put(TopicConfig("T", 1, 1), now_ms=NOW_MS)
    queues = QueueTable(shared.queues)
    queues.offsets["bound"][topics.queue_row("T", 0)] = 1
    queues.allocate(0, 5)
    assert topics.bound


def test_a_topic_that_cannot_be_kept_costs_no_rows(shared: Shared, topics: Topics) -> None:
    used = QueueTable(shared.queues).used
    shared.disk.fail(errno.ENOSPC, on="write_atomic", times=3)
    for _ in range(3):
        with pytest.raises(OSError):
            topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    assert QueueTable(shared.queues).used == used
    topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    assert topics.take_unbound() == [(used, 4)]


def test_names_that_nobody_has_are_no_rows(topics: Topics) -> None:
    for name in ("", "nobody", "\ud800"):
        assert topics.row(name) == -1
        assert topics.queue_row(name, 0) == -1


def test_the_text_is_javas() -> None:
    assert str(TopicConfig("T", 2, 3, perm=7, attributes={"a": "b", "c": "d"})) == (
        "TopicConfig [topicName=T, readQueueNums=2, writeQueueNums=3, perm=RWX, "
        "topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={a=b, c=d}]"
    )
