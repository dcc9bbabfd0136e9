"""Which queue of the store a row of the shared queue table stands for.

The coordinator hands out rows (topic, queue id); the writer binds a row to its ConsumeQueue when it
first meets it, or when the coordinator asks for it at start, and shows the queue's offsets there.

Runs in: writer.
Owns: the offsets in the queue table.
Fails: AssertionError for a row that the coordinator never handed out.
"""

import numpy as np

from appliance.ring.layout import pointer
from appliance.ring.tables import QueueTable, TopicTable
from clib import lib

from appliance.commitlog.queue_set import QueueSet

UNBOUND = -1


class QueueRows:
    """The queue table, as its writer sees it; pointers are for C.

    `following`: each row's next queue offset as handed out, UNBOUND before the row is bound. It
    runs ahead of the shared `next` while a batch is being appended. `slots`: the queue's number in
    the QueueSet.
    """

    def __init__(self, table: QueueTable, topics: TopicTable, queues: QueueSet) -> None:
        self._table, self._topics, self._queues = table, topics, queues
        self._following = np.full(table.rows_max, UNBOUND, np.int64)
        self._slots = np.full(table.rows_max, UNBOUND, np.int32)
        self._row_of_slot: dict[int, int] = {}
        self.queues = table.pointer
        self.places = pointer("ap_queue_place", table.places)
        self.following = pointer("int64_t", self._following)
        self.slots = pointer("int32_t", self._slots)

    def bind(self, row: int) -> None:
        """Ties a row to its queue. A row that a dead writer had bound keeps what it shows."""
        if self._slots[row] >= 0:
            return
        place = self._table.places[row]
        assert place["used"], f"queue row {row} belongs to no topic"
        topic = self._topics.name(int(place["topic_row"]))
        slot = self._queues.slot(topic, int(place["queue_id"]))
        shown, known = self._table.offsets[row], self._row_of_slot.get(slot)
        if not shown["bound"]:
            end = int(self._queues.next_offset[slot])
            shown["next"] = end if known is None else self._following[known]
            shown["min"] = self._queues.min_offset[slot]
            shown["bound"] = 1
            self._show_max(row, end)
        self._following[row] = shown["next"]
        self._slots[row] = slot
        self._row_of_slot[slot] = row

    def show_min(self) -> None:
        """Shows the first offsets after files have expired."""
        for slot, row in self._row_of_slot.items():
            self._table.offsets["min"][row] = self._queues.min_offset[slot]

    def _show_max(self, row: int, end: int) -> None:
        rows, ends = np.array([row], np.uint32), np.array([end], np.int64)
        lib.ap_queues_publish(
            self.queues, pointer("uint32_t", rows), pointer("int64_t", ends), len(rows)
        )
