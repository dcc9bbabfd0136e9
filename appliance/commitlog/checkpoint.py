"""What the store remembers of its own state: the checkpoint, and the abort and lock files.

Runs in: writer (checkpoint, abort), supervisor (lock).
Owns: `checkpoint`, `abort` and `lock` in the store's root.
Fails: StoreRefused when another process holds the store; OSError is the machine's.

checkpoint (specification: store sheet, section 5.1; Apache: StoreCheckpoint) is one page of longs,
big-endian. Apache reads and writes the first five and leaves the rest as it is, so ours stand
behind them, and hold only as long as Apache's two timestamps are still those that we wrote:

     0 physic_timestamp    8 logics_timestamp   16 index_timestamp   24 master_flushed_offset
    32 confirm_offset     40 settled_mark       48 settled_offset    56 settled_rows
    64 settled_physic     72 settled_logics
"""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from appliance.commitlog.disk import Disk, FileLock, MappedMemory
from appliance.commitlog.files import StorePaths, StoreRefused

CHECKPOINT_SIZE: Final = 4096
SETTLED_MARK: Final = 0x4150504C49414E43  # "APPLIANC"
LOCK_TEXT: Final = b"lock"

# Apache's minTimestamp: clocks and threads may be apart by so much (StoreCheckpoint).
_CAUTION_MS: Final = 3000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Timestamps in ms: records stored up to then are on disk, in the log and in the queues.

    settled_offset (physical, the end of a record; 0: not known): everything before it is on disk,
    the log and the `settled_rows` rows that all ConsumeQueues have for it.
    """

    physic_timestamp: int = 0
    logics_timestamp: int = 0
    index_timestamp: int = 0
    master_flushed_offset: int = 0
    confirm_offset: int = 0
    settled_offset: int = 0
    settled_rows: int = 0

    @property
    def min_timestamp(self) -> int:
        """What was stored up to then needs no recovery (StoreCheckpoint.getMinTimestamp)."""
        return max(0, min(self.physic_timestamp, self.logics_timestamp) - _CAUTION_MS)


_APACHE: Final = tuple(field.name for field in fields(Checkpoint))[:5]
_LONGS: Final = np.dtype(
    [
        (name, ">i8")
        for name in (
            *_APACHE,
            "settled_mark",
            "settled_offset",
            "settled_rows",
            "settled_physic",
            "settled_logics",
        )
    ]
)
assert _LONGS.itemsize == 80


class CheckpointFile:
    """The checkpoint as a mapped page; written in place, which one sector makes atomic."""

    def __init__(self, disk: Disk, paths: StorePaths) -> None:
        self._disk = disk
        self._path = paths.checkpoint
        self._memory: MappedMemory | None = None

    def read(self) -> Checkpoint:
        """What was written last; zeros when there is no checkpoint or it is cut."""
        data = self._disk.read(self._path) if self._disk.exists(self._path) else b""
        if len(data) < _LONGS.itemsize:
            return Checkpoint()
        row = np.frombuffer(data, _LONGS, 1)[0]
        checkpoint = Checkpoint(*(int(row[name]) for name in _APACHE))
        ours = int(row["settled_mark"]) == SETTLED_MARK
        same = (int(row["settled_physic"]), int(row["settled_logics"])) == (
            checkpoint.physic_timestamp,
            checkpoint.logics_timestamp,
        )
        if not (ours and same):
            return checkpoint
        settled = int(row["settled_offset"]), int(row["settled_rows"])
        return replace(checkpoint, settled_offset=settled[0], settled_rows=settled[1])

    def write(self, checkpoint: Checkpoint, *, sync: bool = False) -> None:
        """Remember a state that is on disk already; `sync` brings the page itself there too.

        Without it an older checkpoint may be found after a power cut, which is safe.
        """
        memory = self._map()
        row = memory.view[: _LONGS.itemsize].view(_LONGS)
        for name in (*_APACHE, "settled_offset", "settled_rows"):
            row[name] = getattr(checkpoint, name)
        row["settled_mark"] = SETTLED_MARK
        row["settled_physic"] = checkpoint.physic_timestamp
        row["settled_logics"] = checkpoint.logics_timestamp
        if sync:
            self._disk.sync(memory)

    def close(self) -> None:
        """Unmap the page."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _map(self) -> MappedMemory:
        if self._memory is None:
            if self._disk.exists(self._path) and self._disk.size(self._path) < CHECKPOINT_SIZE:
                self._disk.remove(self._path)
            memory = self._disk.open_map(self._path, CHECKPOINT_SIZE, create=True, writable=True)
            self._disk.allocate(memory, 0, CHECKPOINT_SIZE)
            self._memory = memory  # not before it has its blocks
        return self._memory


def was_running(disk: Disk, paths: StorePaths) -> bool:
    """Whether the store was not closed in order: its abort file is there."""
    return disk.exists(paths.abort)


def mark_running(disk: Disk, paths: StorePaths, pid: int) -> None:
    """From now on the end of this process is a crash."""
    disk.write_atomic(paths.abort, str(pid).encode())


def mark_closed(disk: Disk, paths: StorePaths) -> None:
    """Everything is on disk: the next start needs no recovery."""
    if disk.exists(paths.abort):
        disk.remove(paths.abort)
        disk.sync_path(paths.root)


def lock_store(disk: Disk, paths: StorePaths) -> FileLock:
    """Take the store for this process, as Apache does; the kernel gives it back with our end."""
    try:
        return disk.lock(paths.lock, LOCK_TEXT)
    except BlockingIOError:
        raise StoreRefused(f"{paths.lock}: the store is in use by another broker") from None
