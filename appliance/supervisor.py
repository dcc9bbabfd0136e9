"""The process table: fork the children, watch them, start dead ones again, stop them in order.

Runs in: supervisor, the process that was started.
Owns: the shared memory, the listeners, the store's lock; it holds them while children come and go.
Fails: StartError, one line that says what to do, before the first fork; afterwards it does nothing
       that could.
"""

import contextlib
import hashlib
import logging
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import sysv_ipc

from appliance import heritage as heritages
from appliance import launch
from appliance.clock import Clock, Now
from appliance.commitlog.checkpoint import lock_store
from appliance.commitlog.consume_queue import UNIT_SIZE, found_row_count
from appliance.commitlog.disk import FileLock, RealDisk
from appliance.commitlog.files import StorePaths, StoreRefused, check_store
from appliance.commitlog.mapped_file import found_file_size
from appliance.config import Config, Limits
from appliance.heritage import COORDINATOR, FRONTEND, NAMESERVER, WRITER, Heritage, process_name
from appliance.journal import open_journal
from appliance.ring.region import RegionError, SharedSegments, sweep
from appliance.ring.watermarks import FAILED, Watermarks
from appliance.values import join_address

log = logging.getLogger("appliance.supervisor")

BACKOFF_MIN_NS = 50_000_000
BACKOFF_MAX_NS = 1_000_000_000
"""Below the 3 s that clients wait: what dies again and again is a pause for them, no error."""
STEADY_NS = 1_000_000_000
"""A child that lived so long is started again at once: its clients shall see a pause, no error."""
STOP_NS = 25_000_000_000
BACKLOG = 1024
DESCRIPTORS = 1 << 16


class StartError(RuntimeError):
    """The appliance cannot start; the message is one line and says what to do."""


class Fork(Protocol):
    """How children come to be, are told and are missed. A simulation has its own."""

    def spawn(self, number: int) -> int:
        """Starts a process; its pid."""

    def reap(self) -> list[tuple[int, str]]:
        """(pid, how it ended) of the children that ended since the last call."""

    def signal(self, pid: int, number: int) -> None:
        """Sends a signal."""


@dataclass
class Child:
    """One row of the process table. `pid` 0: it does not run."""

    number: int
    pid: int = 0
    started_ns: int = 0
    restart_ns: int = 0
    backoff_ns: int = BACKOFF_MIN_NS
    deaths: int = 0


