"""A disk in memory that is worse than a real one: it forgets what was not synced, fills up, fails.

Runs in: tests, and the seeded simulation.
Owns: all bytes of its files; they lie in anonymous memory, so that C may be handed their addresses.
Fails: with the errno that a test asked for; AssertionError for what would be SIGBUS on a real disk.
"""

import errno
import mmap
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.commitlog.disk import FileLock, MappedMemory

PAGE_SIZE = 4096


def _memory(size: int) -> NDArray[np.uint8]:
    """Zeroed memory at a page's begin."""
    whole = np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)
    return whole[:size]


class _File:
    """One file: what processes see, what the kernel takes to be on disk, and what is on disk."""

    def __init__(self, size: int, modified_ms: int) -> None:
        self.seen = _memory(size)
        self.believed = np.zeros(size, np.uint8)
        self.durable = np.zeros(0, np.uint8)  # as long as the durable length
        self.blocks = np.zeros(_page_count(size), np.bool_)
        self.modified_ms = modified_ms

    @property
    def size(self) -> int:
        return len(self.seen)

    def dirty_pages(self) -> list[slice]:
        """Pages that a sync has to write."""
        pages = (slice(at, min(at + PAGE_SIZE, self.size)) for at in range(0, self.size, PAGE_SIZE))
        return [page for page in pages if (self.seen[page] != self.believed[page]).any()]

    def sync(self) -> None:
        """Write the dirty pages, and the length with them."""
        self.assert_allocated()
        self.grow_durable()
        for page in self.dirty_pages():
            self.durable[page] = self.believed[page] = self.seen[page]

    def begin_sync(self) -> Callable[[], None]:
        """A sync that takes its time; what is written after its begin is no part of it."""
        self.assert_allocated()
        pages = [(page, self.seen[page].copy()) for page in self.dirty_pages()]

        def finish() -> None:
            self.grow_durable()
            for page, data in pages:
                self.durable[page] = self.believed[page] = data

        return finish

    def grow_durable(self) -> None:
        if len(self.durable) < self.size:
            self.durable = np.concatenate(
                (self.durable, np.zeros(self.size - len(self.durable), np.uint8))
            )

    def assert_allocated(self) -> None:
        """A real disk that is full kills who writes a page without a block."""
        for page in self.dirty_pages():
            assert self.blocks[page.start // PAGE_SIZE], f"byte {page.start} has no block"

    def survive(self, rng: random.Random) -> "_File":
        """The file after a power cut: each dirty page reached the disk, or did not."""
        pages = self.dirty_pages()
        if pages and rng.random() < 0.5:
            self.grow_durable()
        for page in pages:
            if page.stop <= len(self.durable) and rng.random() < 0.5:
                self.durable[page] = self.seen[page]
        after = _File(len(self.durable), self.modified_ms)
        after.seen[:] = after.believed[:] = self.durable
        after.durable = self.durable.copy()
        after.blocks[:] = self.blocks[: len(after.blocks)]
        return after


def _page_count(size: int) -> int:
    return -(-size // PAGE_SIZE)


@dataclass
class _Change:
    """A name that was given or taken and is not known to be on disk."""

    path: str
    file: _File | None


@dataclass
class _Failure:
    error: int
    after: int
    operations: frozenset[str]
    times: int


class _Lock:
    def __init__(self, held: set[str], path: str) -> None:
        self._held, self._path = held, path

    def release(self) -> None:
        self._held.discard(self._path)


@dataclass
class FakeDisk:
    """Implements appliance.commitlog.disk.Disk. `now_ms` is the time that new bytes get.

    `before`: called with each operation and its path, before anything has happened.
    """

    capacity: int = 1 << 40
    now_ms: int = 0
    before: Callable[[str, str], None] = lambda operation, path: None
    operations: list[tuple[str, str]] = field(default_factory=list)
    _files: dict[str, _File] = field(default_factory=dict)
    _durable_names: dict[str, _File] = field(default_factory=dict)
    _changes: dict[str, list[_Change]] = field(default_factory=dict)
    _directories: set[str] = field(default_factory=lambda: {"/"})
    _failures: list[_Failure] = field(default_factory=list)
    _locked: set[str] = field(default_factory=set)

    # ---- what a test does to it -----------------------------------------------------------------

    def fail(self, error: int, *, after: int = 0, on: str = "", times: int = 1) -> None:
        """Let operations fail with an errno: `after` so many of them, `times` often.

        on: names of operations, space separated; all without.
        """
        self._failures.append(_Failure(error, after, frozenset(on.split()), times))

    def power_cut(self, rng: random.Random) -> None:
        """Forget what was not synced, page by page and name by name, as the dice fall.

        Maps that are open stay with their old files: what is written there is lost.
        """
        self._locked.clear()
        for path in sorted(self._changes):
            changes = self._changes[path]
            for change in changes[: rng.randint(0, len(changes))]:
                self._settle(change)
        self._changes.clear()
        survivors = {id(file): file for file in self._durable_names.values()}
        after = {key: file.survive(rng) for key, file in survivors.items()}
        self._files = {path: after[id(file)] for path, file in self._durable_names.items()}
        self._durable_names = dict(self._files)

    def kill(self) -> None:
        """The process dies, the machine lives: only locks are lost."""
        self._locked.clear()

    def used(self) -> int:
        """Bytes in blocks."""
        unique = {id(file): file for file in self._files.values()}
        return sum(int(file.blocks.sum()) * PAGE_SIZE for file in unique.values())

    def add(self, path: str, data: bytes, *, modified_ms: int = 0) -> None:
        """Put a file there that is on disk."""
        self.make_directories(os.path.dirname(path))
        file = _File(len(data), modified_ms)
        file.seen[:] = np.frombuffer(data, np.uint8)
        file.blocks[:] = True
        file.sync()
        self._files[path] = self._durable_names[path] = file

    # ---- Disk -----------------------------------------------------------------------------------

    def listdir(self, path: str) -> list[str]:
        self._do("listdir", path)
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        prefix = path.rstrip("/") + "/"
        inside = (p for p in (*self._files, *self._directories) if p.startswith(prefix))
        return sorted({p[len(prefix) :].partition("/")[0] for p in inside if p != prefix} - {""})

    def exists(self, path: str) -> bool:
        return path in self._files or path in self._directories

    def is_directory(self, path: str) -> bool:
        return path in self._directories

    def size(self, path: str) -> int:
        return self._at(path).size

    def modified_ms(self, path: str) -> int:
        return self._at(path).modified_ms

    def free_space(self, path: str) -> tuple[int, int]:
        return self.capacity, max(self.capacity - self.used(), 0)

    def read(self, path: str) -> bytes:
        self._do("read", path)
        return self._at(path).seen.tobytes()

    def write_atomic(self, path: str, data: bytes) -> None:
        self._do("write_atomic", path)
        file = _File(len(data), self.now_ms)
        file.seen[:] = np.frombuffer(data, np.uint8)
        self._give_blocks(file, slice(None))
        file.sync()
        self._name(path, file)
        self._settle_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        self._do("remove", path)
        self._at(path)
        self._name(path, None)

    def remove_tree(self, path: str) -> None:
        self._do("remove_tree", path)
        prefix = path + "/"
        for name in [name for name in self._files if name.startswith(prefix)]:
            self._name(name, None)
            self._settle_directory(os.path.dirname(name))
        gone = {name for name in self._directories if name.startswith(prefix)}
        self._directories -= gone | {path}

    def make_directories(self, path: str) -> None:
        while path not in self._directories:
            self._do("make_directories", path)
            self._directories.add(path)
            path = os.path.dirname(path)

    def open_map(
        self, path: str, size: int, *, create: bool = False, writable: bool = False
    ) -> MappedMemory:
        self._do("open_map", path)
        if create and path not in self._files:
            if os.path.dirname(path) not in self._directories:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._name(path, _File(size, self.now_ms))
        file = self._at(path)
        if file.size < size:
            raise OSError(errno.EINVAL, f"shorter than the {size} bytes to be mapped", path)
        if writable:
            file.modified_ms = self.now_ms
        view = file.seen[:size]
        if not writable:
            view = view.view()
            view.flags.writeable = False
        return MappedMemory(path, view)

    def allocate(self, mapped: MappedMemory, offset: int, size: int) -> None:
        self._do("allocate", mapped.path)
        file = self._at(mapped.path)
        pages = slice(offset // PAGE_SIZE, _page_count(min(offset + size, file.size)))
        self._give_blocks(file, pages)

    def written_ranges(
        self, mapped: MappedMemory, begin: int, end: int
    ) -> Iterator[tuple[int, int]]:
        if begin < end:
            yield begin, end

    def sync(self, mapped: MappedMemory) -> None:
        self._sync(mapped.path)

    def begin_sync(self, mapped: MappedMemory) -> Callable[[], None]:
        """A sync whose end is to be called for; a power cut before that may undo it."""
        self._do("sync", mapped.path)
        return self._at(mapped.path).begin_sync()

    def sync_path(self, path: str) -> None:
        if path in self._directories:
            self._do("sync", path)
            self._settle_directory(path)
        else:
            self._sync(path)

    def lock(self, path: str, text: bytes) -> FileLock:
        if path in self._locked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        self.write_atomic(path, text)
        self._locked.add(path)
        return _Lock(self._locked, path)

    # ---- inside ---------------------------------------------------------------------------------

    def _do(self, operation: str, path: str) -> None:
        """Log an operation, and let it fail when its time has come."""
        self.before(operation, path)
        self.operations.append((operation, path))
        for failure in self._failures:
            if failure.operations and operation not in failure.operations:
                continue
            failure.after -= 1
            if failure.after < 0 and failure.times > 0:
                failure.times -= 1
                raise OSError(failure.error, os.strerror(failure.error), path)

    def _at(self, path: str) -> _File:
        if path not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._files[path]

    def _sync(self, path: str) -> None:
        """A failed sync leaves the pages clean and not on disk: the next one does not try them."""
        file = self._at(path)
        try:
            self._do("sync", path)
        except OSError:
            file.believed[:] = file.seen
            raise
        file.sync()

    def _give_blocks(self, file: _File, pages: slice) -> None:
        wanted = int((~file.blocks[pages]).sum()) * PAGE_SIZE
        if self.used() + wanted > self.capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.blocks[pages] = True

    def _name(self, path: str, file: _File | None) -> None:
        if file is None:
            del self._files[path]
        else:
            self._files[path] = file
        self._changes.setdefault(os.path.dirname(path), []).append(_Change(path, file))

    def _settle_directory(self, directory: str) -> None:
        for change in self._changes.pop(directory, ()):
            self._settle(change)

    def _settle(self, change: _Change) -> None:
        if change.file is None:
            self._durable_names.pop(change.path, None)
        else:
            self._durable_names[change.path] = change.file
