"""What the processes say: one line an event on standard error, as systemd, a program or a person
likes it.

Runs in: every process; the supervisor calls `open_journal` first, each child again after the fork.
Owns: the root logger's handler.
Fails: never; a logger that cannot write has nobody left to tell.
"""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from appliance.config import Format, Log

PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""Level to the number of sd-daemon(3) and syslog(3)."""

LINES_A_SECOND = 10

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
"""A peer's bytes may be part of a message: they start no line and move no cursor."""


def open_journal(log: Log, process: str, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (standard error by default), marked with the process's name."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATTERS[_resolved(log.format)](process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())


class Throttle:
    """Warnings about what peers do: a line each, but not so many that a peer fills the log."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._second = self._count = 0

    def warning(self, now_ns: int, line: str) -> None:
        """Says it, unless LINES_A_SECOND were said in this second; then it is only counted."""
        second = now_ns // 1_000_000_000
        if second != self._second:
            if self._count > LINES_A_SECOND:
                self._log.warning("%d more lines of this kind", self._count - LINES_A_SECOND)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= LINES_A_SECOND:
            self._log.warning("%s", line)


def _resolved(form: Format) -> Format:
    if form != "auto":
        return form
    # systemd sets it for a service whose standard error it reads: systemd.exec(5).
    return "journal" if os.environ.get("JOURNAL_STREAM") else "text"


class TextFormatter(logging.Formatter):
    """For a person: `2026-01-31 12:00:00.123 warning writer: disk 91 % full`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        when = datetime.fromtimestamp(record.created)
        head = f"{when:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {record.levelname.lower()}"
        return "\n".join([f"{head} {self.process}: {self.message(record)}", *self.trace(record)])

    def message(self, record: logging.LogRecord) -> str:
        """The message with its arguments, in one line."""
        return record.getMessage().translate(_CONTROLS)

    def trace(self, record: logging.LogRecord) -> list[str]:
        """The lines of the traceback, if any."""
        return self.formatException(record.exc_info).splitlines() if record.exc_info else []


class JournalFormatter(TextFormatter):
    """For systemd: `<4>writer: disk 91 % full`; the journal adds the time by itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Every line with its priority: the journal takes each for an entry."""
        head = f"<{PRIORITIES.get(record.levelno, 6)}>{self.process}: "
        return "\n".join(head + line for line in [self.message(record), *self.trace(record)])


class JsonFormatter(TextFormatter):
    """For a program: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Keys time (UTC, milliseconds), level, process, message, and error with a traceback."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self.process,
            "message": record.getMessage(),
        }
        trace = self.trace(record)
        if trace:
            entry["error"] = "\n".join(trace)
        return msgspec.json.encode(entry).decode()


FORMATTERS: dict[str, type[TextFormatter]] = {
    "text": TextFormatter,
    "journal": JournalFormatter,
    "json": JsonFormatter,
}
