"""Delay levels: messages of SCHEDULE_TOPIC_XXXX go to their real topics when they are due.

Runs in: coordinator.
Owns: nothing; how far each level is delivered is `kept.delays`.
Fails: never; a message that the writer refuses is tried again.

Each level has a queue, in which messages are due one after the other. A delivery is an append like
any other: its origin names the level and the offset, so a killed coordinator's successor goes on
behind the last one that was handed over. Peer: ScheduleMessageService (store.md section 8.1).
"""

import logging
from dataclasses import dataclass, replace

from appliance.clock import Now
from appliance.commitlog.record import Record, build, decode_properties, parse, tags_code

from appliance.broker import names
from appliance.broker.appends import SOURCES_MAX, Appended, Appends, Origin
from appliance.broker.effects import Append
from appliance.broker.kept.delays import LEVELS_MS, delay_ms
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


@dataclass(slots=True)
class _Level:
    number: int
    offset: int
    """The next one to hand over."""
    look_ns: int = 0
    """When to look at it again: it is not due before, or the writer has refused it."""


class Deliveries:
    """All levels."""

    def __init__(self, state: State, appends: Appends) -> None:
        self._state = state
        self._appends = appends
        self._levels = [self._level(n) for n in range(1, len(LEVELS_MS) + 1)]

    def _level(self, number: int) -> _Level:
        handed_over = self._appends.after(source_of(number))
        return _Level(number, max(self._state.delays.offset(number), handed_over))

    def step(self, now: Now) -> int:
        """Hand over what is due; how many."""
        return sum(self._deliver(level, now) for level in self._levels)

    def owns(self, appended: Appended) -> bool:
        """Whether a result belongs to a delay level."""
        return appended.origin.source >= source_of(len(LEVELS_MS))

    def seen(self, appended: Appended, now: Now) -> None:
        """A delivery is stored, or must be tried again."""
        number, offset = SOURCES_MAX - appended.origin.source, appended.origin.position
        level = self._levels[number - 1]
        if appended.code == 0 and offset < level.offset:
            self._state.delays.advance(number, offset + 1)
        elif appended.code != 0:
            level.offset = min(level.offset, offset)
            level.look_ns = now.monotonic_ns + PAUSE_NS

    def next_look_ns(self) -> int | None:
        """When to look at the first message that waits now; None: none waits."""
        waiting = [level.look_ns for level in self._levels if self._waits(level)]
        return min(waiting, default=None)

    def _waits(self, level: _Level) -> bool:
        _, end = self._state.store.bounds(names.SCHEDULE_TOPIC, level.number - 1)
        return level.offset < end

    def _deliver(self, level: _Level, now: Now) -> int:
        if now.monotonic_ns < level.look_ns:
            return 0
        begin, end = self._state.store.bounds(names.SCHEDULE_TOPIC, level.number - 1)
        level.offset = max(level.offset, begin)
        count = 0
        while level.offset < end and count < BATCH_MAX and self._deliver_one(level, now):
            count += 1
        return count

    def _deliver_one(self, level: _Level, now: Now) -> bool:
        unit = self._state.store.unit(names.SCHEDULE_TOPIC, level.number - 1, level.offset)
        if unit is None:
            return False
        wait_ms = unit.tags_code - now.wall_ms
        # A time beyond the level's delay comes from a clock that has been set back since.
        if 0 < wait_ms <= delay_ms(level.number):
            level.look_ns = now.monotonic_ns + wait_ms * 1_000_000
            return False
        append = self._append(unit)
        origin = Origin(source_of(level.number), level.offset)
        if append is not None and not self._appends.push(append, origin):
            return False
        level.offset += 1
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
