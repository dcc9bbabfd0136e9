"""Questions to the store."""

from typing import Any

import pytest

from appliance.commitlog.record import parse
from tests.broker.paper import START_MS, Desk
from tests.broker.test_send import send


@pytest.fixture
def desk() -> Desk:
    """Queue 0 of T has messages stored at 0, 1, 1 and 3 s after the start."""
    made = Desk()
    for wait_ms in (0, 1_000, 0, 2_000):
        made.pass_ms(wait_ms)
        send(made)
    return made


def ask(desk: Desk, name: str, **fields: Any) -> dict[str, str]:
    answer = desk.ask(desk.open(), name, {"topic": "T", "queueId": 0, **fields})
    assert answer.code == 0
    return answer.fields


@pytest.mark.parametrize(
    ("fields", "offsets"),
    [
        ({}, ("4", "0")),
        *(({"queueId": queue}, ("0", "0")) for queue in (1, -1, 999_999)),
        ({"topic": "nobody"}, ("0", "0")),
    ],
)
def test_where_a_queue_begins_and_ends(
    desk: Desk, fields: dict[str, Any], offsets: tuple[str, str]
) -> None:
    assert ask(desk, "GET_MAX_OFFSET", **fields) == {"offset": offsets[0]}
    assert ask(desk, "GET_MIN_OFFSET", **fields) == {"offset": offsets[1]}


@pytest.mark.parametrize(
    ("after_ms", "lower", "upper"),
    [
        *((-1, "0", "0"), (0, "0", "0"), (1, "1", "0"), (1_000, "1", "2"), (2_000, "3", "2")),
        *((3_000, "3", "3"), (9_999, "4", "3")),
    ],
)
def test_offsets_by_time(desk: Desk, after_ms: int, lower: str, upper: str) -> None:
    timestamp = START_MS + after_ms
    assert ask(desk, "SEARCH_OFFSET_BY_TIMESTAMP", timestamp=timestamp) == {"offset": lower}
    for name, offset in (("LOWER", lower), ("UPPER", upper), ("upper", upper)):
        fields = {"timestamp": timestamp, "boundaryType": name}
        assert ask(desk, "SEARCH_OFFSET_BY_TIMESTAMP", **fields) == {"offset": offset}


def test_when_the_first_message_was_stored(desk: Desk) -> None:
    assert ask(desk, "GET_EARLIEST_MSG_STORETIME") == {"timestamp": str(START_MS)}
    assert ask(desk, "GET_EARLIEST_MSG_STORETIME", queueId=1) == {"timestamp": "-1"}


def test_a_message_by_its_physical_offset(desk: Desk) -> None:
    answer = desk.ask(desk.open(), "VIEW_MESSAGE_BY_ID", {"offset": 0})
    assert parse(answer.body).body == b"hello"
    second = len(answer.body)
    assert desk.ask(desk.open(), "VIEW_MESSAGE_BY_ID", {"offset": second}).code == 0
    for wrong in (1, -1, 1 << 40):
        answer = desk.ask(desk.open(), "VIEW_MESSAGE_BY_ID", {"offset": wrong})
        assert (answer.code, answer.remark) == (1, f"can not find message by the offset, {wrong}")


def test_what_is_not_shown_yet_is_not_found(desk: Desk) -> None:
    marks = desk.coordinator.state.store.watermarks
    marks.restart("dispatched", 0)
    assert desk.ask(desk.open(), "VIEW_MESSAGE_BY_ID", {"offset": 0}).code == 1
