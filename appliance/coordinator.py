"""The broker's mind: every request but plain sends and pulls, and what happens by the clock.

Runs in: coordinator.
Owns: config/*.json; the shared tables of topics, groups, subscriptions, consume offsets and queue
    places; its halves of the rings; the connections to the NameServers.
Fails: StateFileError at start, when a state file and its backup are unreadable; otherwise never on
    what a peer sends. A disk that refuses a state file makes the request fail and is tried again.

A question is released only when its answer, or the records that it asks to store, are published. So
a killed coordinator's successor repeats questions, but never loses one; and it stores nothing
twice, since the send ring tells which questions were handed to the writer (`broker.appends`).
"""

import logging
import os
import select
from dataclasses import replace
from itertools import count
from random import Random

from appliance import failpoint
from appliance.broker import (
    admin,
    clients,
    groups,
    locks,
    offsets,
    pull,
    queries,
    retry,
    send,
    topics,
)
from appliance.broker.appends import Appended, Appends, Asker, Origin
from appliance.broker.delay import Deliveries, source_of
from appliance.broker.effects import (
    Again,
    Append,
    Close,
    Connection,
    Outcome,
    Push,
    frontend_of,
)
from appliance.broker.kept.delays import LEVELS_MS, Delays
from appliance.broker.kept.file import StateFile
from appliance.broker.kept.groups import Groups
from appliance.broker.kept.offsets import ConsumeOffsets
from appliance.broker.kept.subscriptions import SharedSubscriptions
from appliance.broker.kept.topics import Topics
from appliance.broker.lines import Line, Question
from appliance.broker.registration import Registration
from appliance.broker.state import State
from appliance.broker.store import StoreView
from appliance.broker.system import load_topics
from appliance.clock import Now
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.disk import Disk
from appliance.commitlog.reader import LogReader
from appliance.commitlog.record import encode_host
from appliance.heritage import COORDINATOR, FRONTEND, WRITER, Heritage
from appliance.journal import Throttle
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import Frame, FrameError
from appliance.net.link import Connect, connect_tcp
from appliance.net.requests import BROKER, Handler, Request, Response
from appliance.net.responses import SYSTEM_ERROR
from appliance.ring.ring import Ring
from appliance.ring.tables import (
    GroupTable,
    OffsetTable,
    QueueTable,
    SubscriptionTable,
    TableFull,
    TopicTable,
)
from appliance.ring.watermarks import Watermarks
from clib import lib

logger = logging.getLogger(__name__)

MODULES = admin, clients, groups, locks, offsets, pull, queries, retry, send, topics
"""Where the functions are that serve requests."""

QUESTIONS_MAX = 256  # of one frontend in one step
RESULTS_MAX = 1024  # of the writer in one step

REGISTER_NS = 5_000_000
"""Between two looks at the NameServers, when they and we have no news."""
OFFSETS_NS = 5_000_000_000
DELAYS_NS = 10_000_000_000
SCAN_NS = 10_000_000_000
RECOVERY_NS = 1_000_000_000
"""After a predecessor's death: the frontends tell meanwhile who is connected."""

_UNKNOWN_PEER = "0.0.0.0:0"
_SLEEP_MS = 1000
_SLEEP_BUSY_MS, _SLEEP_CUT_OFF_MS = 20, 200


