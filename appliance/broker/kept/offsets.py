"""Consume offsets: how far each group has read, in the shared table and in consumerOffset.json.

Runs in: coordinator.
Owns: config/consumerOffset.json; the shared table of consume offsets.
Fails: `OSError` from the disk; then the next attempt writes everything again.

The shared table outlives a killed coordinator, so it is newer than the file: reading the file fills
only what the table does not know. Offsets of groups or topics that have no row (deleted, or not yet
created again) are set aside and written back with every save, so no rewrite ever loses one.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from appliance.net.json_text import int_keys
from appliance.ring.tables import OffsetTable

from appliance.broker.kept.file import DataVersion, StateFile
from appliance.broker.kept.groups import Groups
from appliance.broker.kept.topics import QUEUES_MAX, Topics

NONE = -1
"""No offset was committed."""

_VERSION_STEP = 500
"""Commits between two changes of the data version (consumerOffsetUpdateVersionStep)."""


Table: TypeAlias = dict[tuple[str, str], dict[int, int]]
"""By (topic, group), then by queue."""


class _Kept(NamedTuple):
    """What the file says."""

    table: Table
    version: DataVersion

    @staticmethod
    def from_json(value: dict[str, Any]) -> "_Kept":
        table: Table = {}
        for key, queues in value["offsetTable"].items():
            topic, _, group = key.partition("@")
            table[topic, group] = {n: int(offset) for n, offset in int_keys(queues).items()}
        return _Kept(table, DataVersion.from_json(value.get("dataVersion")))


class ConsumeOffsets:
    """The consume offset of every (topic, group, queue)."""

    def __init__(
        self, file: StateFile, offsets: OffsetTable, groups: Groups, topics: Topics
    ) -> None:
        self._file = file
        self._offsets = offsets
        self._groups = groups
        self._topics = topics
        self._aside: Table = {}
        self._commits = 0
        self._changed = False
        self.version = DataVersion()

    def load(self) -> None:
        """Read the file, once topics and groups are published."""
        kept = self._file.load(_Kept.from_json) or _Kept({}, DataVersion())
        self.version = kept.version
        for (topic, group), queues in kept.table.items():
            self._put_missing(topic, group, queues)
        # A predecessor may have died between a commit and its next save.
        self._changed = kept.table != self._table()

    def _put_missing(self, topic: str, group: str, queues: dict[int, int]) -> None:
        rows = self._rows(topic, group)
        if rows is None:
            self._aside[topic, group] = queues
            return
        for queue, offset in queues.items():
            if not 0 <= queue < QUEUES_MAX or offset < 0:
                self._aside.setdefault((topic, group), {})[queue] = offset
            elif self._offsets.get(*rows, queue) == NONE:
                self._offsets.put(*rows, queue, offset)

    def _rows(self, topic: str, group: str) -> tuple[int, int] | None:
        group_row, topic_row = self._groups.row(group), self._topics.row(topic)
        return None if group_row < 0 or topic_row < 0 else (group_row, topic_row)

    def get(self, topic: str, group: str, queue: int) -> int:
        """The next offset that the group reads, or NONE."""
        rows = self._rows(topic, group) if 0 <= queue < QUEUES_MAX else None
        if rows is not None and (offset := self._offsets.get(*rows, queue)) != NONE:
            return offset
        return self._aside.get((topic, group), {}).get(queue, NONE)

    def commit(self, topic: str, group: str, queue: int, offset: int) -> None:
        """Remember how far a group has read; it may go back (ConsumerOffsetManager.commitOffset).

        A queue that no topic can have, or an offset before the first, is not worth remembering.
        """
        rows = self._rows(topic, group)
        assert rows is not None, "the caller knows the group and the topic"
        self.commit_row(*rows, queue, offset)

    def commit_row(self, group_row: int, topic_row: int, queue: int, offset: int) -> None:
        """The same by rows: the commit inside a pull."""
        if 0 <= queue < QUEUES_MAX and offset >= 0:
            self._offsets.put(group_row, topic_row, queue, offset)
            self._changed = True
            self._commits += 1

    def cap(self, end_of: Callable[[str, int], int | None]) -> None:
        """No group is ahead of a queue's end; `end_of(topic, queue)` is None for no such queue.

        Else a group would be led past the messages that come next.
        """
        for group_row, topic_row, queue, offset in list(self._offsets.items()):
            end = end_of(self._topics.name(topic_row), queue)
            if end is not None and offset > end:
                self._offsets.put(group_row, topic_row, queue, end)
                self._changed = True

    def topics_of(self, group: str) -> set[str]:
        """Topics of which the group has an offset."""
        return {topic for topic, reader in self._table() if reader == group}

    def remove_group(self, group: str, *, now_ms: int) -> None:
        """Forget all that a group has read, at once on disk too: the file must not revive it."""
        for row, topic_row, queue, _ in list(self._offsets.items()):
            if self._groups.name(row) == group:
                self._offsets.remove(row, topic_row, queue)
        self._aside = {key: value for key, value in self._aside.items() if key[1] != group}
        self._changed = True
        self.save(now_ms=now_ms)

    def save(self, *, now_ms: int) -> bool:
        """Write the file if anything changed since the last time; whether it was written."""
        if not self._changed:
            return False
        if self._commits >= _VERSION_STEP:
            self.version = self.version.next(now_ms)
            self._commits = 0
        self._file.save(self.to_json())
        self._changed = False
        return True

    def to_json(self) -> dict[str, Any]:
        """As in consumerOffset.json."""
        table = self._table()
        by_group: dict[str, list[str]] = defaultdict(list)
        for topic, group in table:
            by_group[group].append(topic)
        return {
            "dataVersion": self.version.to_json(),
            "groupTopicMap": by_group,
            "offsetTable": {f"{topic}@{group}": queues for (topic, group), queues in table.items()},
        }

    def _table(self) -> Table:
        """Everything by (topic, group); the shared table's word is newer than what is aside."""
        table = {key: dict(queues) for key, queues in self._aside.items()}
        for group_row, topic_row, queue, offset in self._offsets.items():
            if offset != NONE:
                key = self._topics.name(topic_row), self._groups.name(group_row)
                table.setdefault(key, {})[queue] = offset
        return table
