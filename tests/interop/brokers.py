"""The brokers that the official client is let loose on: the appliance, and the real Apache one.

Runs in: pytest.
Owns: the brokers' processes and the folder that each is given.
Fails: AssertionError, with the end of the log, when a broker does not start or end as it should.
"""

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.interop.program import Program

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "tools" / "peer" / "peer"
HOST = "127.0.0.1"
READY_SECONDS = 30.0
STOP_SECONDS = 40.0
POLL_SECONDS = 0.01

COMMAND = shlex.split(os.environ.get("APPLIANCE", f"{sys.executable} -m appliance"))
"""The appliance under test; another build of it by the environment."""


class Ports(NamedTuple):
    """Where a broker listens: the VIP port is two below, replication one above."""

    broker: int
    nameserver: int


def free_ports() -> Ports:
    """Ports that nobody has now, below the range that outgoing connections take theirs from."""
    while True:
        ports = Ports(*random.sample(range(12_000, 30_000), 2))
        wanted = {ports.broker - 2, ports.broker, ports.broker + 1, ports.nameserver}
        if len(wanted) == 4 and all(map(is_free, wanted)):
            return ports


def is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def await_until(what: str, reached: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    """Ask again until it is so; for what no event tells."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_SECONDS)


class Appliance:
    """The appliance under test, on free ports, with its store in `folder`.

    `nameservers` are those that its broker registers with; without them it runs its own. `broker`
    has further settings of that section.
    """

    def __init__(
        self,
        folder: Path,
        *,
        flush: str = "sync",
        nameservers: Sequence[str] = (),
        broker: Mapping[str, object] | None = None,
    ) -> None:
        self.ports = free_ports()
        self.address = f"{HOST}:{self.ports.broker}"
        own = f"{HOST}:{self.ports.nameserver}"
        self.nameserver = ";".join(nameservers) or own
        self.log = folder / "appliance.log"
        self._config = folder / "broker.toml"
        settings: dict[str, dict[str, object]] = {
            "broker": {
                "listen": self.address,
                "advertise": HOST,
                "nameservers": list(nameservers) or [own],
                "frontends": 2,
                **(broker or {}),
            },
            "nameserver": {"enabled": not nameservers, "listen": own},
            "store": {
                "root": str(folder / "store"),
                "flush": flush,
                "commitlog_file_size": "64MiB",
            },
        }
        self._config.write_text(_toml(settings))
        self._program: Program | None = None

    @property
    def supervisor(self) -> int:
        """The pid of the process that was started."""
        assert self._program is not None
        return self._program.pid

    def start(self) -> None:
        """Start it and wait for its line that says `ready`."""
        command = [*COMMAND, "start", "--config", str(self._config)]
        self._program = Program(command, self.log)
        line = self._program.line(READY_SECONDS)
        assert line.startswith("ready"), f"{line}\n{self._program.tail()}"

    def stop(self) -> None:
        """End it in order; its exit code must be 0."""
        assert self._program is not None
        self._program.signal(signal.SIGTERM)
        code = self._program.wait(STOP_SECONDS)
        assert code == 0, f"exit code {code}\n{self._program.tail()}"

    def close(self) -> None:
        """Leave nothing behind, whatever the state."""
        if self._program is not None:
            children = self.children()
            self._program.close()
            for pid in children.values():
                kill(pid)

    def children(self) -> dict[str, int]:
        """The supervisor's children: name of the process and pid."""
        return {name: pid for pid, name in children_of(self.supervisor)}


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    """Sections of texts, numbers, flags and lists, which TOML writes as JSON does."""
    lines = []
    for name, settings in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


class Apache:
    """The real Apache RocketMQ, started by tools/peer; `settings` are its broker's own."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.ports = free_ports()
        self.address = f"{HOST}:{self.ports.broker}"
        self.nameserver = f"{HOST}:{self.ports.nameserver}"
        self._folder = folder
        self._settings = {"mappedFileSizeCommitLog": str(64 << 20), **(settings or {})}

    def start(self) -> None:
        """Start NameServer and broker and wait until both have booted."""
        self.start_nameserver()
        self.start_broker(self.nameserver)

    def start_nameserver(self) -> None:
        """Start the NameServer alone."""
        self._peer("start", "namesrv", "--port", str(self.ports.nameserver))

    def start_broker(self, nameserver: str) -> None:
        """Start the broker alone, registered with this NameServer."""
        settings = [word for pair in self._settings.items() for word in ("--set", "=".join(pair))]
        port = str(self.ports.broker)
        self._peer("start", "broker", "--port", port, "--namesrv", nameserver, *settings)

    def stop(self) -> None:
        """End both."""
        self._peer("stop")

    def begin_stop(self) -> None:
        """Ask both to end, without waiting: a broker takes ten seconds and more."""
        for server in json.loads(self._peer("status")).values():
            os.kill(server["pid"], signal.SIGTERM)

    def close(self) -> None:
        """Leave nothing behind, whatever the state."""
        self._peer("stop", "--kill")

    def _peer(self, *words: str) -> str:
        command = [sys.executable, str(PEER), *words, "--dir", str(self._folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout


def children_of(parent: int) -> list[tuple[int, str]]:
    """Pid and name of the processes that a process has started and that still run (proc(5))."""
    children = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        row = process_row(int(folder.name))
        if row is not None and row.parent == parent:
            children.append((int(folder.name), row.name))
    return children


class ProcessRow(NamedTuple):
    """What /proc/PID/stat says of a process that has not ended."""

    name: str
    parent: int


def process_row(pid: int) -> ProcessRow | None:
    """The process of that pid, or None when it has ended, reaped or not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, rest = text.rpartition(")")
    state, parent, *_ = rest.split()
    return None if state == "Z" else ProcessRow(head.partition("(")[2], int(parent))


def kill(pid: int) -> None:
    """SIGKILL; a process that is gone already is as good."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
