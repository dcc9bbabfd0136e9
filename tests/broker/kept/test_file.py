"""State files: Apache's tolerance when reading, nothing lost when writing."""

import errno
import random
from contextlib import suppress
from typing import Any

import pytest

from appliance.broker.kept.file import DataVersion, StateFile, StateFileError
from tests.fakes.disk import FakeDisk

PATH = "/store/config/x.json"


def whole(value: dict[str, Any]) -> dict[str, Any]:
    assert value["n"] >= 0
    return value


@pytest.fixture
def disk() -> FakeDisk:
    made = FakeDisk()
    made.make_directories("/store/config")
    return made


def load(disk: FakeDisk) -> Any:
    return StateFile(disk, PATH).load(lambda value: value["n"])


def test_nothing_was_kept(disk: FakeDisk) -> None:
    assert load(disk) is None


def test_what_is_saved_is_read(disk: FakeDisk) -> None:
    StateFile(disk, PATH).save({"n": 7})
    assert load(disk) == 7


def test_bare_integer_keys_are_read(disk: FakeDisk) -> None:
    disk.add(PATH, b'{\n\t"n":{0:21,1:22\n\t}\n}')
    assert load(disk) == {0: 21, 1: 22}


@pytest.mark.parametrize("broken", [b"", b" \n", b'{"n":', b"\0" * 64, b"[]", b'{"m":1}'])
def test_the_backup_stands_in(disk: FakeDisk, broken: bytes) -> None:
    disk.add(PATH, broken)
    disk.add(PATH + ".bak", b'{"n":3}')
    assert load(disk) == 3


@pytest.mark.parametrize("broken", [b"", b'{"n":'])
def test_without_a_backup_nothing_was_kept(disk: FakeDisk, broken: bytes) -> None:
    disk.add(PATH, broken)
    assert load(disk) is None


def test_two_unreadable_files_stop_the_start(disk: FakeDisk) -> None:
    disk.add(PATH, b"{")
    disk.add(PATH + ".bak", b"{")
    with pytest.raises(StateFileError, match=r"x\.json and its \.bak"):
        load(disk)


def test_the_backup_is_what_was_good_before(disk: FakeDisk) -> None:
    file = StateFile(disk, PATH)
    file.save({"n": 1})
    file.save({"n": 2})
    assert disk.read(PATH + ".bak") == b'{"n":1}'


def test_garbage_never_becomes_the_backup(disk: FakeDisk) -> None:
    disk.add(PATH, b"garbage")
    disk.add(PATH + ".bak", b'{"n":3}')
    file = StateFile(disk, PATH)
    file.load(whole)
    file.save({"n": 4})
    assert disk.read(PATH + ".bak") == b'{"n":3}'


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_leaves_the_old_or_the_new(disk: FakeDisk, seed: int) -> None:
    rng = random.Random(seed)
    file = StateFile(disk, PATH)
    file.save({"n": 1})
    disk.fail(errno.EIO, after=rng.randrange(7), on="write_atomic", times=9)
    saved = 1
    with suppress(OSError):
        for saved in (1, 2, 3, 4):
            file.save({"n": saved + 1})
    disk.power_cut(rng)
    assert load(disk) in (saved, saved + 1)


def test_a_version_never_goes_back() -> None:
    version = DataVersion(counter=4, timestamp=2_000)
    assert version.next(1_000) == DataVersion(counter=5, timestamp=2_000)
    assert version.next(3_000) == DataVersion(counter=5, timestamp=3_000)


def test_a_version_of_4x_has_no_state() -> None:
    assert DataVersion.from_json({"counter": 2, "timestamp": 9}) == DataVersion(2, 9)
    assert DataVersion.from_json(None) == DataVersion()


def test_a_failed_write_is_told(disk: FakeDisk) -> None:
    file = StateFile(disk, PATH)
    file.save({"n": 1})
    disk.fail(errno.ENOSPC, on="write_atomic")
    with pytest.raises(OSError, match="No space"):
        file.save({"n": 2})
    assert load(disk) == 1