class Coordinator:
    """See the file's head. `ready` once every queue's offsets are known."""

    def __init__(
        self,
        heritage: Heritage,
        disk: Disk,
        now: Now,
        *,
        connect: Connect = connect_tcp,
        random: Random | None = None,
    ) -> None:
        self._heritage = heritage
        self._bells = heritage.doorbells
        levels = range(1, len(LEVELS_MS) + 1)
        assert heritage.frontends <= min(map(source_of, levels)), "each source has its number"
        self.state = open_state(heritage, disk, now, random or Random())
        self.state.recovering = self._bells.rows[COORDINATOR].generation > 1
        self._appends = self._open_appends()
        self._deliveries = Deliveries(self.state, self._appends)
        self._registration = Registration(heritage.config.broker, self.state.topics, connect)
        self._handlers = requests.bind(
            lambda row: bool(row.served_by & (BROKER | requests.FRONTEND)), MODULES
        )
        self._throttle = Throttle(logger)
        self._lines = [self._open_line(number) for number in range(heritage.frontends)]
        self._peers: dict[Connection, str] = {}
        self._opaques = count(1)
        self._unbound: list[tuple[int, int]] = []
        # What takes up to half a ring's arena always finds its place there in the end.
        self._told_max = heritage.limits.arena_size // 2
        self._recovered_ns = now.monotonic_ns + RECOVERY_NS
        self._register_ns = now.monotonic_ns
        self._offsets_ns = now.monotonic_ns + OFFSETS_NS
        self._delays_ns = now.monotonic_ns + DELAYS_NS
        self._scan_ns = now.monotonic_ns + SCAN_NS
        self.ready = False

    def _open_line(self, number: int) -> Line:
        ask = Ring(self._heritage.ask[number], "ap_frame")
        tell = Ring(self._heritage.tell[number], "ap_frame")
        return Line(number, ask, tell, lambda: self._bells.wake(FRONTEND + number))

    def _open_appends(self) -> Appends:
        heritage = self._heritage
        return Appends(
            Ring(heritage.send[-1], "ap_send"),
            Ring(heritage.done[-1], "ap_done"),
            heritage.coordinator.struct("ap_coordinator"),
            self.state.topics,
            self.state.store_host,
            lambda: self._bells.wake(WRITER),
        )

    # ------------------------------------------------------------- the step

    def step(self, now: Now) -> int:
        """Results of appends, questions, what is due, and the NameServers; how much was done."""
        self.state.now = now
        work = self._bind()
        work += self._take_results(now)
        work += sum(self._serve(line, now) for line in self._lines)
        work += self._deliveries.step(now)
        work += self._register(now)
        self._keep_house(now)
        for line in self._lines:  # What one frontend's question entails may concern another.
            line.drain()
        return work

    def _bind(self) -> int:
        """Has the writer fill in the offsets of new queues."""
        self._unbound += self.state.topics.take_unbound()
        bound = 0
        for first_row, size in self._unbound:
            if not self._appends.bind(first_row, size):
                break
            bound += 1
        del self._unbound[:bound]
        if not self.ready and not self._unbound:
            self.ready = self.state.begin(first=not self._bells.rows[COORDINATOR].ready)
        return bound

    # ------------------------------------------------------------- questions

    def _serve(self, line: Line, now: Now) -> int:
        """Handles what a frontend asks, and releases it once the answers are published."""
        if not line.release():
            return 0
        handled = 0
        for question in line.questions(QUESTIONS_MAX):
            if not self._handle(question, line.number, now):
                break
            handled += 1
        if handled:
            failpoint.reach("coordinator.handled")
            line.release()
            failpoint.reach("coordinator.released")
        return handled

    def _handle(self, question: Question, frontend: int, now: Now) -> bool:
        """One question; False when it cannot be handled before there is room again."""
        if question.kind == lib.AP_FRAME:
            if question.position < self._appends.after(frontend):
                return True  # A predecessor handed its records over.
            return self._hear(question, Origin(frontend, question.position), now)
        if question.kind == lib.AP_COMMIT:
            self._commit(question.values)
        elif question.kind == lib.AP_OPENED:
            self._peers[question.connection] = bytes(question.data).decode()
        elif question.kind == lib.AP_CLOSED:
            self._disconnected(question.connection)
        elif question.kind == lib.AP_RESET:
            self._forget_frontend(frontend)
        return True

    def _commit(self, values: list[int]) -> None:
        """The commit inside a pull has no answer of its own."""
        try:
            self.state.offsets.commit_row(*values)
        except TableFull as error:
            logger.warning("a consume offset is not kept: %s", error)

    def _hear(self, question: Question, origin: Origin, now: Now) -> bool:
        try:
            frame = frames.decode(question.data)
        except FrameError as error:
            self._perform(Close(question.connection, str(error)))
            return True
        if frame.response:
            return True  # Nothing that we push is answered yet.
        outcome = self._outcome(question.connection, frame, now)
        effects = outcome if isinstance(outcome, list) else [outcome]
        for effect in effects:
            if isinstance(effect, Append):
                # A successor skips all up to here: earlier questions must have their answers.
                settled, asker = (
                    self._lines[origin.source].drain(),
                    Asker(question.connection, frame),
                )
                try:
                    return settled and self._appends.push(effect, origin, asker)
                except OverflowError as error:  # a number that no entry holds
                    self._answer(question.connection, frame, Response(SYSTEM_ERROR, str(error)))
                    return True
            if isinstance(effect, Response):
                self._answer(question.connection, frame, effect)
            elif isinstance(effect, Again):
                self._hand_back(question.connection, effect.frame)
            else:
                self._perform(effect)
        return True

    def _hand_back(self, connection: Connection, frame: Frame) -> None:
        try:
            data = frames.encode(frame)[4:]
        except FrameError as error:
            self._answer(connection, frame, Response(SYSTEM_ERROR, str(error)))
            return
        if len(data) <= self._told_max:
            self._tell(connection, lib.AP_AGAIN, data)
        else:
            remark = f"a request of {len(data)} bytes is over {self._told_max}"
            self._answer(connection, frame, Response(SYSTEM_ERROR, remark))

    def _outcome(self, connection: Connection, frame: Frame, now: Now) -> Outcome:
        handler = self._handlers.get(frame.code)
        if handler is None:
            return requests.unsupported(frame.code)
        asked = requests.request(
            frame,
            now_ms=now.wall_ms,
            connection=connection,
            peer=self._peers.get(connection, _UNKNOWN_PEER),
        )
        return self._call(handler, asked)

    def _call(self, handler: Handler, asked: Request) -> Outcome:
        """The machine's failures are answers too; the state is as before."""
        try:
            outcome: Outcome = requests.call(handler, asked, self.state)
        except TableFull as error:
            return Response(SYSTEM_ERROR, f"the broker is full: {error}")
        except OSError as error:
            logger.error("%s: %s", error.filename or "state file", error.strerror)
            return Response(SYSTEM_ERROR, f"the broker cannot keep this: {error.strerror}")
        return outcome

    # ------------------------------------------------------------- what follows

    def _perform(self, effect: Push | Close) -> None:
        if isinstance(effect, Push):
            frame = replace(effect.frame, opaque=next(self._opaques))
            self._tell(effect.connection, lib.AP_FRAME, frames.encode(frame))
        else:
            peer = self._peers.get(effect.connection, _UNKNOWN_PEER)
            line = f"{peer}: connection closed: {effect.reason}"
            self._throttle.warning(self.state.now.monotonic_ns, line)
            self._tell(effect.connection, lib.AP_CLOSE)

    def _answer(self, connection: Connection, asked: Frame, response: Response) -> None:
        if not asked.oneway:
            self._tell(connection, lib.AP_FRAME, self._encoded(requests.answer(asked, response)))

    def _encoded(self, answer: Frame) -> bytes:
        """An answer that does not fit a ring becomes one that says so."""
        try:
            data = frames.encode(answer)
        except FrameError as error:
            remark = str(error)
        else:
            if len(data) <= self._told_max:
                return data
            remark = f"the answer of {len(data)} bytes is over {self._told_max}"
        return frames.encode(requests.answer(answer, Response(SYSTEM_ERROR, remark)))

    def _tell(self, connection: Connection, kind: int, data: bytes = b"") -> None:
        self._lines[frontend_of(connection)].tell(kind, connection, data)

    # ------------------------------------------------------------- connections

    def _disconnected(self, connection: Connection) -> None:
        self._peers.pop(connection, None)
        for push in self.state.disconnected(connection):
            self._perform(push)

    def _forget_frontend(self, number: int) -> None:
        """It was started anew: its connections are gone."""
        known = self._peers.keys() | self.state.clients.connections()
        for connection in [one for one in known if frontend_of(one) == number]:
            self._disconnected(connection)

    def _expire_clients(self, now: Now) -> None:
        """Silent clients are closed without a word to their groups, as in Apache's broker."""
        for connection in self.state.clients.expired(now_ns=now.monotonic_ns):
            self.state.disconnected(connection)
            self._perform(Close(connection, "no heartbeat for 120 s"))

    # ------------------------------------------------------------- the writer

    def _take_results(self, now: Now) -> int:
        """Answers those whose records are stored, until a frontend has no room."""
        taken = 0
        for result in self._appends.results(RESULTS_MAX):
            if not self._settle(result, now):
                break
            taken += 1
        return taken

    def _settle(self, result: Appended, now: Now) -> bool:
        if self._deliveries.owns(result):
            self._deliveries.seen(result, now)
        elif result.answer is not None:
            line = self._lines[frontend_of(result.connection)]
            return line.offer(lib.AP_FRAME, result.connection, self._encoded(result.answer))
        return True

    # ------------------------------------------------------------- the NameServers

    def _register(self, now: Now) -> int:
        changed = self.state.topics.take_changed()
        if not changed and now.monotonic_ns < self._register_ns:
            return 0
        self._registration.announce(changed)
        work = self._registration.step(now)
        self._register_ns = now.monotonic_ns + (0 if work else REGISTER_NS)
        ordered = [self.state.topics.get(name) for name in self._registration.take_ordered()]
        fresh = [replace(one, order=True) for one in ordered if one is not None and not one.order]
        if fresh:
            self.state.topics.put(*fresh, now_ms=now.wall_ms)
        return work

    # ------------------------------------------------------------- house

    def _keep_house(self, now: Now) -> None:
        try:
            if now.monotonic_ns >= self._offsets_ns:
                self._offsets_ns = now.monotonic_ns + OFFSETS_NS
                self.state.offsets.save(now_ms=now.wall_ms)
            if now.monotonic_ns >= self._delays_ns:
                self._delays_ns = now.monotonic_ns + DELAYS_NS
                self.state.delays.save(now_ms=now.wall_ms)
        except OSError as error:
            logger.error("%s: %s", error.filename or "state file", error.strerror)
        if now.monotonic_ns >= self._scan_ns:
            self._scan_ns = now.monotonic_ns + SCAN_NS
            self._expire_clients(now)
            self.state.store.forget_expired()
        if self.state.recovering and now.monotonic_ns >= self._recovered_ns:
            self._end_recovery()

    def _end_recovery(self) -> None:
        """Everybody looks once more who is in his group: some may have left unseen."""
        self.state.recovering = False
        for group in self.state.clients.consumer_groups():
            for push in self.state.notices(group):
                self._perform(push)

    # ------------------------------------------------------------- waiting and ending

    def pending(self) -> bool:
        """Whether there are new questions or results."""
        return self._appends.pending or any(line.pending for line in self._lines)

    def sleep_ms(self, now: Now) -> int:
        """Until something is due that nobody rings for."""
        blocked = self._appends.blocked or any(line.blocked for line in self._lines)
        if blocked or self._unbound or self._registration.busy or not self.ready:
            return _SLEEP_BUSY_MS
        due = [self._offsets_ns, self._delays_ns, self._scan_ns]
        if self.state.recovering:
            due.append(self._recovered_ns)
        delayed_ns = self._deliveries.next_look_ns()
        if delayed_ns is not None:
            due.append(max(delayed_ns, now.monotonic_ns + _SLEEP_BUSY_MS * 1_000_000))
        left_ms = (min(due) - now.monotonic_ns + 999_999) // 1_000_000
        longest_ms = _SLEEP_CUT_OFF_MS if self._registration.cut_off else _SLEEP_MS
        return max(0, min(left_ms, longest_ms))

    def wait(self, timeout_ms: int, now: Now) -> None:
        """Sleeps until the doorbell rings or a NameServer speaks."""
        poll, bell = select.poll(), self._bells.bells[COORDINATOR]
        poll.register(bell, select.POLLIN)
        for link in self._registration.links:
            if link.fileno() >= 0:
                poll.register(link.fileno(), select.POLLIN | select.POLLOUT * link.wants_write)
        if any(rung != bell for rung, _ in poll.poll(timeout_ms)):
            self._register_ns = now.monotonic_ns
        self._bells.hush(COORDINATOR)

    def stop(self, now: Now) -> bool:
        """The NameServers hear it first; then all that was handed over is answered."""
        gone = self._registration.leave(now)
        drained = sum(not line.release() for line in self._lines) == 0
        return gone and drained and self._appends.idle

    def close(self) -> None:
        """Writes what changed since the last time."""
        now_ms = self.state.now.wall_ms
        self.state.offsets.save(now_ms=now_ms)
        self.state.delays.save(now_ms=now_ms)
        self._registration.close()


