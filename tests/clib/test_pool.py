"""pool.c: blocks never overlap, come back, and are not lost when all is carved."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from clib import ffi, lib

SMALLEST, LARGEST = 4096, 32 << 20


def make(size: int) -> tuple[Any, Any]:
    """A pool and its memory."""
    memory, pool = ffi.new("uint8_t[]", size), ffi.new("ap_pool *")
    pool.memory, pool.size = memory, size
    return pool, memory


def take(pool: Any, size: int) -> tuple[int, int]:
    """(address, capacity); address 0: none left."""
    capacity = ffi.new("uint32_t *")
    return int(lib.ap_pool_take(pool, size, capacity)), int(capacity[0])


@pytest.mark.parametrize(
    ("size", "capacity"), [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (1 << 20, 1 << 20)]
)
def test_sizes_are_rounded_up(size: int, capacity: int) -> None:
    pool, _ = make(4 << 20)
    assert take(pool, size)[1] == capacity
    assert pool.taken == capacity


def test_what_no_block_holds() -> None:
    pool, _ = make(LARGEST)
    assert take(pool, LARGEST + 1)[0] == take(pool, 1 << 63)[0] == take(pool, (1 << 64) - 1)[0] == 0
    assert take(pool, LARGEST)[0] != 0
    assert take(pool, 1)[0] == 0
    assert pool.taken == LARGEST


def test_a_block_given_back_is_the_next_of_its_size() -> None:
    pool, _ = make(1 << 20)
    first, capacity = take(pool, 10_000)
    lib.ap_pool_give(pool, first, capacity)
    assert take(pool, 5_000)[0] != first
    assert take(pool, 9_000)[0] == first


def test_a_larger_block_serves_when_nothing_is_left_to_carve() -> None:
    pool, _ = make(64 << 10)
    big, capacity = take(pool, 64 << 10)
    assert take(pool, 100)[0] == 0
    lib.ap_pool_give(pool, big, capacity)
    address, capacity = take(pool, 100)
    assert (address, capacity) == (big, 64 << 10)
    lib.ap_pool_give(pool, address, capacity)
    assert pool.taken == 0 and take(pool, 64 << 10)[0] == big


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 200_000) | st.just(0), max_size=80))
def test_blocks_never_overlap(steps: list[int]) -> None:
    """A size takes a block and fills it, 0 gives the oldest one back."""
    size = 1 << 20
    pool, memory = make(size)
    begin = int(ffi.cast("uint64_t", memory))
    out: list[tuple[int, int, int]] = []
    for number, step in enumerate(steps):
        if step:
            address, capacity = take(pool, step)
            if address:
                assert capacity >= step and begin <= address <= begin + size - capacity
                ffi.memmove(ffi.cast("void *", address), bytes([number]) * capacity, capacity)
                out.append((address, capacity, number))
        elif out:
            address, capacity, mark = out.pop(0)
            assert (
                bytes(ffi.buffer(ffi.cast("char *", address), capacity)) == bytes([mark]) * capacity
            )
            lib.ap_pool_give(pool, address, capacity)
    assert pool.taken == sum(capacity for _, capacity, _ in out)
