"""The appliance from one start to its end: supervisor, processes and what they share.

Runs in: the seeded simulation.
Owns: the heritage of one start and the children that grow from it.
Fails: OSError when the disk refuses the start.
"""

from collections.abc import Callable
from random import Random
from typing import cast

import msgspec

from appliance import heritage as heritages
from appliance.commitlog.checkpoint import lock_store
from appliance.commitlog.consume_queue import UNIT_SIZE, found_row_count
from appliance.commitlog.files import StorePaths, check_store
from appliance.commitlog.mapped_file import found_file_size
from appliance.config import Broker, Config, Limits, Nameserver, Store
from appliance.coordinator import Coordinator
from appliance.frontend import Frontend, make_sockets, socket_limits
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER
from appliance.nameserver import NameServer
from appliance.namesrv.settings import Settings
from appliance.net.poll import Sockets
from appliance.process import Process
from appliance.ring.region import PrivateSegments
from appliance.ring.watermarks import STARTING, Watermarks
from appliance.supervisor import Supervisor
from appliance.values import KIB
from appliance.writer import Writer
from tests.fakes.clock import FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.fork import FakeFork
from tests.fakes.sockets import FakeNetwork
from tests.fakes.syncer import FakeSyncer
from tests.simulation.plan import Plan

ROOT = "/store"
MESSAGE_MAX = 10_000
FRAME_MAX = 32 * KIB


def limit(plan: Plan) -> Limits:
    """Small enough that rings fill up."""
    return msgspec.structs.replace(
        Limits.small(),
        connections_max=16,
        frame_max=FRAME_MAX,
        ring_entries=plan.ring_entries,
        frame_ring_entries=plan.ring_entries,
        arena_size=plan.arena_size,
    )


def configure(plan: Plan) -> Config:
    """The broker.toml of a history."""
    store = Store(
        root=ROOT,
        flush="sync" if plan.sync else "async",
        commitlog_file_size=plan.log_file_size,
        consumequeue_entries=plan.queue_rows,
        max_message_size=MESSAGE_MAX,
    )
    nameservers = ("127.0.0.1:9876",) if plan.nameserver else ()
    broker = Broker(frontends=plan.frontends, nameservers=nameservers)
    return Config(broker, Nameserver(enabled=plan.nameserver), store)


class Machine:
    """What the supervisor's start does, with fakes for what it is handed."""

    def __init__(
        self, plan: Plan, disk: FakeDisk, clock: FakeClock, network: FakeNetwork, random: Random
    ) -> None:
        self._plan, self._disk, self._clock = plan, disk, clock
        self._network, self._random = network, random
        config, paths = configure(plan), StorePaths(ROOT)
        check_store(disk, ROOT)
        disk.make_directories(paths.config)
        self._lock = lock_store(disk, paths)
        log_size = found_file_size(disk, [paths.commitlog], config.store.commitlog_file_size)
        rows = found_row_count(disk, paths.consumequeue, config.store.consumequeue_entries)
        sizes = log_size, rows * UNIT_SIZE
        self.heritage = heritages.create(PrivateSegments(), config, limit(plan), sizes)
        self.watermarks = Watermarks(self.heritage.watermarks)
        self.fork = FakeFork(self.heritage, clock, network, self._make)
        self.supervisor = Supervisor(self.heritage, self.fork)
        self.syncer: FakeSyncer | None = None
        network.up = True

    def _make(self, number: int) -> Process:
        """As launch.make, over the fakes."""
        if number == WRITER:
            bells = self.heritage.doorbells
            self.syncer = FakeSyncer(
                self._disk, self._clock, self._sync_ns, lambda: bells.wake(WRITER)
            )
            return Writer(self.heritage, self._disk, self.syncer, self._clock)
        if number == COORDINATOR:
            return Coordinator(
                self.heritage,
                self._disk,
                self._clock.now(),
                connect=lambda _: self._network.connect(NAMESERVER, by=COORDINATOR),
                random=Random(self._random.random()),
            )
        if number == NAMESERVER:
            return self._make_nameserver()
        sockets = make_sockets(number - FRONTEND, self.heritage)
        self._network.serve(number, sockets)
        return Frontend(number - FRONTEND, self.heritage, sockets, self._disk)

    def _make_nameserver(self) -> Process:
        sockets = Sockets(socket_limits(self.heritage))
        sockets.watch_doorbell(self.heritage.doorbells.bells[NAMESERVER])
        self._network.serve(NAMESERVER, sockets)
        settings = Settings.kept_in(f"{ROOT}/namesrv", 9876)
        return NameServer(sockets, self._disk, settings, self._clock.now())

    def _sync_ns(self) -> int:
        return int(self._random.expovariate(1) * self._plan.sync_ns)

    # ---- turns ----------------------------------------------------------------------------------

    def turns(self, number: int) -> Callable[[], bool]:
        """The turns of one child, whichever object it is just now."""
        fork = self.fork
        return lambda: number in fork.running and fork.turn(number)

    def supervise(self) -> bool:
        """The supervisor's turn."""
        return self.supervisor.step(self._clock.now()) > 0

    def sync(self) -> bool:
        """The turn of the thread that syncs."""
        return WRITER in self.fork.running and self.syncer is not None and self.syncer.turn()

    def due_ns(self) -> int:
        """When somebody here has something to do, if nothing happens before."""
        sleepers = [child.wake_ns for child in self.fork.running.values()]
        syncer = self.syncer.due_ns if self.syncer is not None else None
        return min([self.supervisor.next_ns(), *sleepers, *([] if syncer is None else [syncer])])

    # ---- to look at -----------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """The writer has recovered the store."""
        return self.watermarks.state != STARTING

    def knows_routes(self, topics: set[str]) -> bool:
        """Whether the NameServer, if there is one, has heard of these topics."""
        if not self._plan.nameserver:
            return True
        child = self.fork.running.get(NAMESERVER)
        if child is None or child.process is None:
            return False
        return topics <= cast(NameServer, child.process).state.topics.keys()

    def disorder(self) -> str:
        """What is wrong with the order of the watermarks; "" when nothing is."""
        page = self.watermarks
        marks = page.expired, page.flushed, page.dispatched, page.appended
        expired, flushed, dispatched, appended = marks
        good = expired <= flushed <= appended and dispatched <= appended
        if self._plan.sync:
            good = good and dispatched <= flushed
        return "" if good else f"expired, flushed, dispatched, appended are {marks}"

    # ---- the end --------------------------------------------------------------------------------

    def end(self) -> None:
        """Everything is gone but the disk."""
        self.fork.kill_all()
        self._network.shut_all()
        self._lock.release()
        self.heritage.doorbells.close()
