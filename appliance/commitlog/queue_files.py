"""What the files of one ConsumeQueue say: which rows are true, and where a record stands.

Runs in: writer, in recovery and clean-up.
Owns: nothing of its own; queue_set.py says what is to be done.
Fails: OSError is the machine's.
"""

import numpy as np
from numpy.typing import NDArray

from appliance.commitlog.consume_queue import BLANK_UNIT_SIZE, UNIT, UNIT_SIZE, Rows
from appliance.commitlog.disk import Disk
from appliance.commitlog.mapped_file import MappedFile, MappedFileQueue


def rows_of(file: MappedFile) -> Rows:
    """All rows of a mapped file."""
    return file.view.view(UNIT)


def is_blank(units: Rows) -> NDArray[np.bool_]:
    """Which rows stand for no message."""
    blank: NDArray[np.bool_] = (units["size"] == BLANK_UNIT_SIZE) & (units["physical_offset"] == 0)
    return blank


def valid_count(units: Rows, log_limit: int, floor: int) -> tuple[int, int]:
    """How many rows from the first on can be true, and the last physical offset among them.

    floor: the physical offset of the row before the first; offsets ascend.
    """
    for at in range(0, len(units), 4096):
        chunk = units[at : at + 4096]
        offsets, sizes = chunk["physical_offset"].astype(np.int64), chunk["size"].astype(np.int64)
        blank = is_blank(chunk)
        highest = np.maximum.accumulate(np.concatenate(([floor], np.where(blank, -1, offsets))))
        true = (offsets > highest[:-1]) & (sizes > 0) & (offsets + sizes <= log_limit) | blank
        if not true.all():
            count = int(np.argmin(true))
            return at + count, int(highest[count])
        floor = int(highest[-1])
    return len(units), floor


def first_unsettled(files: MappedFileQueue, log_limit: int, settled_offset: int | None) -> int:
    """Index of the first file that may hold a row that was not on disk.

    Rows of records before `settled_offset` were. Where that is not known (None), at least the last
    three files are doubted, as in Apache.
    """
    at = max(0, len(files.files) - (3 if settled_offset is None else 1))
    while at > 0:
        count, physical_offset = valid_count(rows_of(files.files[at])[:1], log_limit, -1)
        settled = settled_offset is None or 0 <= physical_offset < settled_offset
        if count and settled:
            break
        at -= 1
    return at


def valid_end(files: MappedFileQueue, log_limit: int, unsettled: int) -> int:
    """Row behind the last true one: files from the index `unsettled` on are read, and the last
    three in any case, as Apache does."""
    end, floor = files.first_offset // UNIT_SIZE, -1
    for file in files.files[min(unsettled, max(0, len(files.files) - 3)) :]:
        units = rows_of(file)
        count, floor = valid_count(units, log_limit, floor)
        end = file.first_offset // UNIT_SIZE + count
        if count < len(units):
            break
    return end


def first_at(files: MappedFileQueue, physical_offset: int, end: int) -> int:
    """First row, up to `end`, that stands for a record at or behind a physical offset."""
    behind = end
    for file in reversed(files.files):
        first = file.first_offset // UNIT_SIZE
        units = rows_of(file)[: max(end - first, 0)]
        # Blank rows belong to what stands before them.
        highest = np.maximum.accumulate(units["physical_offset"].astype(np.int64))
        count = int(np.searchsorted(highest, physical_offset))
        if count < len(units):
            behind = first + count
        if not is_blank(units[:count]).all():
            break  # else the file before may hold such a record, too
    return behind


def blank_row(files: MappedFileQueue, row: int) -> None:
    """Overwrite one row that is there."""
    file = files.file_at(row * UNIT_SIZE)
    assert file is not None, "a queue's rows lie in its files"
    rows_of(file)[row - file.first_offset // UNIT_SIZE] = (0, BLANK_UNIT_SIZE, 0)


def last_end(files: MappedFileQueue, row: int) -> int:
    """End of the record of the last row before `row` that is not blank; 0 when there is none."""
    for file in reversed(files.files):
        units = rows_of(file)[: max(row - file.first_offset // UNIT_SIZE, 0)]
        real = np.flatnonzero(~is_blank(units))
        if len(real):
            last = units[real[-1]]
            return int(last["physical_offset"]) + int(last["size"])
    return 0


def corrected_min(files: MappedFileQueue, log_min: int, minimum: int, end: int) -> int:
    """See QueueSet.correct_min; `minimum` is the present one, `end` the next row."""
    last = files.file_at((end - 1) * UNIT_SIZE)
    assert last is not None, "a queue's last row lies in one of its files"
    if int(rows_of(last)["physical_offset"][end - 1 - last.first_offset // UNIT_SIZE]) < log_min:
        return end
    first_row = files.first_offset // UNIT_SIZE
    begin = max(minimum, first_row)
    units = rows_of(files.files[0])[begin - first_row : end - first_row]
    there = (units["physical_offset"] >= log_min) & ~is_blank(units)
    return begin + int(np.argmax(there)) if there.any() else minimum


def drop_unfinished(disk: Disk, directory: str) -> None:
    """Remove files of length 0 and those behind: a power cut took their lengths."""
    paths = [f"{directory}/{name}" for name in disk.listdir(directory)]
    sizes = [1 if disk.is_directory(path) else disk.size(path) for path in paths]
    if 0 in sizes:
        for path in reversed(paths[sizes.index(0) :]):
            disk.remove(path)


def drop_behind_gap(files: MappedFileQueue) -> None:
    """Remove the files behind a missing one."""
    pairs = zip(files.files, files.files[1:], strict=False)
    gap = next((file for file, after in pairs if file.end_offset != after.first_offset), None)
    if gap is not None:
        files.truncate(gap.end_offset)
