"""A whole appliance inside one process: who has the next turn, and what breaks, comes from a seed.

    python -m tests.simulation.world SEED...     replays histories and tells what was wrong

Runs in: tests/simulation, and by hand.
Owns: clock, disk, network, machine and clients of one history.
Fails: never; what the appliance does wrong is in the Outcome.
"""

import gc
import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from socket import socket
from typing import Any

from appliance import failpoint
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER, process_name
from tests.fakes.clock import FakeClock
from tests.fakes.disk import FakeDisk
from tests.fakes.fork import Killed
from tests.fakes.sockets import FakeNetwork
from tests.simulation.checker import Books, check_store
from tests.simulation.clients import MS, Client, Load, Producer
from tests.simulation.machine import ROOT, Machine
from tests.simulation.plan import (
    CUT,
    DISK,
    FULL,
    KILL,
    KILL_ALL,
    POWER,
    RESTART,
    STALL,
    STEP,
    Fault,
    draw,
)
from tests.simulation.readers import Consumer, Reader

TURNS_MAX = 6000
"""Turns under faults; then they stop."""
SETTLE_NS = 60_000 * MS
"""So soon after the last fault all that was asked is answered."""
FULL_TURNS, STALL_TURNS = 300, 150
START_PAUSE_NS = 10 * MS
FLOODED_SIZE = 16_384
"""The largest log file that a batch of many small messages is too long for."""
SHOWN_MAX = 12
ROOM_MAX = 16_384
"""Bytes that a full disk may still have."""
SMALL_TOPICS = {"BenchmarkTest": 1, "DefaultCluster": 1}
"""System topics that are there from the start, with fewer queues than they would get."""


