"""Prints the request table; with --write, pins it and writes the page that users read.

Runs in: a developer's terminal, as `python -m tools.codes [--write]`.
Owns: tests/net/requests.snapshot and docs/requests.md, which tests compare with the table.
Fails: never.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.net.requests import BROKER, BY_CODE, FRONTEND, NAMESRV, Action, Place, Row

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "tests" / "net" / "requests.snapshot"
PAGE = ROOT / "docs" / "requests.md"

HEAD = """# Requests served

Written by `python -m tools.codes --write` from `appliance/net/requests.py`; do not edit. Any other
code is answered REQUEST_CODE_NOT_SUPPORTED (3), as Apache RocketMQ does.
"""

PLACES = {
    FRONTEND: "Broker, in batches by the frontends",
    BROKER: "Broker, one by one by the coordinator",
    NAMESRV: "NameServer",
}


def table() -> str:
    """Every row with its fields, by code."""
    return "".join(f"{line}\n" for row in _rows() for line in _pinned(row))


def page() -> str:
    """The rows that are served, by the place that serves them, in Markdown."""
    return "\n".join([HEAD, *(line for place in PLACES for line in _served(place))])


def _rows() -> list[Row]:
    return sorted(BY_CODE.values(), key=lambda row: row.code)


def _pinned(row: Row) -> Iterator[str]:
    served = "" if row.served else " (not yet)"
    needs = f"{_words(row.needs)} on {row.scope}" if row.needs else "-"
    yield f"{row.code} {row.name} | {_words(row.served_by)}{served} | {needs}"
    for name, fields in (("asks", row.asks), ("answers", row.answers)):
        if fields:
            yield f"    {name}: {' '.join(map(str, fields))}"


def _words(flags: Place | Action) -> str:
    return " or ".join(str(flag.name).lower() for flag in flags)


def _served(place: Place) -> Iterator[str]:
    yield from (f"## {PLACES[place]}", "", "| code | name | asks |", "|--:|---|---|")
    for row in _rows():
        if row.served and place in row.served_by:
            asks = " ".join(f"{field.name}{'?' * field.optional}" for field in row.asks)
            yield f"| {row.code} | {row.name} | {asks} |"
    yield ""


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        SNAPSHOT.write_text(table())
        PAGE.write_text(page())
    print(table(), end="")
