"""The harness works: bugs that were planted on purpose are caught within a bounded number of seeds.

Each is one that somebody had, or that a small slip would bring (P25).
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from appliance import frontend
from appliance.broker.appends import Appends
from appliance.broker.kept.offsets import ConsumeOffsets
from appliance.commitlog.append import Appender
from appliance.commitlog.bindings import QueueRows
from appliance.commitlog.dispatch import Dispatcher
from appliance.commitlog.flush import Flush
from appliance.commitlog.mapped_file import MappedFile
from appliance.commitlog.queue_set import QueueSet
from appliance.commitlog.recovery import _Recovery
from appliance.heritage import COORDINATOR, FRONTEND
from appliance.ring.ring import Ring
from appliance.values import KIB
from appliance.writer import Writer
from tests.simulation.plan import KILL, POWER, Fault
from tests.simulation.world import run

SEEDS = range(200)
"""A bug that lives through so many histories is not caught."""

pytestmark = [pytest.mark.simulation, pytest.mark.timeout(300)]

Plant = Callable[[pytest.MonkeyPatch], None]

BUGS: dict[str, tuple[Plant, dict[str, Any]]] = {}


def bug(**shape: Any) -> Callable[[Plant], Plant]:
    """A row of the table of bugs; `shape` is that of histories in which it soon does harm."""

    def add(plant: Plant) -> Plant:
        BUGS[plant.__name__] = plant, shape
        return plant

    return add


@bug()
def acknowledged_and_shown_before_the_flush(patch: pytest.MonkeyPatch) -> None:
    show = Writer._show

    def early(self: Writer) -> int:
        kept, self._sync = self._sync, False
        try:
            return show(self)
        finally:
            self._sync = kept

    patch.setattr(Writer, "_show", early)


@bug()
def a_sync_counts_for_what_came_after_its_begin(patch: pytest.MonkeyPatch) -> None:
    collect = Flush.collect

    def generous(self: Flush) -> bool:
        if self._under_way is not None:
            file, _ = self._under_way
            self._under_way = file, min(self._watermarks.appended, file.end_offset)
        return collect(self)

    patch.setattr(Flush, "collect", generous)


@bug()
def an_open_journal_is_not_done_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Appender, "redo", lambda self: False)


@bug(faults=(Fault(0.9, KILL, "append.closed"),))
def a_successor_forgets_what_waited_to_be_shown(patch: pytest.MonkeyPatch) -> None:
    resume = Dispatcher.resume

    def forgetful(self: Dispatcher, taken: Callable[[int], int]) -> None:
        resume(self, taken)
        self._waiting = deque()

    patch.setattr(Dispatcher, "resume", forgetful)


@bug()
def queues_begin_anew_in_a_successor(patch: pytest.MonkeyPatch) -> None:
    bind = QueueRows.bind

    def anew(self: QueueRows, row: int) -> None:
        bind(self, row)
        self._following[row] = 0

    patch.setattr(QueueRows, "bind", anew)


@bug()
def recovery_begins_at_the_last_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Recovery, "_begin", lambda self: self.log.files[-1].first_offset)


@bug(fixed_size=True, faults=(Fault(0.3, POWER), Fault(0.6, POWER), Fault(0.9, POWER)))
def a_cut_tail_is_left_as_it_was(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MappedFile, "zero_from", lambda self, offset: 0)


@bug(sync_ns=100_000, queue_rows=10, faults=(Fault(0.5, KILL),), end=POWER)
def rows_of_a_dead_writer_are_taken_to_be_on_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QueueSet, "_doubt", lambda self, slot, files: None)


@bug(faults=tuple(Fault(at / 8, KILL, "coordinator.handled") for at in range(8)))
def a_coordinator_stores_again_what_it_had_handed_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Appends, "after", lambda self, source: 0)


@bug(pace_ns=200_000_000, faults=tuple(Fault(at / 8, KILL, number=COORDINATOR) for at in range(8)))
def old_consume_offsets_come_back_with_a_successor(patch: pytest.MonkeyPatch) -> None:
    load = ConsumeOffsets.load

    def trust_the_file(self: ConsumeOffsets) -> None:
        for row, topic_row, queue, _ in list(self._offsets.items()):
            self._offsets.remove(row, topic_row, queue)
        load(self)

    patch.setattr(ConsumeOffsets, "load", trust_the_file)


@bug(window=16, faults=tuple(Fault(at / 8, KILL, number=FRONTEND) for at in range(8)))
def connections_of_a_restarted_frontend_have_old_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(frontend, "SERIALS_PER_START", 0)


@bug(ring_entries=8, arena_size=32 * KIB, window=16, size_max=1500, pace_ns=100_000)
def an_entry_is_used_again_before_its_answer_is_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ring, "freed_by", lambda self, other: None)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    plant, shape = BUGS[name]
    plant(monkeypatch)
    outcomes = (run(seed, **shape) for seed in SEEDS)
    caught = next((outcome for outcome in outcomes if outcome.findings), None)
    assert caught is not None, f"{name} lived through {len(SEEDS)} histories"
    record_property("histories", caught.seed + 1)
    print(caught)
