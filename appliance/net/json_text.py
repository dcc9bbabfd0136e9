"""fastjson's dialect of JSON, read and written.

Runs in: every process that speaks RocketMQ, and the client. No I/O.
Owns: nothing.
Fails: `JsonError` on text that fastjson would not read either.

What differs from JSON (remoting.md section 13.1). Read: keys that are bare integers, names or
whole objects, single quotes, commas too many, and `{"$ref": "$.path"}` for an object seen before.
Written: integer keys bare, `{0:"a"}`, and MessageQueue keys raw, `{{"brokerName":..}:{..}}`; this
is the form that every Java tool and Go expect. `$ref` is never written.
"""

import math
import re
from collections.abc import Callable, Mapping
from json import JSONDecoder, JSONEncoder
from typing import Any, NamedTuple

DEPTH_MAX = 200
"""Nesting that is refused; the deepest body of the protocol has six levels."""


class JsonError(ValueError):
    """The text is not JSON in any dialect we read."""


class MessageQueue(NamedTuple):
    """Apache's MessageQueue: the one object that serves as a key in bodies."""

    topic: str
    brokerName: str  # noqa: N815 - the name on the wire
    queueId: int  # noqa: N815


def loads(data: bytes | memoryview) -> Any:
    """The value in a body.

    Bare integer keys become `int`, object keys `MessageQueue` (or a tuple of sorted items); quoted
    keys stay `str`, so a reader that does not know the sender uses `int_keys` and `queue_keys`.
    """
    return parse(bytes(data).decode("utf-8", "replace"))


def parse(text: str, parse_float: type[float] | type[str] = float) -> Any:
    """As `loads`, from text; `parse_float=str` keeps the digits of fractions.

    Strict JSON is tried first, since that is what nearly all senders write.
    """
    try:
        value = _STRICT[parse_float].decode(text)
    except (ValueError, RecursionError):
        value = _Reader(text, parse_float).document()
    if "$ref" not in text and not _SURROGATE.search(text):
        return value
    try:
        return _References(_encodable(value)).resolved()
    except RecursionError as error:
        raise JsonError("nested too deeply") from error


def dumps(value: object, *, quoted: bool = False) -> bytes:
    """The value as a body, with bare integer keys.

    `quoted` gives what Apache writes for strict readers (fastjson's BrowserCompatible): keys quoted
    and sorted, `/` as `\\/`, everything beyond ASCII escaped.
    """
    if quoted:
        return _BROWSER.encode(_plain(value)).replace("/", "\\/").encode()
    return dump_text(value).encode("utf-8", "replace")


def dump_text(value: object) -> str:
    """As `dumps`, as text."""
    try:
        return _write(value)
    except RecursionError as error:
        raise JsonError("nested too deeply") from error


def int_keys(table: Mapping[Any, Any]) -> dict[int, Any]:
    """A table whose keys are numbers, quoted or not."""
    try:
        return {int(key): value for key, value in table.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise JsonError("a key is not a number") from error


def queue_keys(table: Mapping[Any, Any]) -> dict[MessageQueue, Any]:
    """A table keyed by queues: raw objects, or the string that holds the object's JSON."""
    return {_as_queue(key): value for key, value in table.items()}


def queue_of(value: Mapping[str, Any]) -> MessageQueue:
    """A MessageQueue that was sent as an ordinary object, its absent members as Java's defaults."""
    try:
        topic, broker = value.get("topic") or "", value.get("brokerName") or ""
        queue_id = int(value.get("queueId") or 0)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise JsonError("not a MessageQueue") from error
    if not isinstance(topic, str) or not isinstance(broker, str):
        raise JsonError("a MessageQueue's names are not text")
    return MessageQueue(topic, broker, queue_id)


_STRICT = {kind: JSONDecoder(parse_float=kind) for kind in (float, str)}
_SCALAR = JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_BROWSER = JSONEncoder(sort_keys=True, separators=(",", ":"))


# Writing ----------------------------------------------------------------------------------------


def _write(value: object) -> str:
    if isinstance(value, str):
        return _SCALAR.encode(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(k)}:{_write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, MessageQueue):
        return _queue(value)
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "null"
    return _SCALAR.encode(value)


def _key(key: object) -> str:
    if isinstance(key, MessageQueue):
        return _queue(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    return _SCALAR.encode(str(key))


def _queue(queue: MessageQueue) -> str:
    topic, broker = _SCALAR.encode(queue.topic), _SCALAR.encode(queue.brokerName)
    return f'{{"brokerName":{broker},"queueId":{queue.queueId},"topic":{topic}}}'


def _plain(value: object) -> object:
    """The value with every key as text, which is what sorting needs."""
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else _key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, MessageQueue):
        return value._asdict()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# Reading ----------------------------------------------------------------------------------------

_BLANK = re.compile(r"[ \t\r\n\f\b]*")
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"' + r"|'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+)(\.\d*)?([eE][+-]?\d+)?[LlSsBbFfDd]?")
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.\-]*")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_WORDS = {"true": True, "false": False, "null": None, "undefined": None, "NaN": None}


