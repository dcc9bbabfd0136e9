"""values.py: sizes and addresses, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.values import GIB, KIB, MIB, join_address, size, size_text, split_address

ANY_SIZE = size(0, 1 << 60)


@given(st.integers(0, 1 << 49))
def test_a_size_is_read_as_it_is_written(value: int) -> None:
    assert ANY_SIZE.read(size_text(value)) == value
    assert ANY_SIZE.read(value) == value


@pytest.mark.parametrize(
    ("value", "text"), [(GIB, "1GiB"), (1536 * KIB, "1536KiB"), (4 * MIB, "4MiB"), (5, "5B")]
)
def test_a_size_is_written_with_the_largest_exact_unit(value: int, text: str) -> None:
    assert size_text(value) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1:2", "broker.example"])
def test_an_address_is_split_as_it_was_joined(host: str) -> None:
    assert split_address(join_address(host, 10911)) == (host, 10911)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:b", "::1:1", "[::1]", "a:1:2", "a:123456"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        split_address(text)
