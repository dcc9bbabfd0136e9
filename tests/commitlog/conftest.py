"""What several tests of this folder are given."""

from collections.abc import Iterator

import pytest

from tests.commitlog.bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """The writer's parts, with topics T (two queues) and U (one)."""
    with Bench() as made:
        made.memory.topic("T")
        made.memory.topic("U", 1)
        yield made
