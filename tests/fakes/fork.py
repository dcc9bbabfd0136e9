"""Processes without fork: objects whose loops the test drives a turn at a time.

Runs in: the seeded simulation.
Owns: the children, from spawn to reap.
Fails: never; what a child raises ends it and is kept in `crashes`.
"""

import select
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.clock import Clock
from appliance.frontend import Frontend
from appliance.heritage import COORDINATOR, Heritage, process_name
from appliance.process import Process, turns
from tests.fakes.sockets import FakeNetwork

PID_FIRST = 100


class Killed(BaseException):
    """SIGKILL in the middle of a step: the process is not there any more."""


@dataclass
class Child:
    """One process. It is also its own `process.Stop`."""

    number: int
    pid: int
    asked: bool = False
    orphaned: bool = False
    process: Process | None = None
    turns: Iterator[int] | None = None
    wake_ns: int = 0
    """It sleeps until then at the most; 0: it does not sleep."""

    @property
    def name(self) -> str:
        return process_name(self.number)


@dataclass(frozen=True)
class Crash:
    """A child that ended by what it raised; `machine`: it was the machine's failure, not ours."""

    name: str
    machine: bool
    text: str


class FakeFork:
    """Implements supervisor.Fork. A child comes to be in its first turn."""

    def __init__(
        self,
        heritage: Heritage,
        clock: Clock,
        network: FakeNetwork,
        make: Callable[[int], Process],
    ) -> None:
        self.running: dict[int, Child] = {}
        self.clean: set[int] = set()
        """Those that have come to a clean end."""
        self.crashes: list[Crash] = []
        self.overslept: list[str] = []
        """Who slept to the end of its time, though another process had left it something to do.

        Not the coordinator: for the commit inside a pull nobody wakes it.
        """
        self._heritage, self._clock, self._network, self._make = heritage, clock, network, make
        self._ended: list[tuple[int, str]] = []
        self._pid = PID_FIRST

    # ---- supervisor.Fork ------------------------------------------------------------------------

    def spawn(self, number: int) -> int:
        self._pid += 1
        self.running[number] = Child(number, self._pid)
        return self._pid

    def reap(self) -> list[tuple[int, str]]:
        ended, self._ended = self._ended, []
        return ended

    def signal(self, pid: int, number: int) -> None:
        for child in list(self.running.values()):
            if child.pid == pid and number == signal.SIGTERM:
                child.asked, child.wake_ns = True, 0
            elif child.pid == pid:
                self.kill(child.number)

    # ---- what the test does ---------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL, between two steps."""
        self._end(self.running[number], "was killed by SIGKILL")

    def turn(self, number: int) -> bool:
        """One turn of a child's loop; False when it sleeps on."""
        child = self.running[number]
        rung = child.wake_ns != 0 and self._rung(child)
        if not rung and self._clock.now().monotonic_ns < child.wake_ns:
            return False
        try:
            self._turn(child, rung)
        except Killed:
            self._end(child, "was killed by SIGKILL")
        except Exception as error:  # noqa: BLE001 - as process.run, whatever it is
            self.crashes.append(
                Crash(child.name, isinstance(error, OSError), traceback.format_exc())
            )
            self._end(child, "ended with exit code 1")
        return True

    def _turn(self, child: Child, rung: bool) -> None:
        if child.process is None or child.turns is None:
            process = child.process = self._make(child.number)
            child.turns = turns(child.number, self._heritage, process, self._clock, child)
            return
        if rung:
            child.process.wait(1, self._clock.now())  # returns at once, as it would have
        elif child.wake_ns and child.number != COORDINATOR and child.process.pending():
            self.overslept.append(child.name)
        timeout_ms = next(child.turns, None)
        if timeout_ms is None:
            child.process.close()
            self.clean.add(child.number)
            self._end(child, "ended with exit code 0")
        else:
            child.wake_ns = timeout_ms and self._clock.now().monotonic_ns + timeout_ms * 1_000_000

    def _rung(self, child: Child) -> bool:
        """Whether there is what ends a sleep early."""
        poll = select.poll()
        poll.register(self._heritage.doorbells.bells[child.number], select.POLLIN)
        if not isinstance(child.process, Frontend) or child.process.may_receive():
            for descriptor in self._network.descriptors(child.number):
                poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def _end(self, child: Child, how: str) -> None:
        del self.running[child.number]
        child.process = child.turns = None
        self._network.shut(child.number)
        self._ended.append((child.pid, how))

    def kill_all(self) -> None:
        """The supervisor is dead, or the power is off."""
        for number in list(self.running):
            self.kill(number)