class _Reader:
    """A recursive descent over one text, as tolerant as fastjson's DefaultJSONParser."""

    def __init__(self, text: str, parse_float: type[float] | type[str]) -> None:
        self._text = text
        self._position = 0
        self._depth = 0
        self._parse_float = parse_float

    def document(self) -> Any:
        value = self._value()
        if self._peek():
            raise self._error("text after the end")
        return value

    def _value(self) -> Any:
        mark = self._peek()
        if mark == "{":
            return self._nested(self._object)
        if mark == "[":
            return self._nested(self._array)
        if mark in ('"', "'"):
            return self._string()
        if mark.isdigit() or mark in ("-", "+"):
            return self._number()
        return self._word()

    def _nested(self, read: Callable[[], Any]) -> Any:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._error("nested too deeply")
        self._position += 1
        value = read()
        self._position += 1
        self._depth -= 1
        return value

    def _object(self) -> dict[Any, Any]:
        table = {}
        while self._skip_commas() != "}":
            key = self._key()
            if self._peek() != ":":
                raise self._error("':' expected")
            self._position += 1
            table[key] = self._value()
            if self._peek() not in (",", "}"):
                raise self._error("',' or '}' expected")
        return table

    def _array(self) -> list[Any]:
        items = []
        while self._skip_commas() != "]":
            items.append(self._value())
            if self._peek() not in (",", "]"):
                raise self._error("',' or ']' expected")
        return items

    def _key(self) -> Any:
        mark = self._peek()
        if mark in ("{", "["):
            return _frozen(self._value())
        if mark in ('"', "'"):
            return self._string()
        if mark.isdigit() or mark == "-":
            return self._number()
        return self._match(_NAME, "a key expected")

    def _string(self) -> str:
        match = _STRING.match(self._text, self._position)
        if match is None:
            raise self._error("a string without end")
        self._position = match.end()
        text = match[1] if match[1] is not None else match[2]
        return _unescaped(text) if "\\" in text else text

    def _number(self) -> Any:
        match = _NUMBER.match(self._text, self._position)
        if match is None or len(match[0]) > 400:
            raise self._error("a number expected")
        self._position = match.end()
        text = match[0].rstrip("LlSsBbFfDd")
        return int(text) if match[2] is None and match[3] is None else self._parse_float(text)

    def _word(self) -> Any:
        word = self._match(_NAME, "a value expected")
        if word not in _WORDS:
            raise self._error(f"unknown word {word[:20]!r}")
        return _WORDS[word]

    def _match(self, pattern: re.Pattern[str], wanted: str) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise self._error(wanted)
        self._position = match.end()
        return match[0]

    def _peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        blank = _BLANK.match(self._text, self._position)
        assert blank is not None, "the pattern matches nothing too"
        self._position = blank.end()
        return self._text[self._position : self._position + 1]

    def _skip_commas(self) -> str:
        mark = self._peek()
        while mark == ",":
            self._position += 1
            mark = self._peek()
        if not mark:
            raise self._error("the text ends early")
        return mark

    def _error(self, what: str) -> JsonError:
        return JsonError(f"{what} at character {self._position}")


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(_unescape, text)
    # Halves of a surrogate pair, each escaped on its own, join in UTF-16.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return _ESCAPES.get(escape, escape)


def _frozen(value: Any) -> Any:
    """An object or array as a key."""
    if isinstance(value, dict):
        if value.keys() == {"topic", "brokerName", "queueId"}:
            return queue_of(value)
        return tuple(sorted(((_frozen(k), _frozen(v)) for k, v in value.items()), key=repr))
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return value


def _as_queue(key: object) -> MessageQueue:
    if isinstance(key, MessageQueue):
        return key
    if isinstance(key, str):
        value = parse(key)
        if isinstance(value, dict):
            return queue_of(value)
    raise JsonError("a key is not a MessageQueue")


def _encodable(value: Any) -> Any:
    """The value without lone surrogates, which no UTF-8 can hold; Java writes "?" for them."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value


class _References:
    """Replaces `{"$ref": path}` by what stands at the path: "$", "$.a.b", "$.a[0]", "..", "@"."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def resolved(self) -> Any:
        return self._resolve(self._root, [])

    def _resolve(self, value: Any, parents: list[Any]) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"$ref"}:
                return self._target(value["$ref"], parents)
            for key, item in value.items():
                value[key] = self._resolve(item, [*parents, value])
        elif isinstance(value, list):
            value[:] = [self._resolve(item, [*parents, value]) for item in value]
        return value

    def _target(self, path: object, parents: list[Any]) -> Any:
        if path == "@":
            return parents[-1] if parents else None
        if path == "..":
            return parents[-2] if len(parents) > 1 else None
        if not isinstance(path, str) or not path.startswith("$"):
            raise JsonError("$ref is not a path")
        value = self._root
        for step in re.findall(r"[^.\[\]]+", path[1:]):
            value = _child(value, step)
        return value


def _child(value: Any, step: str) -> Any:
    """One step of a path; what is not there is null, as for fastjson's JSONPath."""
    if isinstance(value, list):
        return value[int(step)] if step.isdigit() and int(step) < len(value) else None
    if isinstance(value, dict):
        return value.get(step, value.get(int(step)) if step.lstrip("-").isdigit() else None)
    return None
