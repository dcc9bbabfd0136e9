"""A clock that stands until it is told to go on.

Runs in: tests, and the seeded simulation.
Owns: the time that everybody in the test sees.
Fails: never.
"""

from appliance.clock import Clock, Now

START_NS = 1_000_000_000_000
START_MS = 1_800_000_000_000


class FakeClock(Clock):
    """Both clocks go on together."""

    def __init__(self) -> None:
        self.ns = START_NS

    def now(self) -> Now:
        return Now(self.ns, START_MS + (self.ns - START_NS) // 1_000_000)

    def advance(self, ns: int) -> None:
        assert ns >= 0
        self.ns += ns

    def advance_to(self, ns: int) -> None:
        """To a time that may have come already."""
        self.ns = max(self.ns, ns)
