"""parked.py: who waits for what, and who is taken out when."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from appliance.net import parked as parking
from appliance.net.parked import Parked
from appliance.ring import tables
from appliance.ring.region import PrivateSegments
from appliance.ring.tables import QueueTable

NEVER_NS = 1 << 62


class Pull:
    """As much of a pull as is looked at here."""

    def __init__(self, connection: int = 1) -> None:
        self.connection = connection


class Scene:
    """Rows of a queue table whose ends the test moves, and who waits for them."""

    def __init__(self, rows: int = 64) -> None:
        self.queues = QueueTable(tables.create_queues(PrivateSegments(), rows))
        self.parked = Parked(self.queues)

    def park(
        self, row: int, offset: int, *, deadline_ns: int = NEVER_NS, connection: int = 1
    ) -> Pull:
        pull = Pull(connection)
        assert self.parked.add(pull, row, offset, deadline_ns)
        return pull

    def end(self, row: int, end: int) -> None:
        self.queues.offsets["max"][row] = end


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_pull_waits_until_its_queue_has_its_offset(scene: Scene) -> None:
    pull = scene.park(3, 7)
    for end in (0, 6, 7):
        scene.end(3, end)
        assert (scene.parked.pending, scene.parked.ready()) == (False, [])
    scene.end(2, 100)
    assert scene.parked.ready() == [] and len(scene.parked) == 1
    scene.end(3, 8)
    assert (scene.parked.pending, scene.parked.ready()) == (True, [pull])
    assert (scene.parked.pending, scene.parked.ready(), len(scene.parked)) == (False, [], 0)


def test_only_those_that_are_late_are_taken(scene: Scene) -> None:
    late, later, last = (scene.park(0, 1, deadline_ns=ns) for ns in (50, 70, 90))
    assert scene.parked.next_deadline_ns == 50
    assert scene.parked.late(49) == []
    assert scene.parked.late(50) == [late]
    assert scene.parked.next_deadline_ns == 70
    assert sorted(map(id, scene.parked.late(90))) == sorted(map(id, (later, last)))
    assert scene.parked.next_deadline_ns == NEVER_NS


def test_those_of_a_connection_that_is_gone_are_dropped(scene: Scene) -> None:
    stays = [scene.park(row, 0, connection=1) for row in range(3)]
    for row in range(3):
        scene.park(row, 0, connection=2)
    scene.parked.forget(2)
    assert len(scene.parked) == 3
    assert sorted(map(id, scene.parked.all())) == sorted(map(id, stays))
    assert len(scene.parked) == 0


def test_the_table_grows_and_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PARKED_MAX", 200)
    pulls = [scene.park(number % 64, number) for number in range(200)]
    assert not scene.parked.add(Pull(), 0, 0, NEVER_NS)
    for row in range(64):
        scene.end(row, 1000)
    assert scene.parked.ready() == pulls
    assert scene.parked.add(Pull(), 0, 0, NEVER_NS)


STEPS = st.one_of(
    st.tuples(st.just("park"), st.integers(0, 3), st.integers(0, 6), st.integers(1, 9)),
    st.tuples(st.just("end"), st.integers(0, 3), st.integers(0, 8), st.just(0)),
    st.tuples(st.just("late"), st.integers(0, 9), st.just(0), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, 2), st.just(0), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=80))
def test_it_is_a_list_that_is_searched(steps: list[tuple[str, int, int, int]]) -> None:
    scene = Scene(4)
    model: list[tuple[Pull, int, int, int]] = []
    for number, (what, a, b, c) in enumerate(steps):
        if what == "park":
            pull = scene.park(a, b, deadline_ns=c, connection=number % 3)
            model.append((pull, a, b, c))
        elif what == "end":
            scene.end(a, b)
            gone = [one for one in model if scene.queues.max(one[1]) > one[2]]
            _taken(scene.parked.ready(), gone, model)
        elif what == "late":
            _taken(scene.parked.late(a), [one for one in model if one[3] <= a], model)
        else:
            scene.parked.forget(a)
            model = [one for one in model if one[0].connection != a]
        assert len(scene.parked) == len(model)
        soonest = min((deadline for *_, deadline in model), default=NEVER_NS)
        assert scene.parked.next_deadline_ns <= soonest


def _taken(
    taken: list[Pull],
    expected: list[tuple[Pull, int, int, int]],
    model: list[tuple[Pull, int, int, int]],
) -> None:
    assert sorted(map(id, taken)) == sorted(id(one[0]) for one in expected)
    for one in expected:
        model.remove(one)
