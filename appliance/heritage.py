"""What crosses the fork: the configuration, the shared memory, the doorbells and the listeners.

Runs in: made by the supervisor before its first fork; every child inherits it as it is.
Owns: the numbers of the processes, and which ring leads from whom to whom.
Fails: RegionError when shared memory cannot be had.
"""

import os
import socket
from dataclasses import dataclass, field

from appliance.config import Config, Limits
from appliance.ring import region, ring, tables, wait, watermarks
from appliance.ring.region import Region, Segments
from clib import ffi

WRITER, COORDINATOR, NAMESERVER, FRONTEND = 0, 1, 2, 3
"""Numbers in the process table; frontend i is FRONTEND + i."""


def process_name(number: int) -> str:
    """What the process is called, in `ps` and in log lines."""
    fixed = {WRITER: "writer", COORDINATOR: "coordinator", NAMESERVER: "nameserver"}
    return fixed.get(number, f"frontend-{number - FRONTEND}")


@dataclass(frozen=True)
class Heritage:
    """All that the children share. Lists of regions are by frontend.

    The last of `send` and `done` is the coordinator's. `store_host` is the numeric address that
    records carry; the file sizes (bytes) are the store's own, where it has files already.
    """

    config: Config
    limits: Limits
    segments: Segments
    watermarks: Region
    writer: Region
    coordinator: Region
    topics: Region
    groups: Region
    subscriptions: Region
    offsets: Region
    queues: Region
    send: list[Region]
    done: list[Region]
    ask: list[Region]
    tell: list[Region]
    doorbells: wait.Doorbells
    owner_pid: int
    log_file_size: int
    queue_file_size: int
    store_host: str = "127.0.0.1"
    listeners: dict[int, list[socket.socket]] = field(default_factory=dict)

    @property
    def frontends(self) -> int:
        """How many frontends there are."""
        return len(self.ask)

    def owner_of_ring(self, number: int) -> int:
        """The process that produces into send ring `number` and waits for its answers."""
        return COORDINATOR if number == self.frontends else FRONTEND + number


def create(segments: Segments, config: Config, limits: Limits, sizes: tuple[int, int]) -> Heritage:
    """Allocates everything; nothing is left behind when it fails. `sizes`: bytes of a log file
    and of a queue file."""
    try:
        return _create(segments, config, limits, sizes)
    except region.RegionError:
        segments.remove()
        raise


def _create(segments: Segments, config: Config, limits: Limits, sizes: tuple[int, int]) -> Heritage:
    count = config.broker.frontends
    entries, frames, arena = limits.ring_entries, limits.frame_ring_entries, limits.arena_size

    def rings(what: str, kind: str, number: int, capacity: int, arena_size: int) -> list[Region]:
        return [
            ring.create(segments, f"{what}-{i}", kind, capacity, arena_size) for i in range(number)
        ]

    processes = wait.create(segments)
    return Heritage(
        config=config,
        limits=limits,
        segments=segments,
        watermarks=watermarks.create(segments),
        writer=segments.create("writer", ffi.sizeof("ap_writer")),
        coordinator=segments.create("coordinator", ffi.sizeof("ap_coordinator")),
        topics=tables.create_named(segments, "topics", "ap_topic", limits.topics_max),
        groups=tables.create_named(segments, "groups", "ap_group", limits.groups_max),
        subscriptions=tables.create_keyed(
            segments, "subscriptions", "ap_subscription", limits.subscriptions_max
        ),
        offsets=tables.create_keyed(segments, "offsets", "ap_offset", limits.offsets_max),
        queues=tables.create_queues(segments, limits.queue_rows_max),
        send=rings("send", "ap_send", count + 1, entries, arena),
        done=rings("done", "ap_done", count + 1, entries, 0),
        ask=rings("ask", "ap_frame", count, frames, arena),
        tell=rings("tell", "ap_frame", count, frames, arena),
        doorbells=wait.Doorbells(processes, FRONTEND + count),
        owner_pid=os.getpid(),
        log_file_size=sizes[0],
        queue_file_size=sizes[1],
        store_host=numeric_address(config.broker.advertise),
    )


def numeric_address(host: str) -> str:
    """The address that a name stands for, as records carry it (storeHost). OSError: it has none."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
