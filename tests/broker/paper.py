"""A coordinator with a writer and frontends of paper, stepped by the test.

The writer stores records as the real one does, in memory and one by one: what the coordinator reads
back comes from real files of the fake disk.
"""

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import numpy as np

from appliance import heritage
from appliance.broker.effects import connection_of
from appliance.clock import Now
from appliance.commitlog.consume_queue import UNIT
from appliance.commitlog.files import offset_name
from appliance.commitlog.record import stamp
from appliance.config import Broker, Config, Limits, Store
from appliance.coordinator import Coordinator
from appliance.heritage import COORDINATOR, Heritage
from appliance.net import frame as frames
from appliance.net import json_text, requests
from appliance.net.frame import Frame
from appliance.net.link import Connect
from appliance.ring.region import PrivateSegments
from appliance.ring.ring import Ring
from appliance.ring.tables import QueueTable, TopicTable
from appliance.ring.watermarks import Watermarks
from clib import ffi, lib
from tests.fakes.disk import FakeDisk

LOG_SIZE = 1 << 20
QUEUE_ROWS = 1000
PEER = "127.0.0.1:48264"
START_MS = 1_800_000_000_000
LIMITS = msgspec.structs.replace(Limits.small(), queue_rows_max=4096)


def config(**broker: Any) -> Config:
    return Config(
        broker=Broker(**{"frontends": 2, "nameservers": (), **broker}), store=Store(root="/store")
    )


def make_heritage(settings: Config | None = None) -> Heritage:
    made = heritage.create(
        PrivateSegments(), settings or config(), LIMITS, (LOG_SIZE, QUEUE_ROWS * UNIT.itemsize)
    )
    made.doorbells.rows[COORDINATOR].generation = 1
    return made


class PaperWriter:
    """Stores what stands in the coordinator's send ring."""

    def __init__(self, shared: Heritage, disk: FakeDisk) -> None:
        self.code = 0
        """Other than 0: every append is refused so."""
        self.send = Ring(shared.send[-1], "ap_send")
        self.done = Ring(shared.done[-1], "ap_done")
        self._queues = QueueTable(shared.queues)
        self._topics = TopicTable(shared.topics)
        self._watermarks = Watermarks(shared.watermarks)
        self._disk = disk
        self._units: dict[str, Any] = {}
        path = f"/store/commitlog/{offset_name(0)}"
        disk.make_directories("/store/commitlog")
        create = not disk.exists(path)
        self._log = disk.open_map(path, LOG_SIZE, create=create, writable=True)
        if create:
            disk.allocate(self._log, 0, LOG_SIZE)

    def step(self, now: Now) -> int:
        first, last = self.send.poll()
        for position in range(first, last):
            self._serve(position, now)
            self.done.publish(position + 1)
            self.send.release(position + 1)
        return last - first

    def _serve(self, position: int, now: Now) -> None:
        entry = self.send.entries[position & self.send.mask]
        done = self.done.entries[position & self.done.mask]
        done["sequence"], done["code"] = position, self.code
        if entry["kind"] == lib.AP_BIND:
            for row in range(
                int(entry["queue_index"]), int(entry["queue_index"] + entry["record_count"])
            ):
                self._bind(row)
            done["code"] = 0
        elif not self.code:
            self._store(position, entry, done, now)

    def _bind(self, row: int) -> None:
        """A queue goes on where its file ends."""
        queue = self._queues.offsets[row]
        if not queue["bound"] and self._disk.exists(self._folder(row)):
            queue["next"] = queue["max"] = np.count_nonzero(self._unit_file(row)["size"])
        queue["bound"] = 1

    def _store(self, position: int, entry: Any, done: Any, now: Now) -> None:
        row = int(entry["queue_index"])
        done["physical_offset"] = self._watermarks.appended
        done["queue_offset"] = self._queues.next(row)
        done["store_timestamp"] = now.wall_ms
        for record, tags in self._records(position, entry):
            self._append(row, bytearray(record), tags, now)

    def _records(self, position: int, entry: Any) -> Iterator[tuple[bytes, int]]:
        data = bytes(self.send.data(position))
        size = int(entry["record_size"])
        index_at, at = size + -size % 8, 0
        for _ in range(int(entry["record_count"])):
            length = int.from_bytes(data[at : at + 4], "big")
            tags = int(entry["tags_code"])
            if int(entry["flags"]) & lib.AP_BATCH:
                assert int.from_bytes(data[index_at : index_at + 4], "little") == length
                tags = int.from_bytes(data[index_at + 8 : index_at + 16], "little", signed=True)
                index_at += 16
            yield data[at : at + length], tags
            at += length
        assert at == size

    def _append(self, row: int, record: bytearray, tags: int, now: Now) -> None:
        physical, queue_offset = self._watermarks.appended, self._queues.next(row)
        stamp(
            memoryview(record),
            queue_offset=queue_offset,
            physical_offset=physical,
            store_timestamp=now.wall_ms,
        )
        self._log.view[physical : physical + len(record)] = list(record)
        self._unit_file(row)[queue_offset] = (physical, len(record), tags)
        self._queues.offsets["next"][row] = self._queues.offsets["max"][row] = queue_offset + 1
        for name in ("appended", "flushed", "dispatched"):
            self._watermarks.move(name, physical + len(record))

    def _folder(self, row: int) -> str:
        place = self._queues.places[row]
        topic = self._topics.name(int(place["topic_row"]))
        return f"/store/consumequeue/{topic}/{int(place['queue_id'])}"

    def _unit_file(self, row: int) -> Any:
        folder = self._folder(row)
        if folder not in self._units:
            self._disk.make_directories(folder)
            path, size = f"{folder}/{offset_name(0)}", QUEUE_ROWS * UNIT.itemsize
            create = not self._disk.exists(path)
            mapped = self._disk.open_map(path, size, create=create, writable=True)
            if create:
                self._disk.allocate(mapped, 0, size)
            self._units[folder] = mapped.view.view(UNIT)
        return self._units[folder]


