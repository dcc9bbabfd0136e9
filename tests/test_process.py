"""process.py: the loop's turns one by one, and whole processes that end well or badly."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from appliance import failpoint
from appliance.clock import Clock, Now
from appliance.heritage import WRITER
from appliance.process import SLEEP_MAX_MS, STOP_TIMEOUT_NS, Process, run, turns
from tests.fakes.clock import FakeClock
from tests.fakes.world_parts import Memory

CLEAN, CRASHED = 0, 1


@dataclass
class Worker:
    """A process that finds so much work at each step, and says what was done to it."""

    work: list[int] = field(default_factory=list)
    ready: bool = True
    stopping: list[bool] = field(default_factory=lambda: [True])
    sleep: int = 77
    done: list[str] = field(default_factory=list)
    on_step: Callable[[], None] = lambda: None
    on_look: Callable[[], bool] = lambda: False

    def step(self, now: Now) -> int:
        self.done.append("step")
        self.on_step()
        return self.work.pop(0) if self.work else 0

    def pending(self) -> bool:
        return self.on_look()

    def wait(self, timeout_ms: int, now: Now) -> None:
        self.done.append(f"wait {timeout_ms}")

    def sleep_ms(self, now: Now) -> int:
        return self.sleep

    def stop(self, now: Now) -> bool:
        self.done.append("stop")
        return self.stopping.pop(0) if len(self.stopping) > 1 else self.stopping[0]

    def close(self) -> None:
        self.done.append("close")


@dataclass
class Told:
    """Whether the loop is to end, as the test says."""

    asked: bool = False
    orphaned: bool = False


class Loop:
    """The loop of one worker, turned by hand."""

    def __init__(self, memory: Memory, worker: Worker) -> None:
        self.bells, self.clock = memory.heritage.doorbells, FakeClock()
        self.row, self.stop = self.bells.rows[WRITER], Told()
        self.row.generation = 3
        self.turns = turns(WRITER, memory.heritage, worker, self.clock, self.stop)


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory() as made:
        yield made


# Turns --------------------------------------------------------------------------------------------


def test_while_there_is_work_nobody_sleeps(memory: Memory) -> None:
    loop = Loop(memory, worker := Worker([5, 1, 2]))
    assert [next(loop.turns) for _ in range(3)] == [0, 0, 0]
    assert worker.done == ["step"] * 3
    assert loop.row.sleeping == 0


def test_who_wants_to_sleep_says_so_and_looks_once_more(memory: Memory) -> None:
    worker = Worker()
    loop = Loop(memory, worker)
    found = [True, False]

    def look() -> bool:
        assert loop.row.sleeping == 1, "who publishes from now on rings"
        return found.pop(0)

    worker.on_look = look
    assert next(loop.turns) == 0, "what came meanwhile is not slept over"
    assert next(loop.turns) == 77
    worker.work = [1]
    assert next(loop.turns) == 0 and loop.row.sleeping == 0
    assert worker.done == ["step"] * 3


def test_nobody_sleeps_longer_than_a_second(memory: Memory) -> None:
    loop = Loop(memory, Worker(sleep=1 << 40))
    assert next(loop.turns) == SLEEP_MAX_MS


def test_the_row_tells_that_it_lives_and_is_ready(memory: Memory) -> None:
    loop = Loop(memory, worker := Worker([1, 1], ready=False))
    next(loop.turns)
    assert (loop.row.ready, loop.row.steps, loop.row.beat_ns) == (0, 1, loop.clock.ns)
    worker.ready = True
    loop.clock.advance(5)
    next(loop.turns)
    assert (loop.row.ready, loop.row.steps, loop.row.beat_ns) == (3, 2, loop.clock.ns)


def test_it_ends_when_it_has_stopped(memory: Memory) -> None:
    loop = Loop(memory, worker := Worker(stopping=[False, False, True]))
    next(loop.turns)
    assert "stop" not in worker.done
    loop.stop.asked = True
    assert len(list(loop.turns)) == 2
    assert worker.done.count("stop") == 3


@pytest.mark.parametrize("orphaned", [True, False])
def test_it_ends_in_any_case_late_or_when_nobody_waits(memory: Memory, orphaned: bool) -> None:
    loop = Loop(memory, Worker(stopping=[False]))
    loop.stop.asked = True
    for _ in range(5):
        next(loop.turns)
    loop.stop.orphaned = orphaned
    if not orphaned:
        loop.clock.advance(STOP_TIMEOUT_NS)
        next(loop.turns)
        loop.clock.advance(1)
    assert list(loop.turns) == []


# Whole processes ----------------------------------------------------------------------------------


def ended(memory: Memory, make: Callable[[], Process]) -> int:
    """The exit code of a child that runs such a process; minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        os._exit(run(WRITER, memory.heritage, make, Clock()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_sigterm_ends_it_in_order_and_sigint_does_not(memory: Memory) -> None:
    closed = memory.heritage.doorbells.rows[WRITER]  # shared with the child

    def tell() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    class Closing(Worker):
        def close(self) -> None:
            closed.parked = 1

    assert ended(memory, lambda: Closing(on_step=tell)) == CLEAN
    assert (closed.parked, closed.steps) == (1, 1)


def test_sigterm_rings_its_own_bell(memory: Memory) -> None:
    bell = memory.heritage.doorbells.bells[WRITER]
    assert ended(memory, lambda: Worker(on_step=_terminate_self)) == CLEAN
    assert os.eventfd_read(bell) == 1


def _terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_step_raises_ends_it(memory: Memory) -> None:
    def fail() -> None:
        raise ValueError("our own mistake")

    assert ended(memory, lambda: Worker(on_step=fail)) == CRASHED


def test_what_cannot_be_made_ends_it(memory: Memory) -> None:
    def make() -> Process:
        raise OSError("no disk")

    assert ended(memory, make) == CRASHED


def test_a_failpoint_of_the_environment_is_armed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_FAILPOINT", "flush.asked")
    worker = Worker(on_step=lambda: failpoint.reach("flush.asked"))
    assert ended(memory, lambda: worker) == -signal.SIGKILL
