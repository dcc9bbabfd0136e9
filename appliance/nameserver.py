"""The NameServer process: frames in, answers out, and what the answers entail.

Runs in: nameserver.
Owns: the NameServer's tables, its KV file and its settings file.
Fails: `ValueError` at start on a KV file that is none; never on what a peer sends.

Every NameServer is complete and independent; brokers register with each. It shares no memory with
the broker, so it may as well run on another host.
"""

import logging
import os
from typing import Protocol

from appliance.clock import Now
from appliance.journal import Throttle
from appliance.namesrv import brokers, config, kv_file, permissions, routes, topics
from appliance.namesrv.settings import Settings, parse_properties
from appliance.namesrv.state import Close, Effect, Notify, Save, State
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import Frame, FrameError
from appliance.net.json_text import JsonError
from appliance.net.link import Connect, Link, connect_tcp
from appliance.net.poll import CLOSE_REASONS, PEERS_FAULT, Ended
from appliance.net.requests import NAMESRV, Response
from appliance.net.responses import SYSTEM_ERROR

log = logging.getLogger("appliance.nameserver")

NOTIFY_NS = 3_000_000_000
"""A push that could not be delivered for so long is given up."""
IDLE_SWEEP_NS = 1_000_000_000
PUSH_SLEEP_MS = 10
"""How often a push that is under way is looked after."""
"""A peer must not fill the log."""


class Sockets(Protocol):
    """What the process needs of `net.poll.Sockets`."""

    def look(self, now: Now, /) -> None:
        """See which connections have something, unless `wait` just did."""

    def wait(self, timeout_ms: int, now: Now, /) -> int:
        """Wait until a connection has something."""

    def receive(self) -> list[tuple[int, bytes]]:
        """Frames that have arrived, without their length words, each with its connection."""

    def peer(self, connection: int) -> str:
        """The other side's "ip:port"."""

    def send(self, connection: int, data: bytes) -> bool:
        """Put bytes into a connection's output; False when it is gone."""

    def flush(self) -> None:
        """Send what was put."""

    def close(self, connection: int) -> None:
        """End a connection after what was put into its output."""

    def opened(self) -> list[tuple[int, str]]:
        """Connections that came since the last call."""

    def ended(self) -> list[Ended]:
        """Connections that went since the last call, and why."""

    def sweep(self, now: Now, idle_ns: int) -> None:
        """End connections that were idle for so long."""

    def shut(self) -> None:
        """Close everything."""


class Files(Protocol):
    """What the process needs of `commitlog.disk.Disk`."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def read(self, path: str) -> bytes:
        """All of a file."""

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a file, durably, or leave it as it was."""

    def make_directories(self, path: str) -> None:
        """Create a directory and those above it."""


