"""A header's fields, declared in one line of text; decoded and encoded from it.

Runs in: every process that speaks RocketMQ, and the client. No I/O.
Owns: the notation and the types.
Fails: `ValueError` on a wrong declaration; never on what a peer sent.

    "topic:str queueId:i32 setZeroIfNotFound:bool? committed:bool?=true producerGroup@a:str"

Types are str, i32, i64, f64 and bool. `?` marks a field that may be absent, `=` what it is then,
`@` the name on the wire where it is not the name that handlers see. As in Apache's decoder a field
that is absent or unreadable is no error: text and optional fields become None, others 0 or False
(remoting.md section 1.5). Where Apache's handler then trips over the null, `fault` says so before.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_NOTATION = re.compile(r"(\w+)(?:@(\w+))?:(str|i32|i64|f64|bool)(\?)?(?:=(\S+))?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def _integer(bits: int) -> Callable[[str], int | None]:
    bound = 1 << (bits - 1)

    def read(text: str) -> int | None:
        if not _INTEGER.fullmatch(text):
            return None
        number = int(text)
        return number if -bound <= number < bound else None

    return read


def _double(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "i32": _integer(32),
    "i64": _integer(64),
    "f64": _double,
    "bool": lambda text: text.lower() == "true",
}
_JAVA_DEFAULTS: dict[str, Any] = {"str": None, "i32": 0, "i64": 0, "f64": 0.0, "bool": False}
_NUMBERS = {
    "i32": "a whole number of 32 bits",
    "i64": "a whole number of 64 bits",
    "f64": "a number",
}
_SHOWN_MAX = 40


@dataclass(frozen=True, slots=True)
class Field:
    """One header field."""

    name: str
    """What handlers call it."""
    wire: str
    """What the header calls it."""
    kind: str
    optional: bool
    missing: Any
    """Its value when it is absent or unreadable."""
    read: Callable[[str], Any]

    def __str__(self) -> str:
        wire = "" if self.wire == self.name else f"@{self.wire}"
        natural = None if self.optional else _JAVA_DEFAULTS[self.kind]
        default = "" if self.missing == natural else f"={text(self.missing)}"
        return f"{self.name}{wire}:{self.kind}{'?' if self.optional else ''}{default}"


def parse(declaration: str) -> tuple[Field, ...]:
    """The fields that a line of text declares, in its order."""
    return tuple(map(_parse_one, declaration.split()))


def _parse_one(word: str) -> Field:
    match = _NOTATION.fullmatch(word)
    if match is None:
        raise ValueError(f"not a field: {word!r}")
    name, wire, kind, optional, default = match.groups()
    read = _READERS[kind]
    natural = None if optional else _JAVA_DEFAULTS[kind]
    missing = natural if default is None else read(default)
    return Field(name, wire or name, kind, bool(optional), missing, read)


def decode(fields: Iterable[Field], values: Mapping[str, str]) -> dict[str, Any]:
    """Typed values by the handlers' names; every declared field is there, others are not."""
    decoded = {}
    for field in fields:
        value = values.get(field.wire)
        if value is not None:
            value = field.read(value)
        decoded[field.name] = field.missing if value is None else value
    return decoded


def fault(fields: Iterable[Field], values: Mapping[str, str]) -> str | None:
    """Which number that a handler cannot do without is absent or unreadable, in words."""
    for field in fields:
        if field.optional or field.kind not in _NUMBERS:
            continue
        value = values.get(field.wire)
        if value is None:
            return f"{field.wire} is missing"
        if field.read(value) is None:
            return f'{field.wire}: found "{value[:_SHOWN_MAX]}", allowed {_NUMBERS[field.kind]}'
    return None


def encode(values: Mapping[str, Any], fields: Iterable[Field] = ()) -> dict[str, str]:
    """The header's text for typed values; None is left out, as Java leaves out null.

    `fields` gives the names on the wire where they differ; what it does not declare is kept.
    """
    wires = {field.name: field.wire for field in fields}
    return {wires.get(k, k): text(value) for k, value in values.items() if value is not None}


def text(value: object) -> str:
    """One value as Java's toString writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
