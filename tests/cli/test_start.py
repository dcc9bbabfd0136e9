"""`appliance start`: it says when it is ready, ends cleanly, and refuses in one line."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randrange

import pytest


def free_port() -> int:
    """A port whose neighbours, VIP two below and replication one above, are free as well."""
    while True:
        port = randrange(12_000, 30_000)
        try:
            for number in (port - 2, port - 1, port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


@pytest.fixture
def config(tmp_path: Path) -> Path:
    port = free_port()
    file = tmp_path / "broker.toml"
    file.write_text(
        f'[broker]\nlisten = "127.0.0.1:{port}"\nnameservers = ["127.0.0.1:{port - 1}"]\n'
        f'frontends = 1\n[nameserver]\nlisten = "127.0.0.1:{port - 1}"\n'
        f'[store]\nroot = "{tmp_path / "store"}"\ncommitlog_file_size = "4MiB"\n'
    )
    return file


def port_of(config: Path) -> int:
    return int(config.read_text().split('"')[1].rpartition(":")[2])


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "appliance", "start", "--config", str(config)]


@contextmanager
def started(config: Path) -> Iterator[subprocess.Popen[str]]:
    """A running appliance, once it has said that it is ready."""
    with subprocess.Popen(command(config), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready"), ready
            assert str(port_of(config)) in ready
            yield process
        finally:
            process.terminate()
            process.wait(30)


def segments(pid: int) -> list[str]:
    """What that supervisor has in shared memory."""
    return [path.name for path in Path("/dev/shm").glob(f"appliance-*-{pid}-*")]


def refused(config: Path) -> str:
    """The line in which a start is refused."""
    result = subprocess.run(command(config), capture_output=True, text=True, timeout=30)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_serves_and_ends_with_0(config: Path, number: signal.Signals) -> None:
    with started(config) as process:
        assert segments(process.pid)
        socket.create_connection(("127.0.0.1", port_of(config)), timeout=5).close()
        process.send_signal(number)
        assert process.wait(30) == 0
    assert segments(process.pid) == []


def test_it_starts_again_on_its_store(config: Path) -> None:
    for _ in range(2):
        with started(config):
            pass


def test_an_occupied_port_is_told(config: Path) -> None:
    port = port_of(config)
    with socket.create_server(("127.0.0.1", port)):
        assert str(port) in refused(config)


def test_a_second_one_on_the_same_store_is_refused(config: Path) -> None:
    with started(config):
        other = config.with_name("other.toml")
        old, new = port_of(config), free_port()
        text = config.read_text().replace(str(old), str(new)).replace(str(old - 1), str(new - 1))
        other.write_text(text)
        assert "store" in refused(other)


def test_a_store_that_cannot_be_made_is_told(config: Path) -> None:
    config.with_name("store").write_text("a file, not a directory")
    assert "store" in refused(config)
