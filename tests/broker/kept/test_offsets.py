"""Consume offsets: in shared memory at once, on disk soon, and never lost by a rewrite."""

import errno
import json
from typing import Any

import pytest

from appliance.broker.kept.offsets import NONE
from appliance.broker.kept.topics import TopicConfig
from tests.broker.kept.tables import NOW_MS, Kept, Shared

PATH = "/store/config/consumerOffset.json"


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def kept(shared: Shared) -> Kept:
    made = Kept(shared)
    made.topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    made.groups.find("G", now_ms=NOW_MS)
    return made


def file_of(shared: Shared) -> dict[str, Any]:
    text = shared.disk.read(PATH).decode()
    for number in range(10):
        text = text.replace(f"{{{number}:", f'{{"{number}":').replace(
            f",{number}:", f',"{number}":'
        )
    read: dict[str, Any] = json.loads(text)
    return read


def test_what_is_committed_is_there(kept: Kept) -> None:
    assert kept.offsets.get("T", "G", 1) == NONE
    kept.offsets.commit("T", "G", 1, 7)
    assert kept.offsets.get("T", "G", 1) == 7
    kept.offsets.commit("T", "G", 1, 3)
    assert kept.offsets.get("T", "G", 1) == 3


def test_a_dead_coordinator_loses_none(shared: Shared, kept: Kept) -> None:
    kept.offsets.commit("T", "G", 1, 5)
    kept.offsets.save(now_ms=NOW_MS)
    kept.offsets.commit("T", "G", 1, 9)
    successor = Kept(shared)
    assert successor.offsets.get("T", "G", 1) == 9
    assert successor.offsets.save(now_ms=NOW_MS), "the file is behind the table"
    shared.forget_memory()
    assert Kept(shared).offsets.get("T", "G", 1) == 9


def test_the_file_is_apaches(shared: Shared, kept: Kept) -> None:
    kept.offsets.commit("T", "G", 0, 5)
    kept.offsets.commit("T", "G", 1, 6)
    kept.offsets.save(now_ms=NOW_MS)
    assert b'"offsetTable":{"T@G":{0:5,1:6}}' in shared.disk.read(PATH)
    assert file_of(shared)["groupTopicMap"] == {"G": ["T"]}


def test_only_changes_are_written(kept: Kept) -> None:
    assert not kept.offsets.save(now_ms=NOW_MS)
    kept.offsets.commit("T", "G", 0, 5)
    assert kept.offsets.save(now_ms=NOW_MS)
    assert not kept.offsets.save(now_ms=NOW_MS)


def test_a_failed_write_is_tried_again(shared: Shared, kept: Kept) -> None:
    kept.offsets.commit("T", "G", 0, 5)
    shared.disk.fail(errno.EIO, on="write_atomic")
    with pytest.raises(OSError, match="Input/output"):
        kept.offsets.save(now_ms=NOW_MS)
    assert kept.offsets.save(now_ms=NOW_MS)


def test_offsets_of_unknown_names_are_written_back(shared: Shared) -> None:
    shared.disk.add(PATH, b'{"offsetTable":{"gone@G":{0:4},"T@lost":{"2":8}}}')
    kept = Kept(shared)
    kept.topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    kept.groups.find("G", now_ms=NOW_MS)
    kept.offsets.commit("T", "G", 0, 1)
    kept.offsets.save(now_ms=NOW_MS)
    table = file_of(shared)["offsetTable"]
    assert table == {"gone@G": {"0": 4}, "T@lost": {"2": 8}, "T@G": {"0": 1}}


def test_what_was_aside_counts_once_its_names_are_back(shared: Shared) -> None:
    shared.disk.add(PATH, b'{"offsetTable":{"T@G":{0:4,1:5}}}')
    kept = Kept(shared)
    kept.topics.put(TopicConfig("T", 4, 4), now_ms=NOW_MS)
    kept.groups.find("G", now_ms=NOW_MS)
    assert kept.offsets.get("T", "G", 0) == 4
    kept.offsets.commit("T", "G", 0, 6)
    assert [kept.offsets.get("T", "G", queue) for queue in (0, 1)] == [6, 5]
    kept.offsets.save(now_ms=NOW_MS)
    assert file_of(shared)["offsetTable"] == {"T@G": {"0": 6, "1": 5}}


def test_offsets_of_a_deleted_topic_are_not_forgotten(shared: Shared, kept: Kept) -> None:
    kept.offsets.commit("T", "G", 0, 5)
    kept.topics.remove("T", now_ms=NOW_MS)
    kept.offsets.save(now_ms=NOW_MS)
    assert file_of(shared)["offsetTable"] == {"T@G": {"0": 5}}


def test_a_cleaned_group_is_not_revived(shared: Shared, kept: Kept) -> None:
    kept.groups.find("H", now_ms=NOW_MS)
    for group in "GH":
        kept.offsets.commit("T", group, 0, 5)
    kept.offsets.save(now_ms=NOW_MS)
    kept.offsets.remove_group("G", now_ms=NOW_MS)
    assert Kept(shared).offsets.get("T", "G", 0) == NONE
    shared.forget_memory()
    again = Kept(shared)
    assert again.offsets.get("T", "G", 0) == NONE
    assert again.offsets.get("T", "H", 0) == 5


@pytest.mark.parametrize("queue", [-1, 1 << 22, -(1 << 31), (1 << 31) - 1])
def test_a_queue_that_cannot_be_is_not_kept(kept: Kept, queue: int) -> None:
    kept.offsets.commit("T", "G", queue, 5)
    assert kept.offsets.get("T", "G", queue) == NONE


def test_a_queue_that_is_not_there_yet_is_kept(kept: Kept) -> None:
    kept.offsets.commit("T", "G", 99, 5)
    assert kept.offsets.get("T", "G", 99) == 5


def test_the_version_moves_every_so_many_commits(kept: Kept) -> None:
    for offset in range(500):
        kept.offsets.commit("T", "G", 0, offset)
    kept.offsets.save(now_ms=NOW_MS)
    assert kept.offsets.version.counter == 1


def test_no_group_is_ahead_of_what_a_power_cut_left(kept: Kept) -> None:
    for queue in range(3):
        kept.offsets.commit("T", "G", queue, 5)
    kept.offsets.save(now_ms=NOW_MS)
    kept.offsets.cap(lambda topic, queue: {0: 3, 1: 7}.get(queue))
    assert [kept.offsets.get("T", "G", queue) for queue in range(3)] == [3, 5, 5]
    assert kept.offsets.save(now_ms=NOW_MS)