class Crash(BaseException):
    """All processes die here, or the power goes."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self.way = way


@dataclass
class Outcome:
    """How a history went. `counts`: what was done and met; `trace`: its fingerprint."""

    seed: int
    findings: list[str]
    counts: Counter[str]
    trace: str

    def __str__(self) -> str:
        shown = [f"\n    {finding}" for finding in self.findings[:SHOWN_MAX]]
        more = len(self.findings) - len(shown)
        shown += [f"\n    and {more} more"] if more else []
        return f"python -m tests.simulation.world {self.seed}{''.join(shown)}"


@dataclass
class Trap:
    """A fault that waits for its place to be passed `left` times more."""

    fault: Fault
    left: int


class World:
    """One history, from its seed to its Outcome."""

    def __init__(self, seed: int, **shape: Any) -> None:
        """`shape`: members of the plan that are not left to the seed."""
        self.seed = seed
        self.random = Random(seed)
        self.plan = replace(draw(self.random), **shape)
        self.clock, self.network = FakeClock(), FakeNetwork()
        self.disk = FakeDisk(before=lambda operation, path: self._pass(DISK))
        self.books = Books(self.plan.sync)
        self.counts: Counter[str] = Counter()
        self.machine: Machine | None = None
        self.producers = [self._producer(i) for i in range(self.plan.producers)]
        self.consumers = [self._consumer(i) for i in range(self.plan.consumers)]
        self.clients: list[Client] = [*self.producers, *self.consumers]
        self._turn = 0
        self._faults = list(self.plan.faults)
        self._traps: list[Trap] = []
        self._stalled: dict[str, int] = {}
        self._full_until = 0
        self._start_ns = 0
        self._current = ""
        self._durable = 0
        self._actors: list[tuple[str, Callable[[], bool]]] = []
        self._lots: list[int] = []
        self._trace = hashlib.sha256()
        self._lay_out_store()

    def _lay_out_store(self) -> None:
        table = {
            name: {"readQueueNums": count, "writeQueueNums": count, "perm": 7}
            for name, count in SMALL_TOPICS.items()
        }
        text = json.dumps({"topicConfigTable": table, "dataVersion": {}})
        self.disk.add(f"{ROOT}/config/topics.json", text.encode())

    def _producer(self, number: int) -> Producer:
        plan = self.plan
        load = Load(
            plan.topics,
            plan.messages_max,
            plan.window,
            plan.pace_ns,
            plan.size_max,
            plan.fixed_size,
            plan.log_file_size <= FLOODED_SIZE,
        )
        return Producer(load, f"producer-{number}", *self._parts())

    def _consumer(self, number: int) -> Consumer:
        tag = "TagA" if self.random.random() < 0.3 else ""
        online = self.random.random() < 0.5
        return Consumer(self.plan.topics, tag, online, f"consumer-{number}", *self._parts())

    def _parts(self) -> tuple[Callable[[Random], socket], FakeClock, Books, Random]:
        return self._connect, self.clock, self.books, Random(self.random.random())

    def _connect(self, random: Random) -> socket:
        return self.network.connect(FRONTEND + random.randrange(self.plan.frontends))

    # ---- the history ----------------------------------------------------------------------------

    def run(self) -> Outcome:
        """All of it."""
        failpoint.arm(self._pass)
        try:
            self._load()
            self._settle()
            self._end(self.plan.end)
            self._check()
        finally:
            failpoint.arm(None)
            if self.machine is not None:
                self.machine.end()
            for client in self.clients:
                client.cut()
        self.counts["messages sent"] = len(self.books.ledger)
        places = [entry.place for entry in self.books.ledger.values()]
        self.counts["messages acknowledged"] = sum(place is not None for place in places)
        self.counts["messages shown"] = len(self.books.shown)
        self.counts["turns"] = self._turn
        self._trace.update(repr(places).encode())
        return Outcome(self.seed, self.books.findings, self.counts, self._trace.hexdigest())

    def _load(self) -> None:
        """Producers and consumers are at it, and things break."""
        while not self._loaded() and self._turn < TURNS_MAX:
            self._break()
            self._next()

    def _loaded(self) -> bool:
        return not self._faults and all(producer.done for producer in self.producers)

    def _settle(self) -> None:
        """Nothing breaks any more, and nobody asks for more: whoever asked is answered."""
        self._mend()
        for client in self.clients:
            client.quiet = True
        topics = {entry.place.topic for entry in self.books.ledger.values() if entry.place}
        if not self._until(lambda: self._settled(topics)):
            waiting = {client.name: client.asked for client in self.clients if client.asked}
            self.books.findings.append(f"unanswered: {waiting or 'no process, or no route'}")

    def _settled(self, topics: set[str]) -> bool:
        machine = self.machine
        return (
            machine is not None
            and not any(client.asked for client in self.clients)
            and machine.supervisor.ready
            and machine.knows_routes(topics)
        )

    def _mend(self) -> None:
        self._faults, self._traps, self._stalled = [], [], {}
        self._full_until, self.disk.capacity = 0, 1 << 40

    def _end(self, way: str) -> None:
        if way == RESTART:
            self._stop_and_start()
        else:
            self._crash(way)

    def _check(self) -> None:
        """A fresh reader reads everything; then the files are looked at."""
        groups = [consumer.name for consumer in self.consumers]
        reader = Reader(self.plan.topics, groups, "reader", *self._parts())
        self.clients = [reader]
        self._cast()
        if not self._until(lambda: reader.done):
            self.books.findings.append("unanswered: the last reader")
            return
        self.books.findings[:] = self.books.verdict(reader.drained)
        self._stop_and_start()
        torn = self.counts[POWER] > 0
        self.books.findings += check_store(self.disk, ROOT, reader.drained, torn=torn)

    def _until(self, reached: Callable[[], bool]) -> bool:
        limit_ns = self.clock.ns + SETTLE_NS
        while not reached():
            if self.clock.ns > limit_ns:
                return False
            self._next()
        return True

    # ---- turns ----------------------------------------------------------------------------------

    def _next(self) -> None:
        """Somebody has a turn; if nobody has anything to do, time goes on."""
        self._turn += 1
        self._end_troubles()
        self.disk.now_ms = self.clock.now().wall_ms
        if self.machine is None:
            self._start()
        first, count = self.random.choice(self._lots), len(self._actors)
        for at in range(first, first + count):
            name, turn = self._actors[at % count]
            if name not in self._stalled and self._run(name, turn):
                self._trace.update(f"{name} {self.clock.ns}\n".encode())
                self.clock.advance(1 + int(self.random.expovariate(1) * self.plan.turn_ns))
                return
        self._idle()

    def _run(self, name: str, turn: Callable[[], bool]) -> bool:
        machine, self._current = self.machine, name
        try:
            done = turn()
        except Crash as crash:
            self._crash(crash.way)
            return True
        finally:
            self._current = ""
        if done and machine is not None:
            self._look(machine, name)
        return done

    def _look(self, machine: Machine, name: str) -> None:
        """What must hold after every turn."""
        if machine.fork.crashes:
            for crash in machine.fork.crashes:
                self.counts[f"ended {crash.name}"] += 1
                if not (crash.machine and self.counts[FULL]):
                    self.books.findings.append(f"crash: {crash.name}: {crash.text}")
            machine.fork.crashes.clear()
        if machine.fork.overslept and not self._killed:  # a dead one had no time to ring
            self.books.findings.append(f"overslept: {machine.fork.overslept}")
        machine.fork.overslept.clear()
        if name == "writer" and machine.serving:
            if wrong := machine.disorder():
                self.books.findings.append(f"watermarks: {wrong}")
            self._durable = max(self._durable, machine.watermarks.flushed)

    @property
    def _killed(self) -> int:
        return sum(count for what, count in self.counts.items() if what.startswith("kill "))

    def _idle(self) -> None:
        """Time goes on to the next moment at which somebody has something to do."""
        dues = [client.due_ns for client in self.clients if not client.quiet]
        dues.append(self._start_ns if self.machine is None else self.machine.due_ns())
        if self._stalled or min(dues) <= self.clock.ns:
            self.clock.advance(MS)
        else:
            self.clock.advance_to(min(dues))

    def _cast(self) -> None:
        """Who has turns, and how often: `haste` is by kind."""
        plan, machine = self.plan, self.machine
        actors: list[tuple[str, int, Callable[[], bool]]] = []
        if machine is not None:
            numbers = [WRITER, COORDINATOR, *range(FRONTEND, FRONTEND + plan.frontends)]
            numbers += [NAMESERVER] if plan.nameserver else []
            actors.append(("supervisor", 0, machine.supervise))
            actors.append(("syncer", 1, machine.sync))
            actors += [(process_name(n), min(n, 3) + 2, machine.turns(n)) for n in numbers]
        actors += [(client.name, 6, client.turn) for client in self.clients]
        self._actors = [(name, turn) for name, _, turn in actors]
        self._lots = [at for at, (_, kind, _) in enumerate(actors) for _ in range(plan.haste[kind])]

    # ---- starts and ends ------------------------------------------------------------------------

    def _start(self) -> None:
        if self.clock.ns < self._start_ns:
            return
        try:
            parts = self.disk, self.clock, self.network, Random(self.random.random())
            self.machine = Machine(self.plan, *parts)
        except OSError:
            self._start_ns = self.clock.ns + START_PAUSE_NS
        self.counts["starts"] += 1
        self._cast()

    def _crash(self, way: str) -> None:
        """The supervisor and all its children are killed at once, or the power goes."""
        self.counts[way] += 1
        self._bury()
        if way == POWER:
            self.books.lost_power(self._durable)
            self.disk.power_cut(self.random)
        else:
            self.books.lost_memory()
            self.disk.kill()

    def _bury(self) -> None:
        """The machine is gone; what it had told the clients may still be on its way to them."""
        if self.machine is not None:
            self.machine.end()
        self.machine, self._start_ns = None, self.clock.ns + START_PAUSE_NS
        for client in self.clients:
            if self.random.random() < 0.5:
                client.listen()
            client.cut()
        self._cast()

    def _stop_and_start(self) -> None:
        """A clean end, as after SIGTERM; the next turn starts again."""
        machine = self.machine
        if machine is None:
            return
        machine.supervisor.stop(self.clock.now())
        while self.machine is machine and not machine.supervisor.stopped:
            self._next()
        if self.machine is machine:
            if COORDINATOR not in machine.fork.clean:
                self.books.lost_memory()
            self.counts[RESTART] += 1
            self._bury()

    # ---- faults ---------------------------------------------------------------------------------

    def _break(self) -> None:
        """Begins the faults that are due."""
        sent = sum(producer.sent_count for producer in self.producers)
        total = self.plan.messages_max * self.plan.producers
        while self._faults and self._faults[0].at <= sent / total:
            self._begin(self._faults.pop(0))

    def _end_troubles(self) -> None:
        """Those that have lasted."""
        if self._full_until and self._turn > self._full_until:
            self._full_until, self.disk.capacity = 0, 1 << 40
        self._stalled = {name: end for name, end in self._stalled.items() if end > self._turn}

    def _begin(self, fault: Fault) -> None:
        if fault.where != STEP:
            self._traps.append(Trap(fault, fault.after))
        elif fault.way == KILL:
            self._kill(fault.number)
        elif fault.way in (KILL_ALL, POWER):
            self._crash(fault.way)
        elif fault.way == RESTART:
            self._stop_and_start()
        else:
            self._trouble(fault)

    def _kill(self, number: int) -> None:
        if self.machine is not None and number in self.machine.fork.running:
            self.counts[f"kill {process_name(number)}"] += 1
            self.machine.fork.kill(number)

    def _trouble(self, fault: Fault) -> None:
        """What kills nobody."""
        self.counts[fault.way] += 1
        if fault.way == CUT:
            self.random.choice(self.clients).cut()
        elif fault.way == STALL:
            self._stalled[process_name(fault.number)] = self._turn + STALL_TURNS
        elif fault.way == FULL:
            self.disk.capacity = self.disk.used() + self.random.randrange(ROOM_MAX)
            self._full_until = self._turn + FULL_TURNS

    def _pass(self, place: str) -> None:
        """A process has come to a failpoint, or is about to do something to the disk."""
        if not self._current:
            return
        if place != DISK:
            self.counts[f"passed {place}"] += 1
        for trap in self._traps:
            if trap.fault.where == place:
                trap.left -= 1
        sprung = [trap for trap in self._traps if trap.left < 0]
        self._traps = [trap for trap in self._traps if trap.left >= 0]
        if sprung:
            self.counts[f"death at {place}"] += 1
            if sprung[0].fault.way != KILL:
                raise Crash(sprung[0].fault.way)
            self.counts[f"kill {self._current}"] += 1
            raise Killed


def run(seed: int, **shape: Any) -> Outcome:
    """One history; see World."""
    log = logging.getLogger("appliance")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # what dies here has more to say than anybody wants to read
    try:
        return World(seed, **shape).run()
    finally:
        log.setLevel(level)
        gc.collect(0)


def main() -> int:
    """Replays the seeds that are named."""
    outcomes = [run(int(word)) for word in sys.argv[1:]]
    for outcome in outcomes:
        print(outcome, dict(outcome.counts), outcome.trace[:16], sep="\n")
    return int(any(outcome.findings for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
