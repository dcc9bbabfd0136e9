"""The read-only view of the CommitLog: a record at an offset, addresses for C.

Runs in: frontends, coordinator, replicator.
Owns: its own maps of the log's files; it never writes.
Fails: OSError is the machine's; what is not there, or is no record, is None, 0 or -1.

What may be read is said by the watermarks: from `expired` to `dispatched`.
"""

from typing import Protocol

from appliance.commitlog.disk import Disk, MappedMemory
from appliance.commitlog.files import offset_name
from appliance.commitlog.record import (
    HEADS,
    MAGIC_V1,
    MAGIC_V2,
    RECORD_SIZE_MIN,
    head_index,
)


class Bounds(Protocol):
    """What of the log may be read: physical offsets that others move forward."""

    @property
    def expired(self) -> int:
        """The log begins here."""

    @property
    def dispatched(self) -> int:
        """What is shown to readers ends here."""


def _field_at(name: str, system_flag: int) -> int:
    fields = HEADS[head_index(system_flag)].fields
    assert fields is not None
    return fields[name][1]


# Fields in front of the hosts lie at one place, store_timestamp at one of two.
_MAGIC_AT = _field_at("magic", 0)
_PHYSICAL_OFFSET_AT = _field_at("physical_offset", 0)
_SYSTEM_FLAG_AT = _field_at("system_flag", 0)
_STORE_TIMESTAMP_AT = tuple(_field_at("store_timestamp", bits << 4) for bits in range(4))


class LogReader:
    """Records of a log that somebody else writes. Files are mapped when they are first needed."""

    def __init__(self, disk: Disk, directory: str, *, file_size: int, bounds: Bounds) -> None:
        self.file_size = file_size
        self.bounds = bounds
        self._disk = disk
        self._directory = directory
        self._files: dict[int, MappedMemory] = {}

    def record_at(self, physical_offset: int) -> memoryview | None:
        """The record that begins at an offset, None when none does or it may not be read.

        Magic, size and the record's own idea of its offset are checked, its CRC is not.
        """
        if not self.bounds.expired <= physical_offset < self.bounds.dispatched:
            return None
        file = self._file(physical_offset)
        if file is None:
            return None
        position = physical_offset % self.file_size
        view = file.view[position:].data
        if len(view) < RECORD_SIZE_MIN:
            return None
        size = int.from_bytes(view[:4], "big", signed=True)
        magic = int.from_bytes(view[_MAGIC_AT : _MAGIC_AT + 4], "big", signed=True)
        own_offset = int.from_bytes(view[_PHYSICAL_OFFSET_AT : _PHYSICAL_OFFSET_AT + 8], "big")
        if magic not in (MAGIC_V1, MAGIC_V2) or own_offset != physical_offset:
            return None
        return view[:size] if RECORD_SIZE_MIN <= size <= len(view) else None

    def store_timestamp(self, physical_offset: int) -> int:
        """When the record at an offset was stored, in ms; -1 when there is none."""
        record = self.record_at(physical_offset)
        if record is None:
            return -1
        flag = int.from_bytes(record[_SYSTEM_FLAG_AT : _SYSTEM_FLAG_AT + 4], "big")
        at = _STORE_TIMESTAMP_AT[head_index(flag)]
        return int.from_bytes(record[at : at + 8], "big", signed=True)

    def address_of(self, physical_offset: int) -> int:
        """Where a byte of the log lies in memory, 0 when its file is not there.

        Good until forget_before() passes it.
        """
        file = self._file(physical_offset)
        return file.address + physical_offset % self.file_size if file else 0

    def files(self) -> list[tuple[int, int, int]]:
        """(first offset, size, address) of the files that are mapped now, oldest first."""
        return [
            (first, self.file_size, file.address) for first, file in sorted(self._files.items())
        ]

    def forget_before(self, physical_offset: int) -> None:
        """Unmap the files that end at or before an offset: they are expired."""
        for first in [first for first in self._files if first + self.file_size <= physical_offset]:
            self._files.pop(first).close()

    def close(self) -> None:
        """Unmap everything."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def _file(self, physical_offset: int) -> MappedMemory | None:
        if physical_offset < 0:
            return None
        first = physical_offset - physical_offset % self.file_size
        file = self._files.get(first)
        path = f"{self._directory}/{offset_name(first)}"
        if file is None and self._disk.exists(path):
            file = self._files[first] = self._disk.open_map(path, self.file_size)
        return file
