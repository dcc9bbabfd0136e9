"""One frontend: clients' frames in, answers out. Sends and pulls stay on the fast path; everything
else goes to the coordinator and its answers come back.

Runs in: frontend-0, frontend-1, ….
Owns: its connections, its half of its rings.
Fails: a client's mistake ends its connection with one log line, or is answered; a coordinator that
       does not keep up is answered for with Apache's flow-control code.
"""

import logging
import os
import select
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from appliance import failpoint
from appliance.clock import Now
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.disk import Disk
from appliance.commitlog.reader import LogReader
from appliance.heritage import COORDINATOR, FRONTEND, WRITER, Heritage, process_name
from appliance.journal import Throttle
from appliance.net.poll import CLOSE_REASONS, PEERS_FAULT, SocketLimits, Sockets
from appliance.net.pull import PullPath
from appliance.net.responses import SYSTEM_BUSY, SYSTEM_ERROR
from appliance.net.send import BUSY, SendPath, build_facts
from appliance.ring.ring import Ring
from appliance.ring.tables import (
    GroupTable,
    OffsetTable,
    QueueTable,
    SubscriptionTable,
    TopicTable,
)
from appliance.ring.watermarks import Watermarks
from clib import ffi, lib

log = logging.getLogger("appliance.frontend")

HEART_BEAT = 34
ONEWAY = 2
SERIALS_PER_START = 1 << 20
SWEEP_NS = 5_000_000_000
TELL_MAX = 4096
MEMORY_RATIO = 0.4  # accessMessageInMemoryMaxRatio


class Event(NamedTuple):
    """Something that the coordinator must hear of, kept until its ring has room."""

    kind: int
    connection: int
    data: bytes = b""


