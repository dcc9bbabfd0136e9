"""The loop around a process's step: when to go on, when to sleep, when to stop.

Runs in: every child of the supervisor.
Owns: the process's row in the process table; nothing of what the process does.
Fails: what a step raises ends the process with one line; the supervisor starts it again.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Protocol

from appliance import failpoint
from appliance.clock import Clock, Now
from appliance.heritage import Heritage, process_name
from clib import ffi, lib

log = logging.getLogger("appliance.process")

SLEEP_MAX_MS = 1000
STOP_TIMEOUT_NS = 20_000_000_000


class Process(Protocol):
    """What the loop drives. A step does a bounded amount of work and says how much."""

    ready: bool

    def step(self, now: Now) -> int:
        """Does what there is to do; 0 when there was nothing."""

    def pending(self) -> bool:
        """Whether another process left something to do; cheap, it is asked before each sleep."""

    def wait(self, timeout_ms: int, now: Now) -> None:
        """Looks what there is to do outside, and sleeps until there is; at once when it is 0."""

    def sleep_ms(self, now: Now) -> int:
        """How long it may sleep at the most when nobody rings."""

    def stop(self, now: Now) -> bool:
        """Goes towards a clean end; True once it is reached. Called after each step."""

    def close(self) -> None:
        """Lets go of what it holds."""


def run(number: int, heritage: Heritage, make: Callable[[], Process], clock: Clock) -> int:
    """Runs a process until it is told to stop; returns its exit code."""
    name = process_name(number)
    parent = heritage.owner_pid
    lib.ap_name_process(name.encode(), signal.SIGTERM)
    stop = _StopSignal(parent, heritage.doorbells.bells[number])
    failpoint.arm_from_environment()
    try:
        process = make()
        for timeout_ms in turns(number, heritage, process, clock, stop):
            if timeout_ms:
                process.wait(timeout_ms, clock.now())
        process.close()
    except Exception:
        log.exception("%s ends: our own mistake or the machine's", name)
        return 1
    finally:
        if os.getppid() != parent:
            heritage.segments.remove()  # the supervisor is dead: leave nothing behind
    return 0


class Stop(Protocol):
    """Whether the process is to end. A simulation has its own."""

    @property
    def asked(self) -> bool:
        """It is to go towards a clean end."""

    @property
    def orphaned(self) -> bool:
        """The supervisor is dead: nobody waits for a clean end."""


class _StopSignal:
    """SIGTERM asks for a clean end; SIGINT is the supervisor's business."""

    def __init__(self, parent: int, bell: int) -> None:
        """`bell` is the process's own: a sleeper looks up at once."""
        self.asked = False
        self._parent, self._bell = parent, bell
        signal.set_wakeup_fd(-1)  # the supervisor's: it would take our SIGTERM for its own
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _signal: int, _frame: object) -> None:
        self.asked = True
        os.eventfd_write(self._bell, 1)

    @property
    def orphaned(self) -> bool:
        return os.getppid() != self._parent


def turns(
    number: int, heritage: Heritage, process: Process, clock: Clock, stop: Stop
) -> Iterator[int]:
    """The loop, a turn at a time: yields for how many ms the process may sleep before the next one.

    Ends when the process has come to its end. Whoever drives it decides how to sleep.
    """
    bells = heritage.doorbells
    row = bells.rows[number]
    ready = ffi.addressof(row, "ready")
    began_ns = 0
    while True:
        now = clock.now()
        work = process.step(now)
        row.steps += 1
        row.beat_ns = now.monotonic_ns
        if process.ready and row.ready != row.generation:
            lib.ap_store(ready, row.generation)
        if stop.asked:
            began_ns = began_ns or now.monotonic_ns
            late = now.monotonic_ns - began_ns > STOP_TIMEOUT_NS
            if stop.orphaned or process.stop(now) or late:
                return
        if work:
            yield 0
            continue
        bells.announce_sleep(number)
        yield 0 if process.pending() else min(process.sleep_ms(clock.now()), SLEEP_MAX_MS)
        bells.awake(number)
