"""Attributes: what an edit may do, in Apache's words."""

import pytest

from appliance.broker.attributes import TOPIC_ATTRIBUTES, altered, parse_edits
from appliance.net.requests import RefusedError


def test_edits_are_read() -> None:
    assert parse_edits("+a=1,-b,+c=x=y") == {"+a": "1", "-b": "", "+c": "x=y"}
    assert parse_edits(None) == parse_edits("") == {}


@pytest.mark.parametrize("text", ["a=1", "b", "+a=1,+a=2", "=1"])
def test_edits_that_are_none(text: str) -> None:
    with pytest.raises(RefusedError):
        parse_edits(text)


def test_values_are_added_altered_and_deleted() -> None:
    made = altered(TOPIC_ATTRIBUTES, {"+message.type": "FIFO", "+queue.type": "SimpleCQ"}, None)
    assert made == {"message.type": "FIFO", "queue.type": "SimpleCQ"}
    made = altered(TOPIC_ATTRIBUTES, {"+message.type": "DELAY", "+reserve.time": "7"}, made)
    assert made == {"message.type": "DELAY", "queue.type": "SimpleCQ", "reserve.time": "7"}
    assert altered(TOPIC_ATTRIBUTES, {"-message.type": "", "-reserve.time": ""}, made) == {
        "queue.type": "SimpleCQ"
    }


@pytest.mark.parametrize(
    ("edits", "present", "remark"),
    [
        ({"+no": "1"}, None, "unsupported key: no"),
        ({"+message.type": "x"}, None, "not in set"),
        ({"+reserve.time": "-2"}, None, "a number from -1 on"),
        ({"-message.type": ""}, None, "only add attribute is supported"),
        ({"-message.type": ""}, {}, "nonexistent key"),
        ({"+queue.type": "BatchCQ"}, {"queue.type": "SimpleCQ"}, "unchangeable attribute"),
        ({"-queue.type": ""}, {"queue.type": "SimpleCQ"}, "delete an unchangeable"),
        ({"*a": "1"}, {}, "kv string format wrong"),
        ({"": "1"}, {}, "kv string format wrong"),
    ],
)
def test_what_is_refused(
    edits: dict[str, str], present: dict[str, str] | None, remark: str
) -> None:
    with pytest.raises(RefusedError, match=remark):
        altered(TOPIC_ATTRIBUTES, edits, present)
