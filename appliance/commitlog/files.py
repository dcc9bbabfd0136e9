"""Name of every file in a store directory: print, parse, and refuse what we cannot serve.

Runs in: writer, readers, `appliance store`.
Owns: nothing; names only.
Fails: StoreRefused, with nothing touched, for a store or a name that we do not open.

The tree is Apache's (specification: store sheet, section 1):

    commitlog/<20 digits>                            message records
    consumequeue/<topic>/<queueId>/<20 digits>       rows of 20 bytes
    index/<yyyyMMddHHmmssSSS>                        key index
    checkpoint  abort  lock  config/*                one each
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from appliance.commitlog.disk import Disk

_DIGITS: Final = 20

# What stands in a store that some other storage engine wrote, and what to say about it.
_FOREIGN_DIRECTORIES: Final = {
    "batchconsumequeue": "it has BatchCQ topics (attribute queue.type=BatchCQ)",
    "consumequeue_ext": "its ConsumeQueues have extension files (enableConsumeQueueExt)",
    "consumequeue_r": "its ConsumeQueues are kept in RocksDB (storeType=defaultRocksDB)",
    "rocksdbstore": "its ConsumeQueues are kept in RocksDB (storeType=defaultRocksDB)",
}


class StoreRefused(Exception):
    """This store cannot be opened as it is; the text says why and names the file."""


@dataclass(frozen=True, slots=True)
class StorePaths:
    """Where everything of one store lies; root is Apache's storePathRootDir."""

    root: str

    @property
    def commitlog(self) -> str:
        """Directory of the log files."""
        return f"{self.root}/commitlog"

    @property
    def consumequeue(self) -> str:
        """Directory of all ConsumeQueues."""
        return f"{self.root}/consumequeue"

    @property
    def index(self) -> str:
        """Directory of the key index."""
        return f"{self.root}/index"

    @property
    def config(self) -> str:
        """Directory of the JSON tables."""
        return f"{self.root}/config"

    @property
    def checkpoint(self) -> str:
        """The timestamps file."""
        return f"{self.root}/checkpoint"

    @property
    def abort(self) -> str:
        """Exists while a broker runs."""
        return f"{self.root}/abort"

    @property
    def lock(self) -> str:
        """Held locked while a broker runs."""
        return f"{self.root}/lock"

    def queue(self, topic: str, queue_id: int) -> str:
        """Directory of one ConsumeQueue; the topic is the raw directory name."""
        return f"{self.consumequeue}/{topic}/{queue_id}"


def offset_name(first_offset: int) -> str:
    """Name of the file whose first byte has this offset."""
    return f"{first_offset:0{_DIGITS}d}"


def parse_offset_name(path: str) -> int:
    """First offset of a file of a fixed-size file queue; StoreRefused for any other name."""
    name = PurePosixPath(path).name
    if len(name) != _DIGITS or not (name.isascii() and name.isdigit()):
        raise StoreRefused(f"{path}: a file here is named by {_DIGITS} digits")
    return int(name)


def parse_queue_id(name: str) -> int | None:
    """Queue id that a directory name says, None for another name (Apache skips those too)."""
    return int(name) if name.isascii() and name.isdigit() else None


def check_store(disk: Disk, root: str) -> None:
    """Refuse a store of a kind that we do not serve, before anything in it is touched."""
    if not disk.exists(root):
        return
    paths = StorePaths(root)
    for name in disk.listdir(root):
        if name.startswith("dledger-"):
            raise StoreRefused(f"{root}/{name}: a DLedger store is not supported")
        reason = _FOREIGN_DIRECTORIES.get(name)
        if reason and disk.listdir(f"{root}/{name}"):
            raise StoreRefused(f"{root}/{name}: this store is not supported: {reason}")
    for name in disk.listdir(paths.consumequeue) if disk.exists(paths.consumequeue) else ():
        if name == "CURRENT" or name.startswith("MANIFEST-") or name.endswith(".sst"):
            reason = _FOREIGN_DIRECTORIES["rocksdbstore"]
            raise StoreRefused(f"{paths.consumequeue}: this store is not supported: {reason}")
