"""Which queue of the store a row of the shared queue table stands for.

The coordinator hands out rows (topic, queue id); the writer binds a row to its ConsumeQueue when it
first meets it, or when the coordinator asks for it at start, and shows the queue's offsets there.

Runs in: writer.
Owns: the offsets in the queue table.
Fails: AssertionError for a row that the coordinator never handed out.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.ring.layout import pointer
from appliance.ring.tables import QueueTable, TopicTable
from clib import lib

from appliance.commitlog.queue_set import QueueSet


class QueueRows:
    """The queue table, as its writer sees it. `next` is the column of next queue offsets."""

    def __init__(self, table: QueueTable, topics: TopicTable, queues: QueueSet) -> None:
        self._table, self._topics, self._queues = table, topics, queues
        self.next: npt.NDArray[np.int64] = table.offsets["next"]
        self._slots = np.full(table.rows_max, -1, np.int32)
        self._row_of_slot: dict[int, int] = {}

    def bind(self, row: int) -> None:
        """Ties a row to its queue. A row that a dead writer had bound keeps what it shows."""
        if self._slots[row] >= 0:
            return
        place = self._table.places[row]
        assert place["used"], f"queue row {row} belongs to no topic"
        topic = self._topics.name(int(place["topic_row"]))
        slot = self._queues.slot(topic, int(place["queue_id"]))
        shown = self._table.offsets[row]
        known = self._row_of_slot.get(slot)
        if not shown["bound"]:
            end = int(self._queues.next_offset[slot])
            shown["next"] = end if known is None else self.next[known]
            shown["min"] = self._queues.min_offset[slot]
            shown["bound"] = 1
            self._show_max(row, end)
        self._slots[row] = slot
        self._row_of_slot[slot] = row

    def follow(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows where these queues live now, all of them bound."""
        moved_to = self._table.places["moved_to"]
        target = moved_to[rows]
        while (target >= 0).any():
            rows = np.where(target >= 0, target, rows).astype(np.uint32)
            target = moved_to[rows]
        if (self._slots[rows] < 0).any():
            for row in np.unique(rows).tolist():
                self.bind(row)
        return rows

    def slots(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """The queues' numbers in the QueueSet."""
        return self._slots[rows]

    def show(self, rows: npt.NDArray[Any], ends: npt.NDArray[Any]) -> None:
        """Readers may see each queue row up to its end; rows ascend, so the last one counts."""
        from_rows = np.ascontiguousarray(rows, np.uint32)
        values = np.ascontiguousarray(ends, np.int64)
        lib.ap_queues_publish(
            self._table.pointer, pointer("uint32_t", from_rows), pointer("int64_t", values), len(rows)
        )

    def show_min(self) -> None:
        """Shows the first offsets after files have expired."""
        for slot, row in self._row_of_slot.items():
            self._table.offsets["min"][row] = self._queues.min_offset[slot]

    def _show_max(self, row: int, end: int) -> None:
        self.show(np.array([row]), np.array([end]))




