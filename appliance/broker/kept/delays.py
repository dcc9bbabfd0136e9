"""Delay levels: how long each is, and how far each level's queue is delivered (delayOffset.json).

Runs in: coordinator.
Owns: config/delayOffset.json.
Fails: `OSError` from the disk; then the next attempt writes everything again.

Peer: ScheduleMessageService (store.md section 8.1).
"""

from typing import Any

from appliance.net.json_text import int_keys

from appliance.broker.kept.file import DataVersion, StateFile

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_LEVELS = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"
LEVELS_MS = tuple(int(word[:-1]) * _UNITS_MS[word[-1]] for word in _LEVELS.split())
"""What messageDelayLevel is by default; level 1 is the first."""

_VERSION_STEP = 200
"""Deliveries between two changes of the data version."""


def delay_ms(level: int) -> int:
    """How long messages of a level wait."""
    return LEVELS_MS[level - 1]


class Delays:
    """The next offset to deliver in each level's queue of SCHEDULE_TOPIC_XXXX."""

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._offsets: dict[int, int] = {}
        self._deliveries = 0
        self._changed = False
        self.version = DataVersion()

    def load(self) -> None:
        """Read the file."""
        self._file.load(self._read)

    def _read(self, value: dict[str, Any]) -> None:
        table = int_keys(value["offsetTable"])
        self._offsets = {level: int(offset) for level, offset in table.items()}
        self.version = DataVersion.from_json(value.get("dataVersion"))

    def offset(self, level: int) -> int:
        """The next offset to deliver."""
        return self._offsets.get(level, 0)

    def advance(self, level: int, offset: int) -> None:
        """Everything before `offset` of the level is delivered."""
        self._offsets[level] = offset
        self._changed = True
        self._deliveries += 1

    def save(self, *, now_ms: int) -> bool:
        """Write the file if anything changed since the last time; whether it was written."""
        if not self._changed:
            return False
        if self._deliveries >= _VERSION_STEP:
            self.version = self.version.next(now_ms)
            self._deliveries = 0
        self._file.save(self.to_json())
        self._changed = False
        return True

    def to_json(self) -> dict[str, Any]:
        """As in delayOffset.json."""
        return {"dataVersion": self.version.to_json(), "offsetTable": self._offsets}