# What it begins with --------------------------------------------------------------------------


def open_state(heritage: Heritage, disk: Disk, now: Now, random: Random) -> State:
    """Reads the state files, and shows the other processes what they need of them."""
    store = heritage.config.store
    disk.make_directories(str(store.config_folder))

    def file(name: str) -> StateFile:
        return StateFile(disk, f"{store.config_folder}/{name}")

    queue_table = QueueTable(heritage.queues)
    kept_topics = Topics(file("topics.json"), TopicTable(heritage.topics), queue_table)
    kept_groups = Groups(
        file("subscriptionGroup.json"),
        GroupTable(heritage.groups),
        auto_create=heritage.config.broker.auto_create_groups,
    )
    load_topics(kept_topics, heritage.config.broker, now_ms=now.wall_ms)
    kept_groups.load()
    kept_groups.publish_all()
    kept_offsets = ConsumeOffsets(
        file("consumerOffset.json"), OffsetTable(heritage.offsets), kept_groups, kept_topics
    )
    kept_offsets.load()
    delays = Delays(file("delayOffset.json"))
    delays.load()
    subscriptions = SubscriptionTable(heritage.subscriptions)
    return State(
        config=heritage.config,
        topics=kept_topics,
        groups=kept_groups,
        offsets=kept_offsets,
        subscriptions=SharedSubscriptions(subscriptions, kept_groups, kept_topics),
        delays=delays,
        store=_view(heritage, disk, kept_topics, queue_table),
        store_host=encode_host(heritage.store_host, heritage.config.broker.port),
        random=random,
        now=now,
        started_ms=now.wall_ms,
    )


def _view(heritage: Heritage, disk: Disk, kept: Topics, queue_table: QueueTable) -> StoreView:
    store, marks = heritage.config.store, Watermarks(heritage.watermarks)
    log_folder, queue_folder = str(store.commitlog_folder), str(store.consumequeue_folder)
    return StoreView(
        kept,
        queue_table,
        marks,
        LogReader(disk, log_folder, file_size=heritage.log_file_size, bounds=marks),
        ConsumeQueueReader(disk, queue_folder, file_size=heritage.queue_file_size),
        lambda: disk.free_space(store.root),
        memory_size=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )
