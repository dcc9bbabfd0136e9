"""The supervisor: it keeps its children alive, says why one died, and ends them in order.

First with a fork of paper, a step at a time; then real starts, and those that are refused. What it
does when real children are killed is in tests/faults/test_restarts.py.
"""

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from appliance.clock import Now
from appliance.config import Config, Nameserver
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER
from appliance.supervisor import (
    BACKOFF_MAX_NS,
    BACKOFF_MIN_NS,
    STEADY_NS,
    STOP_NS,
    RealFork,
    Supervisor,
)
from tests.broker.paper import config, make_heritage
from tests.interop.brokers import COMMAND, HOST, Appliance, await_until, free_ports
from tests.scenes.client import connected
from tests.scenes.conftest import assert_nothing_left

ALL = [WRITER, COORDINATOR, NAMESERVER, FRONTEND, FRONTEND + 1]

# On paper ----------------------------------------------------------------------------------------


class PaperFork:
    """Children that are only numbers; the test says when one dies."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}
        self.signals: list[tuple[int, int]] = []
        self._pids = count(100)
        self.ended: list[tuple[int, str]] = []

    def spawn(self, number: int) -> int:
        self.running[number] = next(self._pids)
        return self.running[number]

    def reap(self) -> list[tuple[int, str]]:
        ended, self.ended = self.ended, []
        return ended

    def signal(self, pid: int, number: int) -> None:
        child = next(child for child, running in self.running.items() if running == pid)
        self.signals.append((child, number))

    def die(self, number: int, how: str = "was killed by SIGKILL") -> None:
        self.ended.append((self.running.pop(number), how))


class Stage:
    """A supervisor on paper, and its time."""

    def __init__(self, settings: Config | None = None) -> None:
        self.heritage = make_heritage(settings)
        self.heritage.doorbells.rows[COORDINATOR].generation = 0
        self.fork = PaperFork()
        self.supervisor = Supervisor(self.heritage, self.fork)
        self.now_ns = 1_000_000_000

    @property
    def now(self) -> Now:
        return Now(self.now_ns, 0)

    def step(self, after_ns: int = 0) -> list[int]:
        """Lets time pass and the supervisor work; who runs then."""
        self.now_ns += after_ns
        self.supervisor.step(self.now)
        return sorted(self.fork.running)

    def generation(self, number: int) -> int:
        return int(self.heritage.doorbells.rows[number].generation)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    assert stage.step() == ALL
    return stage


def test_it_starts_everybody_once(stage: Stage) -> None:
    assert stage.step() == ALL
    assert [stage.generation(number) for number in ALL] == [1] * 5
    rows = stage.heritage.doorbells.rows
    assert [rows[number].pid for number in ALL] == [stage.fork.running[n] for n in ALL]


def test_it_is_ready_when_everybody_is(stage: Stage) -> None:
    rows = stage.heritage.doorbells.rows
    for number in ALL:
        assert not stage.supervisor.ready
        rows[number].ready = rows[number].generation
    assert stage.supervisor.ready
    stage.fork.die(WRITER)
    stage.step()
    assert not stage.supervisor.ready, "the new one has not said so"


def test_a_dead_child_is_replaced_at_once_and_its_death_explained(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    rows = stage.heritage.doorbells.rows
    rows[WRITER].sleeping = rows[WRITER].parked = 1
    stage.fork.die(WRITER, "was killed by SIGSEGV")
    with caplog.at_level(logging.WARNING):
        assert stage.step(after_ns=200_000_000) == ALL
    assert stage.generation(WRITER) == 2
    assert (rows[WRITER].sleeping, rows[WRITER].parked) == (0, 0)
    (line,) = caplog.messages
    assert line == "writer was killed by SIGSEGV after 0.2 s; it starts again in 0.00 s"


def test_who_dies_again_and_again_waits_longer_and_longer(stage: Stage) -> None:
    waits = []
    for _ in range(12):
        stage.fork.die(COORDINATOR)
        stage.step()
        wait_ns = max(0, stage.supervisor.next_ns() - stage.now_ns)
        if COORDINATOR not in stage.fork.running:
            assert COORDINATOR not in stage.step(after_ns=wait_ns - 1)
            assert COORDINATOR in stage.step(after_ns=1)
            waits.append(wait_ns)
    assert waits == sorted(waits)
    assert waits[0] <= 4 * BACKOFF_MIN_NS
    assert waits[-1] == BACKOFF_MAX_NS
    assert stage.generation(WRITER) == 1, "nobody else's business"


def test_who_lived_long_is_replaced_at_once(stage: Stage) -> None:
    for _ in range(6):
        stage.fork.die(COORDINATOR)
        stage.step(after_ns=BACKOFF_MAX_NS)
        stage.step(after_ns=BACKOFF_MAX_NS)
    stage.fork.die(COORDINATOR)
    assert COORDINATOR in stage.step(after_ns=STEADY_NS + 1)


def test_the_death_of_a_stranger(stage: Stage) -> None:
    """An orphan of somebody else's that ended up with us."""
    stage.fork.ended.append((1, "ended with exit code 0"))
    assert stage.step() == ALL


