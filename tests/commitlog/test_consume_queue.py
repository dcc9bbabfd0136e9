"""consume_queue.py: what a real broker answered to pulls and to searches by time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.commitlog.consume_queue import UNIT, UNIT_SIZE, ConsumeQueueReader
from appliance.commitlog.disk import RealDisk
from appliance.commitlog.record import tags_code
from tests.commitlog import stores
from tests.commitlog.stores import Opened, make_rows, open_store
from tests.fakes.disk import FakeDisk

PULLS = stores.manifest("pull_cases")["stores"]


@pytest.mark.parametrize("name", ["clean", "crash"])
def test_offset_by_time(name: str, tmp_path: Path) -> None:
    opened = open_store(RealDisk(), str(stores.unpack(name, tmp_path)))
    reader, log, bounds = opened.queue_reader(), opened.log_reader(), opened.bounds()
    for case in stores.manifest(name)["offsetByTime"]:
        topic, queue_id = case["topic"], case["queueId"]
        low, high = bounds[topic][str(queue_id)]
        for upper, expected in ((False, case["lower"]), (True, case["upper"])):
            found = reader.offset_by_time(
                topic, queue_id, case["timestamp"], log=log, bounds=(low, high), upper=upper
            )
            assert found == expected, case


@pytest.mark.parametrize("store", PULLS)
def test_pulls(store: str, tmp_path: Path) -> None:
    """The rows of every pull case, taken by the broker's own rules, point at its records."""
    root = stores.unpack(PULLS[store]["base"], tmp_path)
    stores.damage(root, PULLS[store]["changes"])
    opened = open_store(RealDisk(), str(root))
    for case in PULLS[store]["pulls"]:
        if case["remark"].startswith("queueId"):
            continue  # the topic's configuration says so, not the store
        answer = pull(opened, case)
        expected = (case["remark"], case["nextBeginOffset"], case["physicalOffsets"])
        assert answer == expected, case


def pull(opened: Opened, case: Any) -> tuple[str, int, list[int]]:
    """Status, next offset and records: section 7.1 of the store sheet, one row at a time."""
    topic, queue_id, offset = case["topic"], case["queueId"], case["offset"]
    low, high = opened.bounds().get(topic, {}).get(str(queue_id), [0, 0])
    assert (low, high) == (case["minOffset"], case["maxOffset"])
    if high == 0:
        return "NO_MESSAGE_IN_QUEUE", 0, []
    if offset < low:
        return "OFFSET_TOO_SMALL", low, []
    if offset >= high:
        late = offset > high
        return ("OFFSET_OVERFLOW_BADLY" if late else "OFFSET_OVERFLOW_ONE"), high, []
    rows = opened.queue_reader().rows(
        topic, queue_id, offset, count_max=max(800, case["maxNums"]), visible_max=high
    )
    return take(opened, rows, case)


def take(opened: Opened, rows: np.ndarray[Any, Any], case: Any) -> tuple[str, int, list[int]]:
    log, found = opened.log_reader(), list[int]()
    wanted = {tags_code(tag.strip()) for tag in case["sub"].split("||")}
    status, size, last, skip_to = "NO_MATCHED_MESSAGE", 0, case["offset"] - 1, -1
    for row, unit in enumerate(rows, case["offset"]):
        physical, unit_size = int(unit["physical_offset"]), int(unit["size"])
        if found and (len(found) >= case["maxNums"] or size + unit_size > 262144):
            break
        last = row
        if physical < skip_to:
            continue
        if case["sub"] != "*" and int(unit["tags_code"]) not in wanted:
            continue
        if log.record_at(physical) is None:
            status, skip_to = "MESSAGE_WAS_REMOVING", physical - physical % 65536 + 65536
            continue
        found.append(physical)
        size += unit_size
    return ("FOUND" if found else status), last + 1, found


def written() -> tuple[FakeDisk, ConsumeQueueReader]:
    """A queue of 25 rows in files of 10; row i is the record at 1000 * i."""
    disk = FakeDisk()
    opened = open_store(disk, "/store")
    slot = opened.queues.slot("topic", 3)
    opened.queues.write_rows(make_rows(*((slot, i, 1000 * i, 100) for i in range(25))))
    return disk, opened.queue_reader()


def test_rows_stay_within_one_file_and_what_is_visible() -> None:
    _, reader = written()
    rows = reader.rows("topic", 3, 4, count_max=100, visible_max=25)
    assert rows["physical_offset"].tolist() == [1000 * i for i in range(4, 10)]
    assert rows["tags_code"].tolist() == [7] * 6
    assert len(reader.rows("topic", 3, 4, count_max=2, visible_max=25)) == 2
    assert len(reader.rows("topic", 3, 4, count_max=100, visible_max=5)) == 1
    for first, visible in ((4, 4), (5, 4), (-1, 25), (30, 40)):
        assert len(reader.rows("topic", 3, first, count_max=9, visible_max=visible)) == 0
    assert len(reader.rows("other", 0, 0, count_max=9, visible_max=9)) == 0
    assert reader.next_file_row(4) == 10 and reader.next_file_row(10) == 20


def test_rows_cannot_be_written_by_a_reader() -> None:
    _, reader = written()
    rows = reader.rows("topic", 3, 0, count_max=9, visible_max=25)
    with pytest.raises(ValueError, match="read-only"):
        rows["size"] = 0


def test_a_span_is_where_the_rows_lie() -> None:
    _, reader = written()
    address, count = reader.span("topic", 3, 12, count_max=5, visible_max=25)
    rows = reader.rows("topic", 3, 12, count_max=5, visible_max=25)
    assert (address, count) == (rows.__array_interface__["data"][0], 5)
    assert reader.span("topic", 3, 25, count_max=5, visible_max=25) == (0, 0)
    assert UNIT.itemsize == UNIT_SIZE


def test_only_so_many_files_stay_mapped() -> None:
    disk, _ = written()
    reader = ConsumeQueueReader(disk, "/store/consumequeue", file_size=200, mapped_max=2)
    for row in (0, 10, 20, 0):
        assert reader.span("topic", 3, row, count_max=1, visible_max=25)[1] == 1
    opened = [path[-3:] for operation, path in disk.operations if operation == "open_map"]
    assert opened[-4:] == ["000", "200", "400", "000"]
    reader.forget("topic")
    reader.span("topic", 3, 0, count_max=1, visible_max=25)
    assert len([1 for operation, _ in disk.operations if operation == "open_map"]) > len(opened)
