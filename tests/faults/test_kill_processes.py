"""Kill any process at any time under load from the official client: nothing acknowledged is lost.

Promises P1 and P2. Kills of each kind: KILLS, else 20 in CI and 2 elsewhere; SEED draws the times.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.ledger import check, read_ledger, read_stored
from tests.interop.brokers import Appliance, await_until, kill, process_row
from tests.interop.java_client import java_command
from tests.interop.program import Program

KILLS = int(os.environ.get("KILLS", "20" if os.environ.get("CI") == "true" else "2"))
SEED = os.environ.get("SEED", "1")

TOPIC = "ledger"
STEADY = 200
"""So many acknowledgements say that the load flows, before a kill and after it."""
FLOW_SECONDS = 60.0
DRAIN_SECONDS = 120.0
KILL_DELAY_SECONDS_MAX = 0.3

CHILDREN = ["nameserver", "frontend", "writer", "coordinator"]
UNNOTICED = {"nameserver"}
"""Clients that know their routes must not see an error when one of these is killed."""

pytestmark = [
    pytest.mark.faults,
    pytest.mark.interop,
    pytest.mark.timeout(300 + 30 * KILLS),
]


class Load:
    """The official client, sending without pause and keeping the books (interop.Ledger)."""

    def __init__(self, nameserver: str, folder: Path) -> None:
        self.sent, self.seen, self.drained = (folder / n for n in ("sent", "seen", "drained"))
        self._nameserver = nameserver
        self._folder = folder
        files = ["--sent", str(self.sent), "--seen", str(self.seen)]
        self._program = self._run("Ledger", *files)

    def _run(self, main: str, *arguments: str) -> Program:
        words = ["--namesrv", self._nameserver, "--topic", TOPIC, *arguments]
        return Program(java_command(main, self._folder, *words), self._folder / f"{main}.log")

    def await_flow(self) -> None:
        """Wait until so many more messages are acknowledged than were when this was called."""
        self._program.lines_so_far()
        begin = self._acked()
        deadline = time.monotonic() + FLOW_SECONDS
        while self._acked() < begin + STEADY:
            assert time.monotonic() < deadline, f"no flow in {FLOW_SECONDS:.0f} s"

    def _acked(self) -> int:
        """Messages acknowledged so far, from the next line of progress."""
        return int(self._program.line(FLOW_SECONDS).split()[1])

    def finish(self) -> None:
        """End the load, then let a fresh reader write down what every queue holds."""
        self._program.end_input()
        assert self._program.wait(DRAIN_SECONDS) == 0, self._program.tail()
        reader = self._run("Drain", "--out", str(self.drained))
        assert reader.wait(DRAIN_SECONDS) == 0, reader.tail()

    def close(self) -> None:
        """End the load at once."""
        self._program.close()


@pytest.fixture
def appliance(tmp_path: Path) -> Iterator[Appliance]:
    appliance = Appliance(tmp_path)
    try:
        appliance.start()
        yield appliance
        appliance.stop()
    finally:
        appliance.close()


@pytest.fixture
def load(appliance: Appliance, tmp_path: Path) -> Iterator[Load]:
    load = Load(appliance.nameserver, tmp_path)
    yield load
    load.close()


def kill_child(appliance: Appliance, kind: str, chance: random.Random) -> None:
    """Kill one child of the kind; the supervisor must start another in its place."""
    children = appliance.children()
    name = chance.choice(sorted(name for name in children if name.startswith(kind)))
    kill(children[name])
    await_until(
        f"another {name} in the place of {children[name]}",
        lambda: appliance.children().get(name, children[name]) != children[name],
    )


def kill_supervisor(appliance: Appliance) -> None:
    """Kill the supervisor; its children must end by themselves."""
    pids = [appliance.supervisor, *appliance.children().values()]
    kill(appliance.supervisor)
    start_again(appliance, pids)


def kill_all(appliance: Appliance) -> None:
    """Kill all processes at once."""
    pids = [appliance.supervisor, *appliance.children().values()]
    for pid in pids:
        kill(pid)
    start_again(appliance, pids)


def start_again(appliance: Appliance, pids: list[int]) -> None:
    """Start the appliance once its processes are gone."""
    await_until(f"end of {pids}", lambda: not any(map(process_row, pids)))
    appliance.start()


@pytest.mark.parametrize("kind", [*CHILDREN, "supervisor", "all"])
def test_nothing_acknowledged_is_lost(
    appliance: Appliance, load: Load, kind: str, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(f"{SEED} {kind}")
    for _ in range(KILLS):
        load.await_flow()
        time.sleep(chance.uniform(0, KILL_DELAY_SECONDS_MAX))  # any moment is as good
        if kind == "supervisor":
            kill_supervisor(appliance)
        elif kind == "all":
            kill_all(appliance)
        else:
            kill_child(appliance, kind, chance)
    load.await_flow()
    load.finish()

    ledger = read_ledger(load.sent)
    unknown = [entry for entry in ledger.values() if entry.place is None]
    report = check(ledger, read_stored(load.drained), read_stored(load.seen))
    record_property("kills", KILLS)
    record_property("sent", len(ledger))
    record_property("unknown", len(unknown))
    assert report.clean, f"seed {SEED}, {KILLS} kills of {kind}\n{report}"
    assert not (kind in UNNOTICED and unknown), f"{len(unknown)} sends failed, such as {unknown[0]}"
