"""What one history is about: its shape and its faults, drawn from its seed.

Runs in: the seeded simulation.
Owns: the rows below: which faults there are, and how likely each is.
Fails: never.
"""

from dataclasses import dataclass
from random import Random

from appliance import failpoint
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER
from appliance.values import KIB

KILL, KILL_ALL, POWER = "kill", "kill all", "power cut"
RESTART, CUT, FULL, STALL = "restart", "cut", "disk full", "stall"
STEP, DISK = "step", "disk"

WAYS = {KILL: 10, KILL_ALL: 2, POWER: 4, RESTART: 1, CUT: 2, FULL: 1, STALL: 2}
"""What may happen, and how often it does."""


@dataclass(frozen=True)
class Fault:
    """One fault. `where`: between two steps (STEP), at a disk operation (DISK) or at a failpoint,
    `after` so many more of them have been passed."""

    at: float
    """How much of the load has been sent when it is due, from 0 to 1."""
    way: str
    where: str = STEP
    after: int = 0
    number: int = WRITER
    """Of the process that is killed between two steps, or stalled."""


@dataclass(frozen=True)
class Plan:
    """One history. Times are in ns, sizes in bytes."""

    sync: bool
    frontends: int
    nameserver: bool
    log_file_size: int
    queue_rows: int
    ring_entries: int
    arena_size: int
    producers: int
    consumers: int
    topics: tuple[str, ...]
    messages_max: int
    size_max: int
    fixed_size: bool
    window: int
    pace_ns: int
    turn_ns: int
    """How long a turn takes, on average."""
    sync_ns: int
    """How long a sync takes, on average."""
    haste: tuple[int, ...]
    """How often each kind of actor has its turn: supervisor, syncer, writer, coordinator,
    NameServer, frontends, clients."""
    faults: tuple[Fault, ...]
    end: str
    """What comes before the last reader: POWER, KILL_ALL, RESTART."""


def draw(random: Random) -> Plan:
    """A history."""
    frontends, nameserver = random.randint(1, 2), random.random() < 0.5
    numbers = [WRITER, COORDINATOR, *range(FRONTEND, FRONTEND + frontends)]
    numbers += [NAMESERVER] if nameserver else []
    ways = random.choices(list(WAYS), list(WAYS.values()), k=random.randint(1, 4))
    return Plan(
        sync=random.random() < 0.6,
        frontends=frontends,
        nameserver=nameserver,
        log_file_size=random.choice((16, 32, 64)) * KIB,
        queue_rows=random.choice((10, 16, 64)),
        ring_entries=random.choice((8, 16, 64)),
        arena_size=random.choice((32, 64, 256)) * KIB,
        producers=random.randint(1, 3),
        consumers=random.randint(1, 2),
        topics=("alpha", "beta")[: random.randint(1, 2)],
        messages_max=random.choice((40, 80, 120)),
        size_max=random.choice((60, 400, 1500)),
        fixed_size=random.random() < 0.3,
        window=random.choice((1, 4, 16)),
        pace_ns=random.choice((100_000, 2_000_000, 20_000_000, 200_000_000)),
        turn_ns=random.choice((10_000, 100_000, 1_000_000)),
        sync_ns=random.choice((100_000, 3_000_000, 30_000_000)),
        haste=tuple(random.choice((1, 3, 9)) for _ in range(7)),
        faults=tuple(sorted((_fault(random, way, numbers) for way in ways), key=lambda f: f.at)),
        end=random.choice((POWER, POWER, KILL_ALL, RESTART)),
    )


def _fault(random: Random, way: str, numbers: list[int]) -> Fault:
    at, number = random.random(), random.choice(numbers)
    place = random.random()
    if way not in (KILL, KILL_ALL, POWER) or place < 0.25:
        return Fault(at, way, number=number)
    if place < 0.4:
        return Fault(at, way, DISK, random.randrange(40))
    return Fault(at, way, random.choice(failpoint.PLACES), random.randrange(6))