def test_without_a_nameserver_of_its_own() -> None:
    without = msgspec.structs.replace(config(), nameserver=Nameserver(enabled=False))
    assert Stage(without).step() == [WRITER, COORDINATOR, FRONTEND, FRONTEND + 1]


def test_a_stop_goes_from_the_clients_inwards(stage: Stage) -> None:
    told = []
    stage.supervisor.stop(stage.now)
    stage.supervisor.stop(stage.now)  # a second signal changes nothing
    while stage.fork.running:
        assert stage.fork.signals, "somebody is told"
        together = sorted(number for number, _ in stage.fork.signals)
        assert {sent for _, sent in stage.fork.signals} == {signal.SIGTERM}
        told.append(together)
        stage.fork.signals.clear()
        stage.step(after_ns=STOP_NS - 1)
        assert stage.fork.signals == [], "it waits for them"
        for number in together:
            stage.fork.die(number, "ended with exit code 0")
        stage.step()
        stage.step()
    assert told == [[FRONTEND, FRONTEND + 1], [COORDINATOR], [WRITER], [NAMESERVER]]
    stage.step()
    assert stage.supervisor.stopped


def test_who_dies_while_all_ends_is_not_replaced(stage: Stage) -> None:
    stage.supervisor.stop(stage.now)
    stage.fork.die(WRITER)
    assert WRITER not in stage.step(after_ns=BACKOFF_MAX_NS)


