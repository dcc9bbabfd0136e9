"""Named places where a process may be made to die: before and after each step that must not be half
done.

Runs in: every process; costs one comparison while nothing is armed.
Owns: the table of places. `APPLIANCE_FAILPOINT=name:n` kills the process at the n-th time it passes
       `name`.
Fails: as it is asked to.
"""

import os
import signal
from collections.abc import Callable

PLACES = (
    "append.assigned",  # done entries written, journal still closed
    "append.journaled",  # journal open, nothing copied
    "append.copied",  # records in the log, nothing says so
    "append.advanced",  # the queues' ends moved, `taken` and `appended` not
    "append.taken",  # `taken` moved, `appended` not
    "append.counted",  # `taken` and `appended` moved, journal still open
    "append.closed",
    "flush.asked",
    "flush.seen",  # the sync ended, `flushed` not moved
    "flush.moved",
    "dispatch.rows",  # rows written, nobody told
    "dispatch.shown",  # readers see them, senders do not know
    "dispatch.answered",  # answers published, entries not released
    "dispatch.released",
    "frontend.built",  # records in the arena, not published
    "frontend.published",
    "frontend.answered",  # answers in the sockets' buffers, entries not released
    "coordinator.handled",  # answered, question not released
    "coordinator.released",
)

_hook: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Marks a place."""
    if _hook is not None:
        _hook(name)


def arm(hook: Callable[[str], None] | None) -> None:
    """Calls `hook` with the name of every place that is passed; None disarms."""
    global _hook
    _hook = hook


def arm_from_environment() -> None:
    """For the harness that kills real processes."""
    wanted, _, count = os.environ.get("APPLIANCE_FAILPOINT", "").partition(":")
    if not wanted:
        return
    assert wanted in PLACES, f"APPLIANCE_FAILPOINT: no place is called {wanted!r}"
    left = int(count or 1)

    def die(name: str) -> None:
        nonlocal left
        left -= name == wanted
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    arm(die)
