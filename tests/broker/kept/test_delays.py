"""Delay levels: how long, and how far each is delivered."""

import pytest

from appliance.broker.kept.delays import LEVELS_MS, Delays, delay_ms
from appliance.broker.kept.file import StateFile
from tests.fakes.disk import FakeDisk

PATH = "/store/config/delayOffset.json"


@pytest.fixture
def disk() -> FakeDisk:
    made = FakeDisk()
    made.make_directories("/store/config")
    return made


def load(disk: FakeDisk) -> Delays:
    delays = Delays(StateFile(disk, PATH))
    delays.load()
    return delays


def test_the_levels_are_apaches() -> None:
    assert (len(LEVELS_MS), delay_ms(1), delay_ms(5), delay_ms(18)) == (18, 1000, 60_000, 7_200_000)


def test_a_real_brokers_file_is_read(disk: FakeDisk) -> None:
    disk.add(PATH, b'{\n\t"dataVersion":{"counter":6},\n\t"offsetTable":{1:2,2:1,17:0\n\t}\n}')
    delays = load(disk)
    assert [delays.offset(level) for level in (1, 2, 3, 17)] == [2, 1, 0, 0]
    assert delays.version.counter == 6


def test_progress_survives(disk: FakeDisk) -> None:
    delays = load(disk)
    assert not delays.save(now_ms=1)
    delays.advance(3, 7)
    assert delays.save(now_ms=1)
    assert load(disk).offset(3) == 7
    assert b'"offsetTable":{3:7}' in disk.read(PATH)