def test_who_does_not_end_is_killed(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.supervisor.stop(stage.now)
    stage.fork.die(FRONTEND, "ended with exit code 0")
    stage.fork.signals.clear()
    stage.step(after_ns=STOP_NS + 1)
    assert stage.fork.signals == [(FRONTEND + 1, signal.SIGKILL)]
    assert "frontend-1 does not end; it is killed" in caplog.messages
    stage.fork.die(FRONTEND + 1)
    stage.step()
    assert stage.fork.signals[-1] == (COORDINATOR, signal.SIGTERM)


@pytest.mark.parametrize(
    ("child", "how"),
    [
        pytest.param(lambda: 3, "ended with exit code 3", id="exit"),
        pytest.param(lambda: 1 // 0, "ended with exit code 1", id="exception"),
        pytest.param(lambda: die_by(signal.SIGKILL), "was killed by SIGKILL", id="kill"),
        pytest.param(lambda: die_by(40), "was killed by signal 40", id="real-time signal"),
    ],
)
def test_how_a_real_child_ended(child: Callable[[], int], how: str) -> None:
    def quietly(_number: int) -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Python's word on the exception
        return child()

    fork = RealFork(quietly)
    pid = fork.spawn(0)
    ended: list[tuple[int, str]] = []

    def has_ended() -> bool:
        ended.extend(fork.reap())
        return bool(ended)

    await_until("the end", has_ended)
    assert ended == [(pid, how)]
    fork.signal(pid, signal.SIGTERM)  # does not mind


def die_by(number: int) -> int:
    os.kill(os.getpid(), number)
    return 0


# The start ---------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Appliance]:
    appliance = Appliance(tmp_path)
    try:
        appliance.start()
        yield appliance
        appliance.stop()
    finally:
        appliance.close()


def test_it_is_ready_soon(
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    """On an empty store, the port open: 0.6 s is promised; a busy machine may take longer."""
    began = time.monotonic()
    running: Appliance = request.getfixturevalue("running")
    seconds = time.monotonic() - began
    record_property("seconds until ready", seconds)
    print(f"ready after {seconds:.3f} s")
    with connected(running.ports.broker) as client:
        assert client.ask(9999).code == 3
    assert seconds < 3


def test_it_runs_these_processes(running: Appliance) -> None:
    assert sorted(running.children()) == [
        *("coordinator", "frontend-0", "frontend-1", "nameserver", "writer")
    ]


class Settings:
    """A broker.toml that can be started, and its sections."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports()
        self.port, self.name_port = ports.broker, ports.nameserver
        self.file = folder / "broker.toml"
        self.broker = f'listen = "{HOST}:{ports.broker}"\nfrontends = 1'
        self.nameserver = f'listen = "{HOST}:{ports.nameserver}"'
        self.store = f'root = "{folder / "store"}"\ncommitlog_file_size = "4MiB"'

    def refused(self, text: str | None = None) -> str:
        """The one line in which `appliance start` says why it does not."""
        whole = f"[broker]\n{self.broker}\n[nameserver]\n{self.nameserver}\n[store]\n{self.store}\n"
        self.file.write_text(whole if text is None else text)
        command = [*COMMAND, "start", "--config", str(self.file)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (2, ""), err
        assert_nothing_left(process.pid, [process.pid])
        (line,) = err.splitlines()
        return line


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


def test_a_file_that_is_no_toml(settings: Settings) -> None:
    assert settings.refused("[broker\n").startswith(f"{settings.file}: not TOML: ")


def test_a_key_that_is_misspelled(settings: Settings) -> None:
    settings.broker += "\nfrontend = 2"
    assert settings.refused() == (
        f'{settings.file}: [broker] frontend: unknown key, did you mean "frontends"?'
    )


def test_a_value_that_is_not_allowed(settings: Settings) -> None:
    settings.broker = settings.broker.replace("frontends = 1", 'frontends = "two"')
    line = settings.refused()
    assert line.startswith(f'{settings.file}: [broker] frontends: found "two", allowed ')


@pytest.mark.parametrize("distance", [0, -2], ids=["broker", "VIP"])
def test_an_occupied_port(settings: Settings, distance: int) -> None:
    with socket.create_server((HOST, settings.port + distance)):
        line = settings.refused()
    assert line.startswith(f"{HOST}:{settings.port + distance}: Address already in use: ")


def test_an_occupied_nameserver_port(settings: Settings) -> None:
    with socket.create_server((HOST, settings.name_port)):
        assert settings.refused().startswith(f"{HOST}:{settings.name_port}: Address already in use")


@pytest.mark.parametrize("root", ["/proc/appliance", "/dev/null/store"])
def test_a_store_that_cannot_be_written(settings: Settings, root: str) -> None:
    settings.store = f'root = "{root}"'
    line = settings.refused()
    assert line.startswith(root)
    assert "the store has to be a folder that this user may write" in line


def test_a_store_that_is_in_use(running: Appliance, tmp_path: Path) -> None:
    """Also under another name; the one that runs does not notice."""
    (tmp_path / "alias").symlink_to(tmp_path / "store")
    for root in ("store", "alias"):
        settings = Settings(tmp_path)
        settings.file = tmp_path / "second.toml"
        settings.store = f'root = "{tmp_path / root}"'
        line = settings.refused()
        assert line.startswith(f"{tmp_path / root}: the store is in use by another appliance")
    with connected(running.ports.broker) as client:
        assert client.ask(9999).code == 3
