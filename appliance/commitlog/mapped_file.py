"""Directories of mapped files of one size, each named by the offset of its first byte.

Runs in: writer (the CommitLog and every ConsumeQueue are such a directory).
Owns: the files of its directory: it alone creates, cuts and removes them.
Fails: StoreRefused when what lies there does not fit together; OSError is the machine's.

Offsets here count bytes of the whole stream: offset o lies in the file named o - o % file_size, at
byte o % file_size (specification: store sheet, section 1.1; Apache: MappedFileQueue).
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from appliance.commitlog.disk import Disk, MappedMemory
from appliance.commitlog.files import StoreRefused, offset_name, parse_offset_name

_CHUNK_SIZE: Final = 1 << 20  # how much is looked at, or zeroed, at a time
_HEAD_SIZE: Final = 16  # a file whose first bytes are zero was never written


class SyncFailed(OSError):
    """The disk refused a sync: the next one would say nothing of what this one left out."""


class MappedFile:
    """One file of the directory, mapped when its bytes are first asked for.

    `synced_offset`: the disk holds this file up to here, as far as we have asked it.
    """

    __slots__ = ("_disk", "_memory", "_allocated", "first_offset", "path", "size", "synced_offset")

    def __init__(self, disk: Disk, path: str, *, first_offset: int, size: int) -> None:
        self.path = path
        self.first_offset = first_offset
        self.size = size
        self.synced_offset = first_offset
        self._disk = disk
        self._memory: MappedMemory | None = None
        self._allocated = 0

    @property
    def end_offset(self) -> int:
        """First offset behind the file."""
        return self.first_offset + self.size

    @property
    def memory(self) -> MappedMemory:
        """The map; opened on first use."""
        if self._memory is None:
            self._memory = self._disk.open_map(self.path, self.size, writable=True)
        return self._memory

    @property
    def view(self) -> NDArray[np.uint8]:
        """All bytes of the file."""
        return self.memory.view

    @property
    def address(self) -> int:
        """Address of the file's first byte, for C; good until release()."""
        return self.memory.address

    @property
    def is_mapped(self) -> bool:
        """Whether it takes address space now."""
        return self._memory is not None

    @property
    def allocated_offset(self) -> int:
        """Writes below this offset cannot meet a full disk."""
        return self.first_offset + self._allocated

    def create(self) -> None:
        """Make the file: full length, no blocks yet."""
        self._memory = self._disk.open_map(self.path, self.size, create=True, writable=True)

    def allocate(self, begin: int, end: int) -> None:
        """Give blocks to [begin, end), positions inside the file; everything before has its own."""
        begin, end = max(begin, self._allocated), min(end, self.size)
        if begin < end:
            self._disk.allocate(self.memory, begin, end - begin)
        self._allocated = max(self._allocated, end)

    def sync(self, up_to_offset: int) -> None:
        """Bring the file to the disk: all of it up to the offset is durable then. SyncFailed."""
        try:
            self._disk.sync(self.memory)
        except OSError as error:
            raise SyncFailed(error.errno, error.strerror, self.path) from error
        self.synced_offset = max(self.synced_offset, min(up_to_offset, self.end_offset))

    def zero_from(self, offset: int) -> int:
        """Make everything from this offset on read as zeros; returns how many bytes were stale."""
        begin, stale_end = offset - self.first_offset, 0
        for at, end in self._disk.written_ranges(self.memory, begin, self.size):
            for chunk_at in range(at, end, _CHUNK_SIZE):
                chunk = self.view[chunk_at : min(chunk_at + _CHUNK_SIZE, end)]
                stale = np.flatnonzero(chunk)
                if len(stale):
                    stale_end = chunk_at + int(stale[-1]) + 1
                    chunk[:] = 0
        return max(stale_end - begin, 0)

    def release(self) -> None:
        """Unmap; the next use maps it again."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


class MappedFileQueue:
    """The files of one directory, oldest first."""

    def __init__(self, disk: Disk, directory: str, file_size: int) -> None:
        self.disk = disk
        self.directory = directory
        self.file_size = file_size
        self.files: list[MappedFile] = []
        self._prepared: MappedFile | None = None

    @property
    def first_offset(self) -> int:
        """Offset of the oldest byte; 0 without files."""
        return self.files[0].first_offset if self.files else 0

    @property
    def end_offset(self) -> int:
        """First offset behind the newest file."""
        return self.files[-1].end_offset if self.files else 0

    def load(self) -> None:
        """Find the files. The store must fit file_size (see found_file_size)."""
        self.close()
        for name, size in _listed(self.disk, self.directory):
            path = f"{self.directory}/{name}"
            first_offset = parse_offset_name(path)
            if size != self.file_size or first_offset % size:
                raise StoreRefused(
                    f"{path}: {size} bytes at offset {first_offset}, where files of "
                    f"{self.file_size} bytes are expected"
                )
            self.files.append(self._file(first_offset))

    def file_at(self, offset: int) -> MappedFile | None:
        """The file that holds an offset, None where none does."""
        at = bisect_right(self.files, offset, key=lambda file: file.first_offset)
        file = self.files[at - 1] if at else None
        return file if file is not None and offset < file.end_offset else None

    def next_file(self, first_offset: int | None = None) -> MappedFile:
        """Add the file behind the newest one, or the first one, at `first_offset`.

        Costs nothing when prepare_next() was called before. OSError: nothing was added.
        """
        if first_offset is None:
            first_offset = self.end_offset
        prepared, self._prepared = self._prepared, None
        if prepared is None or prepared.first_offset != first_offset:
            prepared = self._create(first_offset, allocated_size=self.file_size)
        self.files.append(prepared)
        return prepared

    def next_sparse_file(self, first_offset: int) -> MappedFile:
        """Add a file whose blocks its user allocates chunk by chunk, and whose name is not synced.

        For ConsumeQueues, which are many, mostly empty, and can be rebuilt.
        """
        assert not self.files or first_offset >= self.end_offset
        self.files.append(self._create(first_offset, allocated_size=0))
        return self.files[-1]

    def prepare_next(self) -> bool:
        """Create and allocate the file that next_file() will add; True when there was work."""
        if self._prepared is not None or not self.files:
            return False
        self._prepared = self._create(self.end_offset, allocated_size=self.file_size)
        return True

    def truncate(self, offset: int) -> int:
        """End the stream at an offset: zeros behind it in its file, later files removed, on disk.

        Apache leaves the stale bytes; a later crash could then take them for records. Returns how
        many bytes were stale, counting removed files only when they were not empty.
        """
        self.drop_prepared()
        stale_size = 0
        removed = [file for file in self.files if file.first_offset > offset]
        for file in reversed(removed):
            stale_size += self.file_size if file.view[:_HEAD_SIZE].any() else 0
            self._remove(file)
            self.files.pop()
        if removed:
            self.disk.sync_path(self.directory)
        last = self.file_at(offset)
        if last is not None and (size := last.zero_from(offset)):
            last.sync(offset)
            stale_size += size
        return stale_size

    def remove_before(self, offset: int) -> int:
        """Remove the files that end at or before an offset, oldest first, but never the newest."""
        removed = 0
        while len(self.files) > 1 and self.files[0].end_offset <= offset:
            self._remove(self.files.pop(0))
            removed += 1
        if removed:
            self.disk.sync_path(self.directory)
        return removed

    def unsynced(self, up_to_offset: int) -> list[MappedFile]:
        """Files with bytes below the offset that are not known to be on disk, oldest first."""
        return [
            file
            for file in self.files
            if file.first_offset < up_to_offset
            and file.synced_offset < min(file.end_offset, up_to_offset)
        ]

    def mark_synced(self, up_to_offset: int) -> None:
        """Somebody else (the flush thread) brought everything below the offset to the disk."""
        for file in self.unsynced(up_to_offset):
            file.synced_offset = min(file.end_offset, up_to_offset)

    def sync(self, up_to_offset: int) -> None:
        """Bring everything below the offset to the disk, oldest file first."""
        for file in self.unsynced(up_to_offset):
            file.sync(up_to_offset)

    def drop_prepared(self) -> None:
        """Remove the file made ahead, as Apache does at a clean stop."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._remove(prepared)

    def close(self) -> None:
        """Unmap everything; the files stay."""
        for file in self.files:
            file.release()
        if self._prepared is not None:
            self._prepared.release()
        self.files, self._prepared = [], None

    def _file(self, first_offset: int) -> MappedFile:
        path = f"{self.directory}/{offset_name(first_offset)}"
        return MappedFile(self.disk, path, first_offset=first_offset, size=self.file_size)

    def _create(self, first_offset: int, *, allocated_size: int) -> MappedFile:
        """A new file; all or nothing: one that could not get its blocks is removed again."""
        file = self._file(first_offset)
        try:
            file.create()
            if allocated_size:
                file.allocate(0, allocated_size)
                # Its name and length must outlive a power cut before the first acknowledged byte.
                self.disk.sync(file.memory)
                self.disk.sync_path(self.directory)
        except OSError:
            file.release()
            if self.disk.exists(file.path):
                self.disk.remove(file.path)
            raise
        return file

    def _remove(self, file: MappedFile) -> None:
        file.release()
        self.disk.remove(file.path)


def _listed(disk: Disk, directory: str) -> list[tuple[str, int]]:
    """(name, size) of the files of a directory, oldest first; a last one of length 0 is removed.

    Such a file was being created when its maker died (MappedFileQueue.doLoad).
    """
    if not disk.exists(directory):
        return []
    paths = ((name, f"{directory}/{name}") for name in disk.listdir(directory))
    listed = [(name, disk.size(path)) for name, path in paths if not disk.is_directory(path)]
    if listed and listed[-1][1] == 0:
        disk.remove(f"{directory}/{listed.pop()[0]}")
    return listed


def found_file_size(disk: Disk, directories: Iterable[str], configured_size: int) -> int:
    """Geometry of a store: the size of the first file found, the configured one without files.

    Whether all others agree is checked by load().
    """
    for directory in directories:
        if not disk.exists(directory):
            continue
        for name in disk.listdir(directory):
            path = f"{directory}/{name}"
            if not disk.is_directory(path) and (size := disk.size(path)):
                return size
    return configured_size
