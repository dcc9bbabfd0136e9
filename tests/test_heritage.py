"""heritage.py: all that crosses the fork is there, leads where it should, and can go again."""

import pytest

from appliance import heritage as heritages
from appliance.config import Broker, Config, Limits
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER, process_name
from appliance.ring.region import PrivateSegments, Region, RegionError
from appliance.ring.ring import Ring
from appliance.ring.tables import QueueTable, TopicTable

LIMITS = Limits.small()


class LittleRoom(PrivateSegments):
    """Has room for so many regions."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.made: list[str] = []
        self.removed = False

    def create(self, what: str, size: int) -> Region:
        if len(self.made) == self.room:
            raise RegionError("/dev/shm: no room")
        self.made.append(what)
        return super().create(what, size)

    def remove(self) -> None:
        self.removed = True


def make(segments: PrivateSegments, frontends: int = 3) -> heritages.Heritage:
    config = Config(Broker(frontends=frontends, advertise="localhost"))
    return heritages.create(segments, config, LIMITS, (4096, 200))


def test_every_process_has_a_name_and_a_number() -> None:
    numbers = (WRITER, COORDINATOR, NAMESERVER, FRONTEND, FRONTEND + 7)
    names = ["writer", "coordinator", "nameserver", "frontend-0", "frontend-7"]
    assert [process_name(number) for number in numbers] == names


def test_each_pair_of_rings_has_its_owner() -> None:
    heritage = make(PrivateSegments())
    assert heritage.frontends == 3
    assert [heritage.owner_of_ring(i) for i in range(4)] == [FRONTEND + i for i in range(3)] + [
        COORDINATOR
    ]
    assert [len(regions) for regions in (heritage.send, heritage.done)] == [4, 4]
    assert [len(regions) for regions in (heritage.ask, heritage.tell)] == [3, 3]
    assert len(heritage.doorbells.rows) == FRONTEND + 3
    heritage.doorbells.close()


def test_sizes_are_those_of_the_limits() -> None:
    heritage = make(PrivateSegments())
    for send, done in zip(heritage.send, heritage.done, strict=True):
        assert Ring(send, "ap_send").capacity == Ring(done, "ap_done").capacity
        assert Ring(send, "ap_send").arena_size == LIMITS.arena_size
    for frames in (*heritage.ask, *heritage.tell):
        assert Ring(frames, "ap_frame").capacity == LIMITS.frame_ring_entries
    assert QueueTable(heritage.queues).rows_max == LIMITS.queue_rows_max
    assert len(TopicTable(heritage.topics).rows) == LIMITS.topics_max
    assert (heritage.log_file_size, heritage.queue_file_size) == (4096, 200)
    assert heritage.store_host == "127.0.0.1"
    heritage.doorbells.close()


def test_regions_have_names_of_their_own() -> None:
    segments = LittleRoom(100)
    make(segments).doorbells.close()
    assert len(segments.made) == len(set(segments.made)) and not segments.removed


@pytest.mark.parametrize("room", [0, 5, 12])
def test_where_there_is_no_room_nothing_stays(room: int) -> None:
    segments = LittleRoom(room)
    with pytest.raises(RegionError, match="no room"):
        make(segments)
    assert segments.removed
