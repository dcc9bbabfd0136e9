"""Delay levels: messages of SCHEDULE_TOPIC_XXXX go to their real topics when they are due.

Runs in: coordinator.
Owns: nothing; how far each level is delivered is `kept.delays`.
Fails: never; a message that the writer refuses is tried again.

Each level has a queue, in which messages are due one after the other. A delivery is an append like
any other: its origin names the level and the offset, so a killed coordinator's successor goes on
behind the last one that was handed over. Peer: ScheduleMessageService (store.md section 8.1).
"""

import logging
from dataclasses import replace

import numpy as np

from appliance.clock import Now
from appliance.commitlog.record import Record, build, decode_properties, parse, tags_code

from appliance.broker import names
from appliance.broker.appends import SOURCES_MAX, Appended, Appends, Origin
from appliance.broker.effects import Append
from appliance.broker.kept.delays import LEVELS_MS
from appliance.broker.state import State
from appliance.broker.store import Unit

logger = logging.getLogger(__name__)

BATCH_MAX = 64
"""Deliveries of one level in one step."""
PAUSE_NS = 1_000_000_000
"""After the writer has refused one."""


def source_of(level: int) -> int:
    """The level's number among the sources of appends."""
    return SOURCES_MAX - level


class Deliveries:
    """All levels; arrays and lists are by level, from 0 for level 1."""

    def __init__(self, state: State, appends: Appends) -> None:
        self._state = state
        self._appends = appends
        levels = range(1, len(LEVELS_MS) + 1)
        self._ends = state.store.ends(names.SCHEDULE_TOPIC)[: len(LEVELS_MS)]
        known = [max(state.delays.offset(n), appends.after(source_of(n))) for n in levels]
        self._next = np.array(known, np.int64)
        """The next offset to hand over."""
        self._look_ns = [0] * len(LEVELS_MS)
        """When to look at it again: it is not due before, or the writer has refused it."""

    def step(self, now: Now) -> int:
        """Hand over what is due; how many."""
        return sum(self._deliver(level, now) for level in self._waiting())

    def owns(self, appended: Appended) -> bool:
        """Whether a result belongs to a delay level."""
        return appended.origin.source >= source_of(len(LEVELS_MS))

    def seen(self, appended: Appended, now: Now) -> None:
        """A delivery is stored, or must be tried again."""
        number, offset = SOURCES_MAX - appended.origin.source, appended.origin.position
        level = number - 1
        if appended.code == 0 and offset < self._next[level]:
            self._state.delays.advance(number, offset + 1)
        elif appended.code != 0:
            self._next[level] = min(int(self._next[level]), offset)
            self._look_ns[level] = now.monotonic_ns + PAUSE_NS

    def next_look_ns(self) -> int | None:
        """When to look at the first message that waits now; None: none waits."""
        return min((self._look_ns[level] for level in self._waiting()), default=None)

    def _waiting(self) -> list[int]:
        """Levels that have something to deliver, sooner or later."""
        waiting: list[int] = (self._ends > self._next).nonzero()[0].tolist()
        return waiting

    def _deliver(self, level: int, now: Now) -> int:
        if now.monotonic_ns < self._look_ns[level]:
            return 0
        begin, end = self._state.store.bounds(names.SCHEDULE_TOPIC, level)
        self._next[level] = max(int(self._next[level]), begin)
        count = 0
        while self._next[level] < end and count < BATCH_MAX and self._deliver_one(level, now):
            count += 1
        return count

    def _deliver_one(self, level: int, now: Now) -> bool:
        """Hand over a level's next message; False when that must wait."""
        offset = int(self._next[level])
        unit = self._state.store.unit(names.SCHEDULE_TOPIC, level, offset)
        if unit is None:
            return False
        wait_ms = unit.tags_code - now.wall_ms
        # A time beyond the level's delay comes from a clock that has been set back since.
        if 0 < wait_ms <= LEVELS_MS[level]:
            self._look_ns[level] = now.monotonic_ns + wait_ms * 1_000_000
            return False
        append = self._append(unit)
        origin = Origin(source_of(level + 1), offset)
        if append is not None and not self._appends.push(append, origin):
            return False
        self._next[level] = offset + 1
        return True

    def _append(self, unit: Unit) -> Append | None:
        """The message as it goes to its real topic; None when it or the topic is gone."""
        found = self._state.store.record(unit.physical_offset)
        if found is None:
            return None
        record = parse(found)
        properties = decode_properties(record.properties)
        topic = self._state.topics.get(properties.get("REAL_TOPIC", ""))
        if topic is None or topic.queue_count == 0:
            logger.warning("a delayed message is dropped, its topic is gone: %s", record.message_id)
            return None
        queue = int(properties.get("REAL_QID", "0")) % topic.queue_count
        real = replace(record, topic=topic.name, queue_id=queue, version=0, queue_offset=0)
        return Append(
            topic=topic.name,
            queue_id=queue,
            records=(self._built(real),),
            tags_codes=(tags_code(properties.get("TAGS")),),
            answered_queue_id=queue,
        )

    def _built(self, record: Record) -> bytes:
        return build(replace(record, store_host=self._state.store_host))
