"""The fast path of pulls: queue rows → tag filter → slices of the mapped log → one answer.

What is checked here, in Apache's order, is only whether a pull is plain; one that is not goes to
the coordinator, whose function of the same name says what is wrong with it (store sheet, 7.1;
broker sheet, 8).

Runs in: frontends.
Owns: its own read-only maps of queues and log.
Fails: a record whose file is gone is MESSAGE_WAS_REMOVING, never an error.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.clock import Now
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.reader import LogReader
from appliance.ring.layout import pointer
from appliance.ring.tables import (
    GROUP_CONSUME_ENABLE,
    SUB_ALL,
    SUB_OTHER,
    TOPIC_PULL,
    GroupTable,
    OffsetTable,
    QueueTable,
    SubscriptionTable,
    TopicTable,
)
from clib import ffi, lib

from appliance.net.parked import Parked
from appliance.net.poll import Sockets

COMMIT, SUSPEND, SUBSCRIPTION, CLASS_FILTER = 1, 2, 4, 8
FOUND, NOT_FOUND, RETRY, MOVED = 0, 19, 20, 21
MAX_BYTES = 128 << 20
SUSPEND_MAX_MS = 3_600_000
"""Nobody waits longer, whatever he asks for: clients give up after 30 s."""
EXAMINED_MAX = 800  # maxFilterMessageSize 16000 / 20
EXPRESSIONS_MAX = 4096
EXPRESSION_SIZE_MAX = 1024
"""Longer ones are parsed anew for each pull: nobody fills our memory with them."""
EVERY_TAG = b"*"
"""In place of codes; told from them by identity."""
REMARKS = {
    name: ffi.new("char[]", name.encode())
    for name in (
        "FOUND",
        "NO_MATCHED_MESSAGE",
        "MESSAGE_WAS_REMOVING",
        "NO_MESSAGE_IN_QUEUE",
        "OFFSET_OVERFLOW_ONE",
        "OFFSET_OVERFLOW_BADLY",
        "OFFSET_TOO_SMALL",
        "OFFSET_FOUND_NULL",
    )
}


@dataclass(slots=True)
class Pull:
    """One pull, resolved. `codes`: of the tags wanted, as C's int32, or EVERY_TAG. `deadline_ns`:
    it may wait until
    then, 0 when it may not."""

    connection: int
    opaque: int
    topic: str
    topic_row: int
    queue_id: int
    offset: int
    max_count: int
    codes: bytes
    deadline_ns: int


class PullPath:
    """Pulls of one frontend."""

    def __init__(
        self,
        sockets: Sockets,
        tables: tuple[TopicTable, GroupTable, SubscriptionTable, OffsetTable, QueueTable],
        rows: ConsumeQueueReader,
        log: LogReader,
        *,
        memory_size: int,
    ) -> None:
        self._sockets = sockets
        self._topics, self._groups, self._subscriptions, self._offsets, self._queues = tables
        self._rows, self._log, self._memory_size = rows, log, memory_size
        self.parked = Parked(self._queues)
        self._expressions: dict[bytes, bytes] = {}
        self._names: dict[int, str] = {}
        self._filter, self._found = ffi.new("ap_filter *"), ffi.new("ap_found *")
        self._pulled, self._files = ffi.new("ap_pulled *"), ffi.new("ap_log *")
        self._slices = ffi.new("uint64_t[]", 2 * lib.AP_SLICES_MAX)
        self._addresses = np.zeros(0, np.uint64)
        self._gone: set[int] = set()
        self._topics_version = self._topics.version

    # ------------------------------------------------------------- from requests

    def take(self, request: Any, now: Now) -> tuple[int, int, int, int] | bool | None:
        """Serves one scanned pull. False: it is not plain. Else the offset that it commits, as
        (group row, topic row, queue id, offset), where it brings a new one, or None."""
        group_row, topic_row = request.group_row, request.topic_row
        flag, queue_id = request.system_flag, request.queue_id
        if request.odd or group_row < 0 or topic_row < 0 or flag & CLASS_FILTER:
            return False
        topic = self._topics.pointer[topic_row]
        if not topic.flags & TOPIC_PULL or not 0 <= queue_id < topic.read_queues:
            return False
        if not self._groups.pointer[group_row].flags & GROUP_CONSUME_ENABLE:
            return False
        codes = self._codes(request, group_row, topic_row, flag)
        if codes is None:
            return False
        suspend_ms = min(request.suspend_ms, SUSPEND_MAX_MS) if flag & SUSPEND else 0
        pull = Pull(
            connection=request.connection,
            opaque=request.opaque,
            topic=self._name(topic_row),
            topic_row=topic_row,
            queue_id=queue_id,
            offset=request.queue_offset,
            max_count=request.max_count,
            codes=codes,
            deadline_ns=now.monotonic_ns + suspend_ms * 1_000_000 if suspend_ms > 0 else 0,
        )
        self._serve(pull, may_park=suspend_ms > 0, woken=False)
        commit = request.commit_offset
        if not flag & COMMIT or self._offsets.get(group_row, topic_row, queue_id) == commit:
            return None
        return group_row, topic_row, queue_id, commit

    def _name(self, row: int) -> str:
        name = self._names.get(row)
        if name is None:
            name = self._names[row] = self._topics.name(row)
        return name

    def _codes(self, request: Any, group_row: int, topic_row: int, flag: int) -> bytes | None:
        """The tags' codes that are wanted; None when the coordinator has to see to it."""
        if flag & SUBSCRIPTION:
            size = request.text_size
            text = bytes(ffi.buffer(ffi.cast("char *", request.text), size)) if size else b"*"
            return self._expression(text)
        known = self._subscriptions.get(group_row, topic_row)
        if known is None or known.kind == SUB_OTHER:
            return None
        if known.version < request.subscription_version:
            return None
        return EVERY_TAG if known.kind == SUB_ALL else known.codes.tobytes()

    def _expression(self, text: bytes) -> bytes | None:
        """`TagA || TagB` as codes (FilterAPI.buildSubscriptionData)."""
        codes = self._expressions.get(text)
        if codes is not None:
            return codes
        if not text.replace(b"||", b""):
            return None  # the coordinator knows what is wrong with it
        tags = [] if text == b"*" else [tag.strip() for tag in text.split(b"||")]
        # Of blanks alone nothing matches; no tag is spelled like the expression itself.
        wanted = [tag for tag in tags if tag] or [text] * len(tags)
        numbers = {lib.ap_tags_code(tag, len(tag)) for tag in wanted}
        # More tags than a filter holds: clients look at the tag itself once more anyway.
        some = 0 < len(numbers) <= lib.AP_CODES_MAX
        codes = np.array(sorted(numbers), np.int32).tobytes() if some else EVERY_TAG
        if len(self._expressions) >= EXPRESSIONS_MAX:
            self._expressions.clear()
        if len(text) <= EXPRESSION_SIZE_MAX:
            self._expressions[text] = codes
        return codes

    # ------------------------------------------------------------- answers

    def _serve(self, pull: Pull, *, may_park: bool, woken: bool) -> None:
        row = self._topics.pointer[pull.topic_row].queue_base + pull.queue_id
        queue = self._queues.pointer[row]
        bounds = begin, end = queue.min, queue.max
        offset = pull.offset
        if begin <= offset < end:
            self._read(pull, row, bounds, may_park=may_park and woken)
            return
        if not queue.bound:  # its topic has just grown: the writer has not said yet how far it goes
            status, code, following = "OFFSET_OVERFLOW_ONE", NOT_FOUND, offset
        elif end == 0:
            status, code, following = "NO_MESSAGE_IN_QUEUE", MOVED if offset else NOT_FOUND, 0
        elif offset < begin:
            status, code, following = "OFFSET_TOO_SMALL", MOVED, begin
        elif offset == end:
            status, code, following = "OFFSET_OVERFLOW_ONE", NOT_FOUND, offset
        else:
            status, code, following = "OFFSET_OVERFLOW_BADLY", MOVED, end
        if code == NOT_FOUND and may_park and self._park(pull, row):
            return
        self._answer(pull, code, status, following, bounds, 0)

    def _park(self, pull: Pull, row: int) -> bool:
        return self.parked.add(pull, row, pull.offset, pull.deadline_ns)

    def _read(self, pull: Pull, row: int, bounds: tuple[int, int], *, may_park: bool) -> None:
        count_max = max(EXAMINED_MAX, pull.max_count)
        address, count = self._rows.span(
            pull.topic, pull.queue_id, pull.offset, count_max=count_max, visible_max=bounds[1]
        )
        if not count:
            following = self._rows.next_file_row(pull.offset)
            self._answer(pull, NOT_FOUND, "OFFSET_FOUND_NULL", following, bounds, 0)
            return
        slices = self._find(pull, address, count)
        found = self._found
        following = pull.offset + int(found.examined)
        if found.matched:
            self._answer(pull, FOUND, "FOUND", following, bounds, slices)
            return
        if may_park and following >= bounds[1] and not found.removed:
            pull.offset = following  # woken by messages with other tags: waits on behind them
            if self._park(pull, row):
                return
        status = "MESSAGE_WAS_REMOVING" if found.removed else "NO_MATCHED_MESSAGE"
        self._answer(pull, RETRY, status, following, bounds, 0)

    def _find(self, pull: Pull, address: int, count: int) -> int:
        """Fills the slices; maps the log's files as they are met. How many slices."""
        wanted, end = self._filter, self._log.bounds.dispatched
        wanted.max_count, wanted.max_bytes = max(pull.max_count, 1), MAX_BYTES
        wanted.every_tag = pull.codes is EVERY_TAG
        wanted.code_count = 0 if wanted.every_tag else len(pull.codes) // 4
        ffi.memmove(wanted.codes, pull.codes, 4 * wanted.code_count)
        wanted.max_examined = max(EXAMINED_MAX, pull.max_count)
        wanted.log_begin, wanted.log_end = self._log.bounds.expired, end
        wanted.memory_begin = end - self._memory_size
        units = ffi.cast("uint8_t *", address)
        while True:
            slices = lib.ap_pull_rows(
                units, count, self._files, wanted, self._slices, lib.AP_SLICES_MAX, self._found
            )
            if self._found.status != lib.AP_EMAP:
                return int(slices)
            self._map(int(self._found.missing))

    def _map(self, offset: int) -> None:
        """Maps the file that holds an offset, or notes that it is gone."""
        size = self._log.file_size
        if not self._log.address_of(offset):
            self._gone.add(offset - offset % size)
        addresses = dict.fromkeys(self._gone, lib.AP_GONE)
        addresses |= {first: address for first, _, address in self._log.files()}
        begin = min(addresses)
        self._addresses = np.zeros((max(addresses) - begin) // size + 1, np.uint64)
        for first, address in addresses.items():
            self._addresses[(first - begin) // size] = address
        self._files.first_offset, self._files.file_size = begin, size
        self._files.count = len(self._addresses)
        self._files.addresses = pointer("uint64_t", self._addresses)

    def forget_before(self, offset: int) -> None:
        """The log now begins at `offset`: older files are let go."""
        self._files.count = 0
        self._gone = {first for first in self._gone if first >= offset}
        self._log.forget_before(offset)

    def _answer(
        self,
        pull: Pull,
        code: int,
        status: str,
        following: int,
        bounds: tuple[int, int],
        slices: int,
    ) -> None:
        pulled = self._pulled
        pulled.code, pulled.opaque, pulled.next_offset = code, pull.opaque, following
        pulled.min_offset, pulled.max_offset = bounds
        pulled.topic_flag = self._topics.pointer[pull.topic_row].system_flag
        lib.ap_pull_answer(
            self._sockets.net, pull.connection, pulled, REMARKS[status], self._slices, slices
        )

    # ------------------------------------------------------------- long polls

    def wake(self, now: Now) -> int:
        """Answers the parked pulls whose queue moved or whose time is up; how many."""
        if not len(self.parked):
            return 0
        version = self._topics.version
        changed, self._topics_version = version != self._topics_version, version
        woken = self.parked.all() if changed else self.parked.ready()
        late = self.parked.late(now.monotonic_ns)
        for pull in woken:
            self._serve(pull, may_park=True, woken=True)
        for pull in late:
            self._serve(pull, may_park=False, woken=True)
        return len(woken) + len(late)
