"""fastjson's dialect, read and written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.net import json_text
from appliance.net.json_text import JsonError, MessageQueue

QUEUE = MessageQueue("T", "b", 3)
RAW = '{"brokerName":"b","queueId":3,"topic":"T"}'

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Java's strings and ours differ in half surrogates only, which have their own test.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{0:"a",-1:"b","2":"c"}', {0: "a", -1: "b", "2": "c"}),
        (f'{{"t":{{{RAW}:7}}}}', {"t": {QUEUE: 7}}),
        (f'{{\n\t"t":{{{RAW}:7,\n{{"queueId":4}}:8}}}}', {"t": {QUEUE: 7, (("queueId", 4),): 8}}),
        ("{'a':'it\\'s \"x\"'}", {"a": 'it\'s "x"'}),
        ("{name:true,other_1:false,$x:null}", {"name": True, "other_1": False, "$x": None}),
        ("[1,2,,3,]", [1, 2, 3]),
        ("[1.5,-2e3,10L,+4]", [1.5, -2000.0, 10, 4]),
        ("['\\u00e9\\x41\\n\\/\\q']", ["éA\n/q"]),
        ('{0:"\\ud83d\\ude00"}', {0: "\U0001f600"}),
        ("[undefined,NaN]", [None, None]),
        ('"text"', "text"),
        ("{}", {}),
    ],
)
def test_reads_what_fastjson_reads(text: str, value: object) -> None:
    assert json_text.loads(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1", "{a}", "{a:}", "{a:1 b:2}", "[1 2]", "'a", "{:1}", "nul", "1 2", "{]}"),
        *("[" * 5000, "[" * 300 + "1,," + "]" * 300, "-", "[" + "9" * 5000 + ",,]"),
    ],
)
def test_refuses_the_rest(text: str) -> None:
    with pytest.raises(JsonError):
        json_text.loads(text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":{"b":[1]},"c":{"$ref":"$.a"}}', {"a": {"b": [1]}, "c": {"b": [1]}}),
        ('{"a":[{"x":1},{"$ref":"$.a[0]"}]}', {"a": [{"x": 1}, {"x": 1}]}),
        ('{"a":{"b":{"$ref":"$.nowhere"}}}', {"a": {"b": None}}),
        ('{"a":{"b":1},"n":{"m":{"$ref":"$.a.b"}}}', {"a": {"b": 1}, "n": {"m": 1}}),
        ('{"a":{0:{"x":1}},"b":{"$ref":"$.a.0"}}', {"a": {0: {"x": 1}}, "b": {"x": 1}}),
    ],
)
def test_resolves_references(text: str, value: object) -> None:
    assert json_text.loads(text.encode()) == value


def test_resolves_references_upwards() -> None:
    value = json_text.loads(b'{"a":{"up":{"$ref":".."},"me":{"$ref":"@"}}}')
    assert value["a"]["up"] is value
    assert value["a"]["me"] is value["a"]


def test_a_reference_that_is_no_path_is_refused() -> None:
    with pytest.raises(JsonError):
        json_text.loads(b'{"a":{"$ref":7}}')


def test_half_a_surrogate_becomes_a_question_mark() -> None:
    value = json_text.loads(b'{"a\\ud800":["\\udfff","\\ud83d\\ude00"]}')
    assert value == {"a?": ["?", "\U0001f600"]}


def test_broken_utf8_is_replaced() -> None:
    assert json_text.loads(b'"\xff"') == "\ufffd"


def test_writes_integer_and_queue_keys_bare() -> None:
    value = {"a": {0: "x", 1: "y"}, "t": {QUEUE: {"maxOffset": 7}}, "q": [QUEUE], "s": "é/"}
    assert json_text.dumps(value).decode() == (
        f'{{"a":{{0:"x",1:"y"}},"t":{{{RAW}:{{"maxOffset":7}}}},"q":[{RAW}],"s":"é/"}}'
    )


def test_writes_for_strict_readers() -> None:
    value = {"z": {1: "é"}, "a": "x/y", "q": QUEUE, "f": float("nan")}
    assert json_text.dumps(value, quoted=True).decode() == (
        '{"a":"x\\/y","f":null,"q":{"brokerName":"b","queueId":3,"topic":"T"},"z":{"1":"\\u00e9"}}'
    )


def test_numbers_that_json_does_not_have_are_null() -> None:
    assert json_text.dumps([float("inf"), float("nan"), 1.5]) == b"[null,null,1.5]"


def test_nesting_beyond_reason_is_refused() -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    with pytest.raises(JsonError):
        json_text.dumps(value)


def test_keys_of_either_form() -> None:
    assert json_text.int_keys({"0": "a", 1: "b"}) == {0: "a", 1: "b"}
    assert json_text.queue_keys({RAW: 1}) == json_text.queue_keys({QUEUE: 1}) == {QUEUE: 1}


@pytest.mark.parametrize("key", ["x", "[]", 5, "'"])
def test_keys_of_neither_form(key: object) -> None:
    with pytest.raises(JsonError):
        json_text.queue_keys({key: 1})
    if key != 5:
        with pytest.raises(JsonError):
            json_text.int_keys({key: 1})


def test_a_queue_with_members_missing() -> None:
    assert json_text.queue_of({"topic": "T"}) == MessageQueue("T", "", 0)
    with pytest.raises(JsonError):
        json_text.queue_of({"queueId": "x"})


@given(plain)
def test_strict_json_reads_the_same(value: Any) -> None:
    assert json_text.loads(json.dumps(value).encode()) == value


@given(plain)
def test_the_tolerant_reader_agrees_with_the_strict_one(value: Any) -> None:
    """A comma too many sends the same document through the other parser."""
    tolerant = json_text.loads(f"[{json.dumps(value)},,]".encode())
    assert tolerant == [value]


@given(st.dictionaries(st.integers(), plain) | st.dictionaries(st.just(QUEUE), plain))
def test_what_is_written_is_read_again(value: Any) -> None:
    assert json_text.loads(json_text.dumps(value)) == value


@given(st.binary(max_size=60) | st.text("{}[]:,'\"\\01a$ref.", max_size=60).map(str.encode))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        json_text.loads(data)
    except JsonError:
        pass
