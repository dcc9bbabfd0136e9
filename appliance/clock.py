"""The one place that reads time.

Runs in: every process.
Owns: nothing.
Fails: never.
"""

import time
from typing import NamedTuple


class Now(NamedTuple):
    """One reading of both clocks, taken together and handed to every `step`."""

    monotonic_ns: int
    """For intervals and deadlines; never goes back."""
    wall_ms: int
    """Milliseconds since the epoch, for what is stored or shown; may jump."""


class Clock:
    """The machine's clock. Tests hand in an object with the same method."""

    def now(self) -> Now:
        """Read both clocks."""
        return Now(time.monotonic_ns(), time.time_ns() // 1_000_000)
