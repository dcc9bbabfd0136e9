"""The thread that syncs, without a thread: a sync takes as long as a test lets it.

Runs in: the seeded simulation.
Owns: the one sync under way.
Fails: as the disk under it.
"""

from collections.abc import Callable

from appliance.clock import Clock
from appliance.commitlog.disk import MappedMemory
from appliance.commitlog.flush import Outcome
from tests.fakes.disk import FakeDisk


class FakeSyncer:
    """Implements commitlog.flush.Syncer. `delay_ns()` says how long the next sync takes."""

    def __init__(
        self, disk: FakeDisk, clock: Clock, delay_ns: Callable[[], int], ring: Callable[[], None]
    ) -> None:
        self._disk, self._clock, self._delay_ns, self._ring = disk, clock, delay_ns, ring
        self._finish: Callable[[], None] | None = None
        self._error = 0
        self._began_ns = 0
        self.due_ns: int | None = None
        """When the sync under way ends; None: there is none."""
        self._ended = False
        self._polled_ns = -1

    def ask(self, memory: MappedMemory) -> None:
        assert self.due_ns is None, "one sync at a time"
        self._error, self._finish = 0, None
        try:
            self._finish = self._disk.begin_sync(memory)
        except OSError as error:
            self._error = error.errno or -1
        self._began_ns, self._polled_ns = self._clock.now().monotonic_ns, -1
        self.due_ns, self._ended = self._began_ns + self._delay_ns(), False

    def poll(self) -> Outcome | None:
        now_ns = self._clock.now().monotonic_ns
        if not self._ended and self._polled_ns == now_ns:
            self.end()  # whoever asks twice at one time waits for it in a loop
        self._polled_ns = now_ns
        if not self._ended:
            return None
        self.due_ns = None
        return Outcome(self._error, now_ns - self._began_ns)

    def stop(self) -> None: ...

    def turn(self) -> bool:
        """Ends the sync under way when its time has come."""
        if self._ended or self.due_ns is None or self._clock.now().monotonic_ns < self.due_ns:
            return False
        self.end()
        return True

    def end(self) -> None:
        """The bytes are on disk, or the disk has refused them."""
        if self._finish is not None:
            self._finish()
        self._ended = True
        self._ring()