class Desk:
    """The coordinator's desk: who asks it by the rings, and what it says."""

    def __init__(
        self,
        shared: Heritage | None = None,
        disk: FakeDisk | None = None,
        connect: Connect | None = None,
        random: Random | None = None,
    ) -> None:
        self.heritage = shared or make_heritage()
        self.disk = disk or FakeDisk()
        self.now = Now(1_000_000_000, START_MS)
        self.connect = connect
        self.random = random or Random(1)
        self.writer = PaperWriter(self.heritage, self.disk)
        self.told: list[tuple[int, int, Frame | None]] = []
        """(kind, connection, frame) in the order they were told."""
        self._opaques = itertools.count(1)
        self._ask = [Ring(region, "ap_frame") for region in self.heritage.ask]
        self._tell = [Ring(region, "ap_frame") for region in self.heritage.tell]
        self.coordinator = self.make()
        self.run()

    def make(self) -> Coordinator:
        extra = {} if self.connect is None else {"connect": self.connect}
        return Coordinator(self.heritage, self.disk, self.now, random=self.random, **extra)

    def restart(self) -> None:
        """The coordinator dies where it stands; a successor takes over."""
        row = self.heritage.doorbells.rows[COORDINATOR]
        if self.coordinator.ready:
            row.ready = row.generation
        row.generation += 1
        self.coordinator = self.make()

    def run(self, *, writing: bool = True) -> None:
        """Steps until nothing is left to do."""
        for _ in range(1000):
            work = self.coordinator.step(self.now) + self._listen()
            if writing:
                work += self.writer.step(self.now)
            if not work:
                return
        raise AssertionError("it never comes to rest")

    def pass_ms(self, milliseconds: int) -> None:
        """Time goes by."""
        self.now = Now(
            self.now.monotonic_ns + milliseconds * 1_000_000, self.now.wall_ms + milliseconds
        )
        self.run()

    def open(self, local: int = 1, frontend: int = 0, peer: str = PEER) -> int:
        """A client connects; the name of its connection."""
        connection = connection_of(frontend, local)
        self.event(lib.AP_OPENED, connection, peer.encode())
        return connection

    def close(self, connection: int) -> None:
        """A client is gone."""
        self.event(lib.AP_CLOSED, connection)

    def event(self, kind: int, connection: int, data: bytes = b"", values: Any = (0,) * 4) -> None:
        """One entry of a frontend's ask ring."""
        ring = self._ask[connection >> 64]
        local = connection & (1 << 64) - 1
        assert ring.push(data, kind=kind, connection=local, size=len(data), values=values)

    def put(
        self,
        connection: int,
        name: str | int,
        fields: dict[str, Any] | None = None,
        body: bytes | dict[str, Any] = b"",
        *,
        flag: int = 0,
        version: int = 479,
    ) -> int:
        """A client sends a request; its opaque."""
        opaque = next(self._opaques)
        code = name if isinstance(name, int) else requests.BY_NAME[name].code
        text = {key: str(value) for key, value in (fields or {}).items()}
        data = body if isinstance(body, bytes) else json_text.dumps(body)
        frame = Frame(code, opaque, flag, frames.JAVA, version, None, text, data)
        self.event(lib.AP_FRAME, connection, frames.encode(frame)[4:])
        return opaque

    def ask(self, connection: int, name: str | int, *args: Any, **keywords: Any) -> Frame:
        """A client sends a request, and gets this answer."""
        opaque = self.put(connection, name, *args, **keywords)
        self.run()
        return self.answer(opaque)

    def answer(self, opaque: int) -> Frame:
        """What a request was answered; asserts that it was, once."""
        found = self.answers(opaque)
        assert len(found) == 1, f"{len(found)} answers to request {opaque}"
        return found[0]

    def answers(self, opaque: int) -> list[Frame]:
        """All answers to a request."""
        return [
            frame
            for kind, _, frame in self.told
            if kind == lib.AP_FRAME and frame is not None and frame.response
            if frame.opaque == opaque
        ]

    def pushes(self) -> list[tuple[int, Frame]]:
        """(connection, frame) of what clients were sent unasked; forgets them."""
        pushed = [
            (connection, frame)
            for kind, connection, frame in self.told
            if kind == lib.AP_FRAME and frame is not None and not frame.response
        ]
        self.told = [one for one in self.told if (one[1], one[2]) not in pushed]
        return pushed

    def kinds(self) -> list[int]:
        """The kinds of all that was told."""
        return [kind for kind, _, _ in self.told]

    def _listen(self) -> int:
        heard = 0
        for number, ring in enumerate(self._tell):
            first, last = ring.poll()
            for position in range(first, last):
                entry = ring.entries[position & ring.mask]
                data = bytes(ring.data(position, int(entry["size"])))
                kind = int(entry["kind"])
                frame = frames.decode(data[4:]) if kind == lib.AP_FRAME else None
                self.told.append((kind, connection_of(number, int(entry["connection"])), frame))
            ring.release(last)
            heard += last - first
        return heard


def page_of(shared: Heritage) -> Any:
    """The coordinator's page, to look at."""
    return ffi.cast("ap_coordinator *", shared.coordinator.address)
