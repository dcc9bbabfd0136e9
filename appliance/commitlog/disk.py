"""The seam to the file system: list, map, allocate, sync, rename, remove, lock.

Runs in: every process that touches a store file. Tests hand in a worse disk with the same methods.
Owns: nothing by itself; it does what it is told.
Fails: OSError, as the system says it. A file is allocated before it is written through a map, so
       that a full disk is ENOSPC here and never a SIGBUS there.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

_NOTHING: Final[NDArray[np.uint8]] = np.empty(0, np.uint8)


class MappedMemory:
    """One file seen as memory. `address` is good until close(), `view` for as long as it is held.

    Closing unmaps at once, or, when somebody still holds a view, once the last view is gone:
    a map is never taken away under a reader.
    """

    __slots__ = ("_release", "address", "fd", "path", "size", "view")

    def __init__(
        self,
        path: str,
        view: NDArray[np.uint8],
        *,
        fd: int = -1,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self.view = view
        self.size = len(view)
        self.address: int = view.__array_interface__["data"][0]
        self.fd = fd
        self._release = release

    def close(self) -> None:
        """Let go of the map and the descriptor; safe to call twice."""
        self.view = _NOTHING
        self.address = 0
        release, self._release = self._release, lambda: None
        release()
        self.fd = -1


class FileLock(Protocol):
    """A lock on a file, held until release() or the end of the process."""

    def release(self) -> None:
        """Give the lock back; the file stays."""


class Disk(Protocol):
    """What the store needs of a file system. Sizes and offsets are in bytes, times in ms."""

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or a directory."""

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory."""

    def size(self, path: str) -> int:
        """Length of a file."""

    def modified_ms(self, path: str) -> int:
        """Time of the last change of a file's bytes."""

    def free_space(self, path: str) -> tuple[int, int]:
        """(total, free for us) of the file system that holds the path."""

    def read(self, path: str) -> bytes:
        """A whole small file."""

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a small file as a whole; on disk when it returns."""

    def remove(self, path: str) -> None:
        """Remove a file; durable after sync_path of its directory."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all that is in it."""

    def make_directories(self, path: str) -> None:
        """Create a directory and those above it; those that exist are fine."""

    def open_map(
        self, path: str, size: int, *, create: bool = False, writable: bool = False
    ) -> MappedMemory:
        """Map the first `size` bytes of a file; `create` makes it, sparse and of that length."""

    def allocate(self, mapped: MappedMemory, offset: int, size: int) -> None:
        """Give blocks to a range; what is written there keeps its bytes."""

    def written_ranges(
        self, mapped: MappedMemory, begin: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """Parts of [begin, end) that may hold bytes other than zero, in order."""

    def sync(self, mapped: MappedMemory) -> None:
        """Bring a mapped file's bytes to the disk (fdatasync)."""

    def sync_path(self, path: str) -> None:
        """Bring a file's bytes, or a directory's names, to the disk."""

    def lock(self, path: str, text: bytes) -> FileLock:
        """Lock a file that holds `text` against other processes; BlockingIOError: one has it."""


class _RealLock:
    """fcntl's exclusive lock on the first byte, which is what Java's FileChannel.tryLock takes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        os.close(self._fd)


class RealDisk:
    """The machine's file system."""

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        """Whether there is a file or a directory."""
        return os.path.lexists(path)

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory."""
        return os.path.isdir(path)

    def size(self, path: str) -> int:
        """Length of a file."""
        return os.stat(path).st_size

    def modified_ms(self, path: str) -> int:
        """Time of the last change of a file's bytes."""
        return os.stat(path).st_mtime_ns // 1_000_000

    def free_space(self, path: str) -> tuple[int, int]:
        """(total, free for us) of the file system that holds the path."""
        status = os.statvfs(path)
        return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize

    def read(self, path: str) -> bytes:
        """A whole small file."""
        return Path(path).read_bytes()

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace a small file as a whole; on disk when it returns."""
        temporary = path + ".tmp"
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        self.sync_path(os.path.dirname(path))

    def remove(self, path: str) -> None:
        """Remove a file; durable after sync_path of its directory."""
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all that is in it."""
        shutil.rmtree(path)

    def make_directories(self, path: str) -> None:
        """Create a directory and those above it; those that exist are fine."""
        os.makedirs(path, exist_ok=True)

    def open_map(
        self, path: str, size: int, *, create: bool = False, writable: bool = False
    ) -> MappedMemory:
        """Map the first `size` bytes of a file; `create` makes it, sparse and of that length."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | (os.O_CREAT if create else 0)
        fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
        try:
            if create and os.fstat(fd).st_size == 0:
                os.ftruncate(fd, size)
            if os.fstat(fd).st_size < size:
                raise OSError(errno.EINVAL, f"shorter than the {size} bytes to be mapped", path)
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            memory = mmap.mmap(fd, size, mmap.MAP_SHARED, protection)
        except BaseException:
            os.close(fd)
            raise
        return MappedMemory(
            path, np.frombuffer(memory, np.uint8), fd=fd, release=_releaser(memory, fd)
        )

    def allocate(self, mapped: MappedMemory, offset: int, size: int) -> None:
        """Give blocks to a range; what is written there keeps its bytes."""
        os.posix_fallocate(mapped.fd, offset, size)

    def written_ranges(
        self, mapped: MappedMemory, begin: int, end: int
    ) -> Iterator[tuple[int, int]]:
        """Parts of [begin, end) that may hold bytes other than zero, in order.

        Holes, and allocated blocks that were never written, are left out unread (SEEK_DATA), so
        that a file of 1 GiB that holds little costs little.
        """
        while begin < end:
            try:
                begin = os.lseek(mapped.fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            if begin < end:
                hole = min(os.lseek(mapped.fd, begin, os.SEEK_HOLE), end)
                yield begin, hole
                begin = hole

    def sync(self, mapped: MappedMemory) -> None:
        """Bring a mapped file's bytes to the disk (fdatasync)."""
        os.fdatasync(mapped.fd)

    def sync_path(self, path: str) -> None:
        """Bring a file's bytes, or a directory's names, to the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str, text: bytes) -> FileLock:
        """Lock a file that holds `text` against other processes; BlockingIOError: one has it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            os.ftruncate(fd, len(text))
            os.pwrite(fd, text, 0)
        except BaseException:
            os.close(fd)
            raise
        return _RealLock(fd)


def _releaser(memory: mmap.mmap, fd: int) -> Callable[[], None]:
    def release() -> None:
        # A view that somebody still holds keeps the map alive; it is unmapped with the view.
        with contextlib.suppress(BufferError):
            memory.close()
        os.close(fd)

    return release
