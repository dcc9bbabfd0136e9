"""A line to a frontend: nothing is let go before what it entailed is published."""

import pytest

from appliance.broker.lines import Line
from appliance.ring import ring
from appliance.ring.region import PrivateSegments
from appliance.ring.ring import Ring
from clib import lib

ENTRIES = 8


class Pair:
    """A line, and the frontend's ends of its rings."""

    def __init__(self) -> None:
        segments = PrivateSegments()
        regions = [ring.create(segments, name, "ap_frame", ENTRIES, 4096) for name in "at"]
        self.ask, self.tell = (Ring(region, "ap_frame") for region in regions)
        self.woken = 0
        ask, tell = (Ring(region, "ap_frame") for region in regions)
        self.line = Line(0, ask, tell, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def question(self, data: bytes = b"x") -> None:
        assert self.ask.push(data, kind=lib.AP_FRAME, connection=7, size=len(data), values=(0,) * 4)

    def heard(self) -> list[bytes]:
        first, last = self.tell.poll()
        sizes = [int(self.tell.entries[p & self.tell.mask]["size"]) for p in range(first, last)]
        data = [bytes(self.tell.data(first + i, size)) for i, size in enumerate(sizes)]
        self.tell.release(last)
        return data


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_questions_come_once_and_in_order(pair: Pair) -> None:
    for text in (b"a", b"b"):
        pair.question(text)
    assert [bytes(question.data) for question in pair.line.questions(9)] == [b"a", b"b"]
    assert list(pair.line.questions(9)) == []
    assert pair.ask.tail == 0
    assert pair.line.release()
    assert pair.ask.tail == 2


def test_one_that_was_not_handled_comes_again(pair: Pair) -> None:
    for text in (b"a", b"b"):
        pair.question(text)
    questions = pair.line.questions(9)
    next(questions)
    next(questions)
    questions.close()
    pair.line.release()
    assert pair.ask.tail == 1
    assert [bytes(question.data) for question in pair.line.questions(9)] == [b"b"]


def test_a_successor_sees_what_was_not_released(pair: Pair) -> None:
    pair.question()
    assert len(list(pair.line.questions(9))) == 1
    successor = Line(0, pair.ask, pair.tell, pair.wake)
    assert len(list(successor.questions(9))) == 1


def test_nothing_is_released_before_its_answer_is_published(pair: Pair) -> None:
    pair.question()
    list(pair.line.questions(9))
    texts = [b"%d" % number for number in range(ENTRIES + 3)]
    for text in texts:
        pair.line.tell(lib.AP_FRAME, 7, text)
    assert not pair.line.release()
    assert pair.ask.tail == 0
    heard = pair.heard()
    assert pair.line.release()
    assert pair.ask.tail == 1
    assert heard + pair.heard() == texts


def test_an_offer_is_all_or_nothing(pair: Pair) -> None:
    offered = [pair.line.offer(lib.AP_FRAME, 7, b"x") for _ in range(ENTRIES + 2)]
    assert offered == [True] * ENTRIES + [False] * 2
    assert len(pair.heard()) == ENTRIES
    assert pair.line.drain()
    assert pair.heard() == []


def test_an_offer_overtakes_nothing(pair: Pair) -> None:
    for text in [b"first"] * (ENTRIES + 1):
        pair.line.tell(lib.AP_FRAME, 7, text)
    assert not pair.line.offer(lib.AP_FRAME, 7, b"second")
    pair.heard()
    assert pair.line.offer(lib.AP_FRAME, 7, b"second")
    assert pair.heard() == [b"first", b"second"]


def test_the_frontend_is_woken_when_there_is_something(pair: Pair) -> None:
    pair.line.drain()
    assert pair.woken == 0
    pair.line.tell(lib.AP_FRAME, 7)
    pair.line.drain()
    assert pair.woken == 1


def test_what_is_new_and_what_waits(pair: Pair) -> None:
    seen = []

    def look() -> None:
        seen.append((pair.line.pending, pair.line.blocked))

    look()
    pair.question()
    look()
    questions = pair.line.questions(9)
    next(questions)
    questions.close()
    look()
    list(pair.line.questions(9))
    look()
    new, held_up, nothing = (True, False), (False, True), (False, False)
    assert seen == [nothing, new, held_up, nothing]
