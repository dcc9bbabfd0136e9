"""The notation of header fields, and the values it reads and writes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.net import fields

ALL = "s:str i:i32 l:i64 d:f64 b:bool t:str? n:i32? c:bool?=true q:i32?=-1 long@x:str"


def test_declarations_print_as_they_are_written() -> None:
    assert " ".join(map(str, fields.parse(ALL))) == ALL


@pytest.mark.parametrize("wrong", ["a", "a:int", "a:str?!", "a:i32=", ":str"])
def test_a_wrong_declaration_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a field"):
        fields.parse(wrong)


def test_absent_fields_are_javas_defaults() -> None:
    assert fields.decode(fields.parse(ALL), {}) == {
        "s": None, "i": 0, "l": 0, "d": 0.0, "b": False,
        "t": None, "n": None, "c": True, "q": -1, "long": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("i32", "2147483647", 2147483647),
        ("i32", "-2147483648", -2147483648),
        ("i32", "2147483648", 0),
        ("i32", "+5", 5),
        ("i32", "1_0", 0),
        ("i32", " 1", 0),
        ("i32", "", 0),
        ("i32", "9" * 5000, 0),
        ("i64", "9223372036854775807", 9223372036854775807),
        ("i64", "9223372036854775808", 0),
        ("i64", "1.5", 0),
        ("f64", "1.0E20", 1e20),
        ("f64", "x", 0.0),
        ("bool", "TRUE", True),
        ("bool", "1", False),
        ("str", "", ""),
    ],
)
def test_text_is_read_as_java_reads_it(kind: str, text: str, value: object) -> None:
    assert fields.decode(fields.parse(f"f:{kind}"), {"f": text}) == {"f": value}


def test_an_unreadable_optional_field_counts_as_absent() -> None:
    assert fields.decode(fields.parse("f:i32?"), {"f": "x"}) == {"f": None}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"i": "1", "l": "2", "d": "0.5"}, None),
        ({"i": "1", "l": "2", "d": "0.5", "n": "x", "q": ""}, None),
        ({"l": "2", "d": "0.5"}, "i is missing"),
        ({"i": "", "l": "2", "d": "0.5"}, 'i: found "", allowed a whole number of 32 bits'),
        ({"i": "1", "l": "two", "d": "3"}, 'l: found "two", allowed a whole number of 64 bits'),
        ({"i": "1", "l": "2", "d": "x" * 99}, f'd: found "{"x" * 40}", allowed a number'),
    ],
)
def test_a_number_that_is_needed_must_be_there(values: dict[str, str], fault: str | None) -> None:
    assert fields.fault(fields.parse(ALL), values) == fault


def test_undeclared_fields_are_not_decoded_but_encoded() -> None:
    declared = fields.parse("topic@b:str")
    assert fields.decode(declared, {"b": "T", "other": "1"}) == {"topic": "T"}
    assert fields.encode({"topic": "T", "other": 1}, declared) == {"b": "T", "other": "1"}


@given(
    st.fixed_dictionaries(
        {
            "s": st.text(),
            "i": st.integers(-(1 << 31), (1 << 31) - 1),
            "l": st.integers(-(1 << 63), (1 << 63) - 1),
            "d": st.floats(allow_nan=False),
            "b": st.booleans(),
            "t": st.none() | st.text(),
            "n": st.none() | st.integers(-9, 9),
            "c": st.booleans(),
            "q": st.integers(-9, 9),
            "long": st.text(),
        }
    )
)
def test_what_is_encoded_is_decoded_again(values: dict[str, Any]) -> None:
    declared = fields.parse(ALL)
    assert fields.decode(declared, fields.encode(values, declared)) == values
