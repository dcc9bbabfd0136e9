"""journal.py: one event, as a person, a program and systemd like it."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from appliance.config import Format, Level, Log
from appliance.journal import open_journal


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(form: Format, level: Level = "info", trace: bool = False) -> list[str]:
    stream = io.StringIO()
    open_journal(Log(level=level, format=form), "writer", stream)
    logger = logging.getLogger("anything")
    logger.debug("not asked for")
    try:
        raise RuntimeError("no space")
    except RuntimeError:
        logger.warning("disk %d %% full\n<0>forged \x1b[2J", 91, exc_info=trace)
    return stream.getvalue().splitlines()


def test_text_is_one_line_with_time_level_and_process() -> None:
    (line,) = written("text")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning writer: "
        r"disk 91 % full\\x0a<0>forged \\x1b\[2J",
        line,
    )


def test_journal_gives_every_line_its_priority() -> None:
    lines = written("journal", trace=True)
    assert lines[0] == r"<4>writer: disk 91 % full\x0a<0>forged \x1b[2J"
    assert lines[-1] == "<4>writer: RuntimeError: no space"
    assert all(line.startswith("<4>writer: ") for line in lines)


def test_json_is_one_object_a_line() -> None:
    (line,) = written("json", trace=True)
    entry = json.loads(line)
    assert entry["level"] == "warning"
    assert entry["process"] == "writer"
    assert entry["message"] == "disk 91 % full\n<0>forged \x1b[2J"
    assert entry["error"].endswith("RuntimeError: no space")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])


def test_the_level_is_obeyed() -> None:
    assert len(written("text", "debug")) == 2
    assert written("text", "error") == []


def test_auto_is_journal_under_systemd_and_text_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert not written("auto")[0].startswith("<4>")
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    assert written("auto")[0].startswith("<4>")


def test_a_child_replaces_what_it_inherited() -> None:
    stream = io.StringIO()
    for process in ("supervisor", "writer"):
        open_journal(Log(format="journal"), process, stream)
    logging.getLogger().info("here")
    assert stream.getvalue() == "<6>writer: here\n"