class NameServer:
    """One NameServer over sockets that listen already."""

    ready = True

    def __init__(
        self,
        sockets: Sockets,
        disk: Files,
        settings: Settings,
        now: Now,
        connect: Connect = connect_tcp,
    ) -> None:
        self.state = State(settings, started_ms=_ms(now))
        self._sockets = sockets
        self._disk = disk
        self._connect = connect
        self._handlers = requests.bind(
            lambda row: bool(row.served_by & NAMESRV), (routes, topics, permissions, config)
        )
        self._pushes: dict[str, tuple[Link, int]] = {}
        self._scan_ns = self._sweep_ns = now.monotonic_ns
        self._throttle = Throttle(log)
        self._now_ns = now.monotonic_ns
        self._load()

    def step(self, now: Now) -> int:
        """Serve what has arrived, forget who is silent, push; returns how much was done."""
        self._now_ns = now.monotonic_ns
        self._sockets.look(now)
        self._sockets.opened()  # Of no interest until they say something.
        arrived = self._sockets.receive()
        for connection, data in arrived:
            self._hear(connection, data, _ms(now))
        ended = self._sockets.ended()
        for one in ended:
            self._part(one)
        self._look_for_silence(now)
        self._perform(self.state.take_effects())
        pushed = self._push(now)
        self._sockets.flush()
        return len(arrived) + len(ended) + pushed

    def sleep_ms(self, now: Now) -> int:
        """Until the next look for silence, or after pushes under way."""
        due_ns = min(self._scan_ns, self._sweep_ns) - now.monotonic_ns
        due_ms = max(0, due_ns // 1_000_000 + 1)
        return min(due_ms, PUSH_SLEEP_MS) if self._pushes else due_ms

    def pending(self) -> bool:
        """Everything that it hears of comes by its sockets."""
        return False

    def wait(self, timeout_ms: int, now: Now) -> None:
        """Sleep until a socket or the doorbell has something."""
        self._sockets.wait(timeout_ms, now)

    def stop(self, now: Now) -> bool:
        """Every step ends with all requests answered, so any time is good."""
        return True

    def close(self) -> None:
        """Send what is ready and close every connection."""
        for link, _ in self._pushes.values():
            link.close()
        self._sockets.flush()
        self._sockets.shut()

    def _load(self) -> None:
        settings = self.state.settings
        if content := self._read(settings.kv_config_path):
            try:
                self.state.kv = kv_file.read(content)
            except JsonError as error:
                raise ValueError(f"{settings.kv_config_path}: {error}") from error
        if content := self._read(settings.config_store_path):
            changes = parse_properties(content.decode("utf-8", "replace"))
            settings.apply(settings.allowed(changes))

    def _read(self, path: str) -> bytes:
        """A file's content, empty if there is none yet; afterwards it can be written."""
        if not path:
            return b""
        self._disk.make_directories(os.path.dirname(path))
        return self._disk.read(path) if self._disk.exists(path) else b""

    # Requests --------------------------------------------------------------------------------

    def _hear(self, connection: int, data: bytes, now_ms: int) -> None:
        try:
            frame = frames.decode(data)
        except FrameError as error:
            self._close(connection, str(error))
            return
        if frame.response:
            return  # Apache drops answers to nothing, too.
        response = self._serve(connection, frame, now_ms)
        if not frame.oneway:
            self._sockets.send(connection, _encoded(frame, response))

    def _serve(self, connection: int, frame: Frame, now_ms: int) -> Response:
        handler = self._handlers.get(frame.code)
        if handler is None:
            return requests.unsupported(frame.code)
        peer = self._sockets.peer(connection)
        request = requests.request(frame, now_ms=now_ms, connection=connection, peer=peer)
        response: Response = requests.call(handler, request, self.state)
        failure = self._perform(self.state.take_effects())
        return response if failure is None else Response(SYSTEM_ERROR, failure)

    # Effects ---------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> str | None:
        """Do what handlers asked for; returns why a file could not be written, if so."""
        failure = None
        for effect in effects:
            match effect:
                case Close(connection, reason):
                    self._close(connection, reason)
                case Notify(address, frame):
                    self._notify(address, frame)
                case Save(path, content):
                    failure = self._save(path, content) or failure
        return failure

    def _close(self, connection: int, reason: str) -> None:
        self._say(self._sockets.peer(connection), reason)
        self._sockets.close(connection)

    def _part(self, ended: Ended) -> None:
        if ended.reason in PEERS_FAULT:
            self._say(ended.peer, CLOSE_REASONS[ended.reason])
        brokers.connection_closed(self.state, ended.connection)

    def _say(self, peer: str, reason: str) -> None:
        self._throttle.warning(self._now_ns, f"{peer}: connection closed: {reason}")

    def _save(self, path: str, content: bytes) -> str | None:
        try:
            self._disk.write_atomic(path, content)
        except OSError as error:
            log.error("%s could not be written: %s", path, error)
            return f"{path} could not be written: {error.strerror}"
        return None

    def _notify(self, address: str, frame: Frame) -> None:
        link, _ = self._pushes.get(address) or (Link(address, self._connect), 0)
        link.oneway(frame)
        self._pushes[address] = link, 0

    def _push(self, now: Now) -> int:
        """Bring pushes on their way; a link that is done or late is closed."""
        work = 0
        for address, (link, since_ns) in list(self._pushes.items()):
            work += link.step(now)
            began_ns = since_ns or now.monotonic_ns
            if link.idle or now.monotonic_ns - began_ns > NOTIFY_NS:
                link.close()
                del self._pushes[address]
            else:
                self._pushes[address] = link, began_ns
        return work

    # Silence ---------------------------------------------------------------------------------

    def _look_for_silence(self, now: Now) -> None:
        settings = self.state.settings
        if now.monotonic_ns >= self._scan_ns:
            interval_ms = max(settings.scan_not_active_broker_interval, 10)
            self._scan_ns = now.monotonic_ns + interval_ms * 1_000_000
            brokers.expire(self.state, _ms(now))
        if now.monotonic_ns >= self._sweep_ns:
            self._sweep_ns = now.monotonic_ns + IDLE_SWEEP_NS
            idle_ns = settings.server_channel_max_idle_time_seconds * 1_000_000_000
            self._sockets.sweep(now, idle_ns)


def _ms(now: Now) -> int:
    """The NameServer's time: monotonic, since it only measures silence."""
    return now.monotonic_ns // 1_000_000


def _encoded(frame: Frame, response: Response) -> bytes:
    try:
        return frames.encode(requests.answer(frame, response))
    except FrameError as error:
        return frames.encode(requests.answer(frame, Response(SYSTEM_ERROR, str(error))))
