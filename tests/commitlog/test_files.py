"""files.py: names, and stores that are not ours to open."""

import pytest

from appliance.commitlog.files import (
    StorePaths,
    StoreRefused,
    check_store,
    offset_name,
    parse_offset_name,
    parse_queue_id,
)
from tests.fakes.disk import FakeDisk


def test_paths() -> None:
    paths = StorePaths("/data")
    assert paths.queue("%RETRY%g", 3) == "/data/consumequeue/%RETRY%g/3"
    assert (paths.commitlog, paths.checkpoint) == ("/data/commitlog", "/data/checkpoint")


def test_offset_names() -> None:
    assert offset_name(1073741824) == "00000000001073741824"
    assert parse_offset_name("/x/00000000001073741824") == 1073741824
    for name in ("1", "0000000000107374182x", "000000000010737418240", "\u0660" * 20):
        with pytest.raises(StoreRefused, match="20 digits"):
            parse_offset_name(f"/x/{name}")
    assert [parse_queue_id(name) for name in ("0", "17", "x", "-1", "")] == [
        0,
        17,
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/s/dledger-n0/data/0", "DLedger"),
        ("/s/consumequeue/CURRENT", "RocksDB"),
        ("/s/consumequeue/000012.sst", "RocksDB"),
        ("/s/batchconsumequeue/t/0/0", "BatchCQ"),
        ("/s/consumequeue_ext/t/0/0", "enableConsumeQueueExt"),
    ],
)
def test_foreign_stores_are_refused_untouched(path: str, reason: str) -> None:
    disk = FakeDisk()
    disk.add("/s/commitlog/00000000000000000000", bytes(100))
    disk.add(path, b"x")
    disk.operations.clear()
    with pytest.raises(StoreRefused, match=reason):
        check_store(disk, "/s")
    assert {operation for operation, _ in disk.operations} == {"listdir"}


def test_our_kind_of_store() -> None:
    disk = FakeDisk()
    check_store(disk, "/nothing")
    disk.add("/s/consumequeue/topic/0/00000000000000000000", bytes(200))
    disk.add("/s/compaction/position-checkpoint", b"{}")
    disk.make_directories("/s/batchconsumequeue")
    check_store(disk, "/s")