class Supervisor:
    """Keeps the children of a heritage alive until `stop`, then ends them in order."""

    def __init__(self, heritage: Heritage, fork: Fork) -> None:
        self._heritage, self._fork = heritage, fork
        numbers = [WRITER, COORDINATOR]
        numbers += [NAMESERVER] if heritage.config.nameserver.enabled else []
        numbers += [FRONTEND + i for i in range(heritage.frontends)]
        self.children = {number: Child(number) for number in numbers}
        self._stages = [
            [FRONTEND + i for i in range(heritage.frontends)],
            [COORDINATOR],
            [WRITER],
            [NAMESERVER],
        ]
        self._stopping = False
        self._stage_ns = 0

    @property
    def ready(self) -> bool:
        """Every child has said that it is ready."""
        rows = self._heritage.doorbells.rows
        return all(rows[n].ready and rows[n].ready == rows[n].generation for n in self.children)

    def step(self, now: Now) -> int:
        """Misses the dead, starts who is to run, goes on with a stop; how much was done."""
        work = self._reap(now)
        if self._stopping:
            return work + self._stop_step(now)
        for child in self.children.values():
            if not child.pid and now.monotonic_ns >= child.restart_ns:
                self._start(child, now)
                work += 1
        return work

    def next_ns(self) -> int:
        """When the next restart is due, monotonic; far away when none is."""
        due = [child.restart_ns for child in self.children.values() if not child.pid]
        return min(due, default=1 << 62)

    def _start(self, child: Child, now: Now) -> None:
        row = self._heritage.doorbells.rows[child.number]
        row.generation += 1
        row.sleeping = row.parked = 0
        child.started_ns = now.monotonic_ns
        child.pid = row.pid = self._fork.spawn(child.number)

    def _reap(self, now: Now) -> int:
        by_pid = {child.pid: child for child in self.children.values() if child.pid}
        ended = self._fork.reap()
        for pid, how in ended:
            if pid in by_pid:
                self._miss(by_pid[pid], how, now)
        return len(ended)

    def _miss(self, child: Child, how: str, now: Now) -> None:
        """Notes a death, and when to start anew: at once, or later the more often it happens."""
        child.pid = 0
        if self._stopping:
            return
        child.deaths += 1
        lived_ns = now.monotonic_ns - child.started_ns
        child.backoff_ns = (
            BACKOFF_MIN_NS if lived_ns > STEADY_NS else min(2 * child.backoff_ns, BACKOFF_MAX_NS)
        )
        wait_ns = 0 if lived_ns > STEADY_NS or child.deaths == 1 else child.backoff_ns
        child.restart_ns = now.monotonic_ns + wait_ns
        name, seconds = process_name(child.number), lived_ns / 1e9
        log.warning(
            "%s %s after %.1f s; it starts again in %.2f s", name, how, seconds, wait_ns / 1e9
        )

    # ------------------------------------------------------------- the end

    def stop(self, now: Now) -> None:
        """Begins a clean end: frontends first, then coordinator, writer, NameServer."""
        if not self._stopping:
            self._stopping = True
            self._begin_stage(now)

    @property
    def stopped(self) -> bool:
        """No child runs any more."""
        return self._stopping and not self._stages

    def _begin_stage(self, now: Now) -> None:
        self._stage_ns = now.monotonic_ns
        for child in self._running():
            self._fork.signal(child.pid, signal.SIGTERM)

    def _running(self) -> list[Child]:
        stage = self._stages[0] if self._stages else []
        return [self.children[n] for n in stage if n in self.children and self.children[n].pid]

    def _stop_step(self, now: Now) -> int:
        if not self._stages:
            return 0
        if self._running():
            if now.monotonic_ns - self._stage_ns > STOP_NS:
                for child in self._running():
                    log.error("%s does not end; it is killed", process_name(child.number))
                    self._fork.signal(child.pid, signal.SIGKILL)
                self._stage_ns = now.monotonic_ns
            return 0
        self._stages.pop(0)
        self._begin_stage(now)
        return 1


class RealFork:
    """Forks for real. A child runs its loop and exits; it never returns here."""

    def __init__(self, run_child: Callable[[int], int]) -> None:
        self._run_child = run_child

    def spawn(self, number: int) -> int:
        """Starts a process; its pid."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            code = self._run_child(number)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def reap(self) -> list[tuple[int, str]]:
        """(pid, how it ended) of the children that ended since the last call."""
        ended: list[tuple[int, str]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            ended.append((pid, _how(status)))

    def signal(self, pid: int, number: int) -> None:
        """Sends a signal; one that has ended already does not mind."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        named = number in set(signal.Signals)  # not all real-time signals are
        return f"was killed by {signal.Signals(number).name if named else f'signal {number}'}"
    return f"ended with exit code {os.WEXITSTATUS(status)}"


# ----------------------------------------------------------------- what is had before the fork


def run(config: Config) -> int:
    """Runs the whole appliance until SIGTERM or SIGINT; the exit code. StartError."""
    bell = _signal_bell()  # before there is anything to leave behind
    open_journal(config.log, "supervisor")
    limits = Limits()
    limits.admit(config.store)
    clock = Clock()
    with (
        _store_of_our_own(config) as sizes,
        _listeners(config) as listeners,
        _memory(config, limits, sizes) as heritage,
    ):
        heritage.listeners.update(listeners)
        return _supervise(heritage, clock, bell)


@contextlib.contextmanager
def _store_of_our_own(config: Config) -> Iterator[tuple[int, int]]:
    """The store's locks, and the sizes of its files."""
    disk, paths = RealDisk(), StorePaths(config.store.root)
    try:
        check_store(disk, config.store.root)
        disk.make_directories(paths.config)
        semaphore = _take_semaphore(config.store.root)
        lock: FileLock = lock_store(disk, paths)
        log_size = found_file_size(disk, [paths.commitlog], config.store.commitlog_file_size)
        rows = found_row_count(disk, paths.consumequeue, config.store.consumequeue_entries)
    except StoreRefused as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(
            f"{error.filename or config.store.root}: {error.strerror}: "
            "the store has to be a folder that this user may write"
        ) from error
    try:
        yield log_size, rows * UNIT_SIZE
    finally:
        lock.release()
        semaphore.release()
        with contextlib.suppress(sysv_ipc.Error):
            semaphore.remove()