class Frontend:
    """See the file's head."""

    def __init__(self, index: int, heritage: Heritage, sockets: Sockets, disk: Disk) -> None:
        self._index, self._heritage, self._sockets = index, heritage, sockets
        self.name = process_name(FRONTEND + index)
        self._row = heritage.doorbells.rows[FRONTEND + index]
        self._ask = Ring(heritage.ask[index], "ap_frame")
        self._tell = Ring(heritage.tell[index], "ap_frame")
        self._watermarks = Watermarks(heritage.watermarks)
        self._topics, self._groups = TopicTable(heritage.topics), GroupTable(heritage.groups)
        self._sends = self._send_path()
        self._pulls = self._pull_path(disk)
        self._events: deque[Event] = deque([Event(lib.AP_RESET, 0)])
        self._heartbeats: dict[int, bytes] = {}
        self._coordinator_generation = int(heritage.doorbells.rows[COORDINATOR].generation)
        self._again = ffi.new("ap_request *")
        self._text = ffi.new("uint8_t[]", 1 << 16)
        self._sweep_ns = 0
        self._expired = 0
        self._throttle = Throttle(log)
        self._open = self._draining = False
        self._bell = select.poll()
        self._bell.register(heritage.doorbells.bells[FRONTEND + index], select.POLLIN)
        self.ready = True

    def _send_path(self) -> SendPath:
        config = self._heritage.config
        build = build_facts(
            config.broker.cluster,
            self._heritage.store_host,
            config.broker.port,
            config.store.max_message_size,
        )
        ring = Ring(self._heritage.send[self._index], "ap_send")
        done = Ring(self._heritage.done[self._index], "ap_done")
        return SendPath(self._sockets, self._topics, build, ring, done)

    def _pull_path(self, disk: Disk) -> PullPath:
        store = self._heritage.config.store
        log_size, queue_size = self._heritage.log_file_size, self._heritage.queue_file_size
        tables = (
            self._topics,
            self._groups,
            SubscriptionTable(self._heritage.subscriptions),
            OffsetTable(self._heritage.offsets),
            QueueTable(self._heritage.queues),
        )
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return PullPath(
            self._sockets,
            tables,
            ConsumeQueueReader(disk, str(store.consumequeue_folder), file_size=queue_size),
            LogReader(
                disk, str(store.commitlog_folder), file_size=log_size, bounds=self._watermarks
            ),
            memory_size=int(memory * MEMORY_RATIO),
        )

    # ------------------------------------------------------------- the step

    def step(self, now: Now) -> int:
        """Answers that are ready, pulls that woke, frames that came."""
        self._sockets.look(now)
        work = self._sends.complete() + self._take_answers(now) + self._pulls.wake(now)
        if self.may_receive():
            work += self._receive(now)
        self._sockets.flush()
        self._keep_house(now)
        self._row.parked = len(self._pulls.parked)
        return work

    def may_receive(self) -> bool:
        """Not before the store and the tables are there, and not after a stop was asked for."""
        if not self._open:
            rows = self._heritage.doorbells.rows
            self._open = bool(rows[WRITER].ready and rows[COORDINATOR].ready)
        return self._open and not self._draining

    def _receive(self, now: Now) -> int:
        count = self._sockets.scan(self._topics.table, self._groups.table)
        self._note_opened()
        if count:
            others, sent = self._sends.take(count)
            if sent:
                self._heritage.doorbells.wake(WRITER)
            if others:
                self._serve_others(others, now)
        self._note_ended()
        self._tell_events()
        return count

    def _serve_others(self, others: list[int], now: Now) -> None:
        """Pulls one by one, everything else to the coordinator."""
        rows, asked = self._sockets.request_rows, False
        for index in others:
            request = rows[index]
            if request.kind != lib.AP_REQUEST_PULL or not self._pull(request, now):
                self._tell_events()  # who asks has to be known first
                self._hand_on(index)
                asked = True
        if asked:
            self._heritage.doorbells.wake(COORDINATOR)

    def _pull(self, request: Any, now: Now) -> bool:
        commit = self._pulls.take(request, now)
        if commit is False:
            return False
        if commit is not None:  # lost when the ring is full: the next pull brings it again
            values = np.array(commit, np.int64)
            self._ask.push(kind=lib.AP_COMMIT, connection=request.connection, size=0, values=values)
        return True

    def _hand_on(self, index: int) -> None:
        request = self._sockets.request_rows[index]
        connection, frame = request.connection, self._sockets.frame(index)
        if request.code == HEART_BEAT:
            self._heartbeats[connection] = frame
        if self._events or not self._ask.push(
            frame,
            kind=lib.AP_FRAME,
            connection=connection,
            size=len(frame),
            flags=0,
            received_ns=self._sockets.net.now_ns,
        ):
            self._refuse(request)

    def _refuse(self, request: Any) -> None:
        if request.kind != lib.AP_REQUEST_RESPONSE and not request.flag & ONEWAY:
            self._answer(request.connection, request.opaque, SYSTEM_BUSY, BUSY)

    def _answer(self, connection: int, opaque: int, code: int, remark: str) -> None:
        lib.ap_answer_code(self._sockets.net, connection, opaque, code, remark.encode())

    # ------------------------------------------------------------- the coordinator's words

    def _take_answers(self, now: Now) -> int:
        first, last = self._tell.poll()
        last = min(last, first + TELL_MAX)
        for position in range(first, last):
            entry = self._tell.entries[position & self._tell.mask]
            data = self._tell.data(position, int(entry["size"]))
            kind, connection = int(entry["kind"]), int(entry["connection"])
            if kind == lib.AP_FRAME:
                self._sockets.send(connection, bytes(data))
            elif kind == lib.AP_CLOSE:
                self._sockets.close(connection)
            elif kind == lib.AP_AGAIN:
                self._serve_again(connection, bytes(data), now)
        if first != last:
            self._tell.release(last)
        return last - first

    def _serve_again(self, connection: int, frame: bytes, now: Now) -> None:
        """A pull that the coordinator found nothing wrong with: once more, and for good."""
        request, memory = self._again, ffi.from_buffer(frame)
        ffi.memmove(request, bytes(ffi.sizeof("ap_request")), ffi.sizeof("ap_request"))
        request.connection, request.frame_size = connection, len(frame)
        request.frame = int(ffi.cast("uint64_t", memory))
        text = ffi.new("uint8_t **", self._text)
        lib.ap_header_scan(
            request, self._topics.table, self._groups.table, text, self._text + len(self._text)
        )
        if request.kind != lib.AP_REQUEST_PULL or not self._pull(request, now):
            self._answer(connection, request.opaque, SYSTEM_ERROR, "this pull cannot be served")

    # ------------------------------------------------------------- connections

    def _note_opened(self) -> None:
        for connection, peer in self._sockets.opened():
            self._events.append(Event(lib.AP_OPENED, connection, peer.encode()))

    def _note_ended(self) -> None:
        for ended in self._sockets.ended():
            self._heartbeats.pop(ended.connection, None)
            self._pulls.parked.forget(ended.connection)
            self._events.append(Event(lib.AP_CLOSED, ended.connection))
            if ended.reason in PEERS_FAULT:
                line = f"{ended.peer}: connection closed: {CLOSE_REASONS[ended.reason]}"
                self._throttle.warning(self._sockets.net.now_ns, line)

    def _tell_events(self) -> None:
        """Passes on who came and went, in order; what finds no room waits."""
        told = 0
        while self._events:
            event = self._events[0]
            if not self._ask.push(
                event.data, kind=event.kind, connection=event.connection, size=len(event.data)
            ):
                break
            self._events.popleft()
            told += 1
        if told:
            self._heritage.doorbells.wake(COORDINATOR)

    # ------------------------------------------------------------- house

    def _keep_house(self, now: Now) -> None:
        generation = int(self._heritage.doorbells.rows[COORDINATOR].generation)
        if generation != self._coordinator_generation:
            self._coordinator_generation = generation
            self._introduce_all()
        if now.monotonic_ns >= self._sweep_ns:
            self._sweep_ns = now.monotonic_ns + SWEEP_NS
            self._sockets.sweep(now, self._heritage.limits.idle_ns)
            expired = self._watermarks.expired
            if expired != self._expired:
                self._expired = expired
                self._pulls.forget_before(expired)

    def _introduce_all(self) -> None:
        """A new coordinator knows nobody: it hears of every client as if they just came."""
        for connection in self._sockets.connections():
            peer = self._sockets.peer(connection)
            self._events.append(Event(lib.AP_OPENED, connection, peer.encode()))
            if connection in self._heartbeats:
                self._events.append(Event(lib.AP_FRAME, connection, self._heartbeats[connection]))
        self._tell_events()

    # ------------------------------------------------------------- waiting and ending

    def sleep_ms(self, now: Now) -> int:
        """Until the first long poll's time is up."""
        if not self._open:
            return 5
        if not len(self._pulls.parked):
            return 1000
        left_ns = self._pulls.parked.next_deadline_ns - now.monotonic_ns
        return max(0, left_ns // 1_000_000 + 1)

    def pending(self) -> bool:
        """Answers of the writer or the coordinator wait, or what a parked pull waits for is
        there."""
        answered = self._sends.pending or self._tell.tail != self._tell.head
        return answered or self._pulls.parked.pending

    def wait(self, timeout_ms: int, now: Now) -> None:
        """Sleeps until a socket or the doorbell has something. Sockets that are not to be read are
        left alone: they would not let it sleep."""
        if self.may_receive():
            self._sockets.wait(timeout_ms, now)
        elif timeout_ms and self._bell.poll(timeout_ms):
            self._heritage.doorbells.hush(FRONTEND + self._index)

    def stop(self, now: Now) -> bool:
        """Nothing is read any more; what was sent is answered before the connections close."""
        self._draining = True
        return self._sends.idle

    def close(self) -> None:
        """Sends what is ready and closes every connection."""
        self._sends.complete()
        self._sockets.flush()
        failpoint.reach("frontend.answered")
        self._sockets.shut()


def socket_limits(heritage: Heritage) -> SocketLimits:
    """The limits of a frontend's sockets."""
    limits = heritage.limits
    return SocketLimits(limits.connections_max, limits.frame_max, limits.response_backlog_max)


def make_sockets(index: int, heritage: Heritage) -> Sockets:
    """The real sockets of a frontend: its listeners and its doorbell."""
    number = FRONTEND + index
    generation = int(heritage.doorbells.rows[number].generation)
    sockets = Sockets(
        socket_limits(heritage), first_serial=generation * SERIALS_PER_START % (1 << 32)
    )
    for listener in heritage.listeners.get(number, []):
        sockets.listen(listener)
    sockets.watch_doorbell(heritage.doorbells.bells[number])
    return sockets
