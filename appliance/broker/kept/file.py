"""One of Apache's JSON files in `config/`: read with its tolerance, written to outlive a crash.

Runs in: coordinator.
Owns: the file and its `.bak`.
Fails: `StateFileError` when neither of the two can be read; `OSError` from the disk.

Read (ConfigManager.load, store.md section 1.2): the file; if it is missing, empty or not readable,
its `.bak`; if that is missing or empty as well, nothing was ever kept. Written: what was good
before goes to `.bak`, then the new text replaces the file, both by rename and fsync. So one of the
two is whole at every moment, and Apache's broker can open what we leave.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from appliance.net import json_text
from appliance.net.json_text import JsonError

T = TypeVar("T")


class Files(Protocol):
    """What is needed of the seam to the file system (`commitlog.disk.Disk` has it)."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def read(self, path: str) -> bytes:
        """All of it."""

    def write_atomic(self, path: str, data: bytes) -> None:
        """Replace it, and be sure that it lasts."""


class StateFileError(Exception):
    """A state file and its backup are both unreadable: starting would forget what was promised."""


class StateFile:
    """One file of the `config` directory."""

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path
        self._good = b""

    def load(self, read: Callable[[dict[str, Any]], T]) -> T | None:
        """What `read` makes of the file's object, or None when nothing was ever kept.

        `read` raises ValueError, TypeError, KeyError or AttributeError on an object it cannot use.
        """
        main = self._content(self._path)
        try:
            return self._parse(main, read)
        except JsonError:
            backup = self._content(self._path + ".bak")
        try:
            return self._parse(backup, read) if backup.strip() else None
        except JsonError as error:
            raise StateFileError(f"{self._path} and its .bak are not readable: {error}") from error

    def save(self, value: object) -> None:
        """Replace the file's object; what was there before is the new backup."""
        text = json_text.dumps(value)
        if self._good:
            self._files.write_atomic(self._path + ".bak", self._good)
        self._files.write_atomic(self._path, text)
        self._good = text

    def _content(self, path: str) -> bytes:
        return self._files.read(path) if self._files.exists(path) else b""

    def _parse(self, content: bytes, read: Callable[[dict[str, Any]], T]) -> T:
        """Remembers the content when it is good: only that may become a backup."""
        try:
            value = read(json_text.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise JsonError(str(error)) from error
        self._good = content
        return value


@dataclass(frozen=True, slots=True)
class DataVersion:
    """By what slaves and NameServers see that a table changed (nameserver.md section 4)."""

    counter: int = 0
    timestamp: int = 0
    state_version: int = 0

    def next(self, now_ms: int) -> "DataVersion":
        """The version after a change; it never goes back, even if the clock does."""
        return DataVersion(self.counter + 1, max(now_ms, self.timestamp), self.state_version)

    def to_json(self) -> dict[str, int]:
        """As it stands in files and bodies."""
        return {
            "counter": self.counter,
            "stateVersion": self.state_version,
            "timestamp": self.timestamp,
        }

    @staticmethod
    def from_json(value: dict[str, Any] | None) -> "DataVersion":
        """From a file or body; 4.x leaves out stateVersion."""
        known = value or {}
        numbers = (known.get(name) or 0 for name in ("counter", "timestamp", "stateVersion"))
        return DataVersion(*map(int, numbers))