def _take_semaphore(root: str) -> sysv_ipc.Semaphore:
    """One for each store; the kernel gives it back (SEM_UNDO) when its holder is gone."""
    digest = hashlib.sha256(os.path.realpath(root).encode()).digest()
    key = int.from_bytes(digest[:4]) & 0x7FFFFFFF or 1
    try:
        semaphore = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, mode=0o600, initial_value=1)
    except sysv_ipc.ExistentialError:
        semaphore = sysv_ipc.Semaphore(key)
    semaphore.undo = True
    semaphore.block = False  # a time-out of 0 waits for ever where semtimedop(2) is not known
    try:
        semaphore.acquire()
    except sysv_ipc.BusyError:
        raise StartError(
            f"{root}: the store is in use by another appliance: stop it first"
        ) from None
    return semaphore


@contextlib.contextmanager
def _listeners(config: Config) -> Iterator[dict[int, list[socket.socket]]]:
    """Sockets that listen, by process. Held by us: they outlive a frontend, with their backlog."""
    broker = config.broker
    listeners: dict[int, list[socket.socket]] = {}
    with contextlib.ExitStack() as stack:
        if config.nameserver.enabled:
            host, port = config.nameserver.host, config.nameserver.port
            listeners[NAMESERVER] = [stack.enter_context(_listen(host, port, shared=False))]
        for port in (broker.port, broker.vip_port):
            _listen(broker.host, port, shared=False).close()  # SO_REUSEPORT would hide a stranger
            for i in range(broker.frontends):
                sock = stack.enter_context(_listen(broker.host, port, shared=True))
                listeners.setdefault(FRONTEND + i, []).append(sock)
        yield listeners


def _listen(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"{join_address(host, port)}: {error.strerror}: stop what listens there, or choose "
            "another address in broker.toml"
        ) from error
    return sock


@contextlib.contextmanager
def _memory(config: Config, limits: Limits, sizes: tuple[int, int]) -> Iterator[Heritage]:
    if swept := sweep():
        log.info("removed %d regions that a dead appliance left in /dev/shm", len(swept))
    instance = hashlib.sha256(os.path.realpath(config.store.root).encode()).hexdigest()[:8]
    segments = SharedSegments(instance)
    try:
        heritage = heritages.create(segments, config, limits, sizes)
    except RegionError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(
            f"{config.source}: [broker] advertise: {config.broker.advertise}: {error.strerror}"
        ) from error
    try:
        yield heritage
    finally:
        segments.remove()


def _supervise(heritage: Heritage, clock: Clock, bell: int) -> int:
    """The supervisor's own loop: children, signals, the `ready` line."""
    _raise_descriptor_limit()
    supervisor = Supervisor(
        heritage, RealFork(lambda number: launch.run_child(number, heritage, clock))
    )
    told = False
    while not supervisor.stopped:
        now = clock.now()
        if _signals(bell) & {signal.SIGTERM, signal.SIGINT}:
            supervisor.stop(now)
        if supervisor.step(now):
            continue
        if not told and supervisor.ready:
            told = True
            print(ready_line(heritage), flush=True)
        wait_ms = 5 if not told else max(0, supervisor.next_ns() - now.monotonic_ns) // 1_000_000
        select.select([bell], [], [], min(wait_ms, 500) / 1000)
    return 1 if Watermarks(heritage.watermarks).state == FAILED else 0


def _signal_bell() -> int:
    """A pipe that the interpreter writes each signal's number to."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    return read_end


def _signals(bell: int) -> set[int]:
    try:
        return set(os.read(bell, 256))
    except BlockingIOError:
        return set()


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def ready_line(heritage: Heritage) -> str:
    """What `appliance start` prints once: where it listens, and what recovery did."""
    config, found = heritage.config, heritage.writer.struct("ap_writer")
    parts = [f"broker {config.broker.listen} (VIP port {config.broker.vip_port})"]
    if config.nameserver.enabled:
        parts.append(f"NameServer {config.nameserver.listen}")
    how = "after a crash" if found.recovered_abnormal else "in order"
    recovered = (
        f"store {config.store.root} opened {how} in {found.recovered_us / 1e6:.3f} s: "
        f"{found.recovered_records} records walked, {found.recovered_rows} queue rows rebuilt, "
        f"{found.recovered_cut} bytes cut off, {found.recovered_damaged} damaged places"
    )
    return f"ready: {', '.join(parts)}; {recovered}"
