"""Queue locks of orderly consumers: who may consume which queue of a group, and until when.

Runs in: coordinator.
Owns: the locks, in memory only: clients renew them every 20 s and lose nothing by asking again.
Fails: never.

Peer: RebalanceLockManager. Time is the monotonic clock: a jump of the wall clock frees no lock.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from appliance.net.json_text import MessageQueue

LEASE_NS = 60_000_000_000
"""A lock not renewed for so long is free (rocketmq.broker.rebalance.lockMaxLiveTime)."""


class _Lock(NamedTuple):
    owner: str
    renewed_ns: int

    def live(self, now_ns: int) -> bool:
        return now_ns - self.renewed_ns <= LEASE_NS


class QueueLocks:
    """All locks of this broker."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[MessageQueue, _Lock]] = defaultdict(dict)

    def lock(
        self, group: str, client: str, queues: Iterable[MessageQueue], *, now_ns: int
    ) -> list[MessageQueue]:
        """Take or renew what is free or one's own; the queues that the client now holds."""
        held = self._groups[group]
        granted = [queue for queue in queues if self._free(held.get(queue), client, now_ns)]
        held.update(dict.fromkeys(granted, _Lock(client, now_ns)))
        return granted

    @staticmethod
    def _free(lock: _Lock | None, client: str, now_ns: int) -> bool:
        return lock is None or lock.owner == client or not lock.live(now_ns)

    def unlock(self, group: str, client: str, queues: Iterable[MessageQueue]) -> None:
        """Give up one's own locks; those of others stay."""
        held = self._groups.get(group, {})
        for queue in queues:
            lock = held.get(queue)
            if lock is not None and lock.owner == client:
                del held[queue]

    def any_live(self, group: str, *, now_ns: int) -> bool:
        """Whether someone consumes the group in order (the negation of isLockAllExpired)."""
        return any(lock.live(now_ns) for lock in self._groups.get(group, {}).values())
