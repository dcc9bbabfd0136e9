"""The real clock."""

import time

from appliance.clock import Clock


def test_both_clocks_in_their_units() -> None:
    before_ns, before_ms = time.monotonic_ns(), int(time.time() * 1000) - 1
    now = Clock().now()
    assert before_ns <= now.monotonic_ns <= time.monotonic_ns()
    assert before_ms <= now.wall_ms <= int(time.time() * 1000) + 1
