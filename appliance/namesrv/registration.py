"""The body of REGISTER_BROKER, plain or compressed, read into one form.

Runs in: nameserver.
Owns: nothing. Formats: nameserver.md section 5.
Fails: `JsonError` on a body that cannot be read.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.net import json_text
from appliance.net.json_text import JsonError

from appliance.namesrv.state import NO_VERSION, DataVersion, QueueData

VERSION_BODY = 37
"""MQVersion ordinal V3_0_11: older brokers send the topic table alone."""
VERSION_MAPPING = 413
"""V5_0_0: compressed bodies carry the mapping of static topics from here on."""
INFLATED_SIZE_MAX = 64 * 1024 * 1024

_I32 = struct.Struct(">i")
_ZLIB_MARK = b"\x78"
_QUEUES, _PERM = 16, 6
"""Apache's defaults in TopicConfig."""


@dataclass(slots=True)
class Registration:
    """What a broker says of itself beside the header."""

    version: DataVersion = NO_VERSION
    topics: dict[str, QueueData] = field(default_factory=dict)
    filter_servers: list[str] | None = None
    mappings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """topic -> TopicQueueMappingInfo."""


def read(body: bytes, *, broker_name: str, version: int, compressed: bool) -> Registration:
    """The registration in a body; an absent body is an empty table of version 0.

    `version` is the sender's MQVersion ordinal. A body that is deflated is accepted even when the
    header does not say so: 5.x brokers with compressedRegister=true forget to.
    """
    if not body:
        return Registration()
    if compressed or body.startswith(_ZLIB_MARK):
        return _read_compressed(_inflate(body), broker_name, version)
    value = _table(json_text.loads(body))
    wrapper = value if version < VERSION_BODY else _table(value.get("topicConfigSerializeWrapper"))
    configs = _table(wrapper.get("topicConfigTable"))
    servers = value.get("filterServerList")
    return Registration(
        version=data_version(wrapper.get("dataVersion")),
        topics={str(topic): queues(config, broker_name) for topic, config in configs.items()},
        filter_servers=None if servers is None else list(map(str, _list(servers))),
        mappings=dict(map(_mapping, _table(wrapper.get("topicQueueMappingInfoMap")).values())),
    )


def data_version(value: object) -> DataVersion:
    """Apache's DataVersion from its JSON object; absent members are 0."""
    table = _table(value)
    return DataVersion(*(_number(table.get(name), 0) for name in DataVersion._fields))


def queues(config: object, broker_name: str) -> QueueData:
    """Queues from a TopicConfig or QueueData object, absent members as in Apache."""
    table = _table(config)
    return QueueData(
        broker_name=broker_name,
        read_queue_count=_number(table.get("readQueueNums"), _QUEUES),
        write_queue_count=_number(table.get("writeQueueNums"), _QUEUES),
        perm=_number(table.get("perm"), _PERM),
        sys_flag=_number(table.get("topicSysFlag"), 0),
    )


def route_queues(body: bytes) -> list[QueueData]:
    """The queueDatas of a TopicRouteData, all that request 217 uses of it."""
    values = _list(_table(json_text.loads(body)).get("queueDatas")) if body else []
    return [queues(value, str(_table(value).get("brokerName") or "")) for value in values]


# The compressed form ----------------------------------------------------------------------------


def _read_compressed(data: bytes, broker_name: str, version: int) -> Registration:
    cursor = _Cursor(data)
    told = data_version(json_text.loads(cursor.chunk()))
    lines = cursor.chunks()
    servers = _list(json_text.loads(cursor.chunk()))
    mappings = cursor.chunks() if version >= VERSION_MAPPING else []
    return Registration(
        version=told,
        topics=dict(_topic_line(line, broker_name) for line in lines),
        filter_servers=list(map(str, servers)),
        mappings=dict(_mapping(json_text.loads(chunk)) for chunk in mappings),
    )


class _Cursor:
    """Walks a sequence of `i32 length, bytes`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def chunk(self) -> bytes:
        size = self._number()
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise JsonError("the compressed body is cut short")
        return self._data[start : self._position]

    def chunks(self) -> list[bytes]:
        """A count, then so many chunks."""
        return [self.chunk() for _ in range(self._number())]

    def _number(self) -> int:
        try:
            (number,) = _I32.unpack_from(self._data, self._position)
        except struct.error as error:
            raise JsonError("the compressed body is cut short") from error
        self._position += _I32.size
        if number < 0:
            raise JsonError(f"a length of {number} in the compressed body")
        return int(number)


def _topic_line(line: bytes, broker_name: str) -> tuple[str, QueueData]:
    """`name readQ writeQ perm filterType attributes`: no sysFlag, which becomes 0."""
    words = line.decode("utf-8", "replace").split(" ")
    names = ("readQueueNums", "writeQueueNums", "perm")
    return words[0], queues(dict(zip(names, words[1:4], strict=False)), broker_name)


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, INFLATED_SIZE_MAX)
    except zlib.error as error:
        raise JsonError(f"not a zlib stream: {error}") from error
    if inflater.unconsumed_tail:
        raise JsonError(f"more than {INFLATED_SIZE_MAX} bytes when inflated")
    return data


# Members of JSON objects ------------------------------------------------------------------------


def _mapping(value: object) -> tuple[str, Mapping[str, Any]]:
    info = _table(value)
    if "currIdMap" in info:
        info = {**info, "currIdMap": json_text.int_keys(_table(info["currIdMap"]))}
    return str(info.get("topic")), info


def _table(value: object) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise JsonError("an object expected")
    return value


def _list(value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise JsonError("an array expected")
    return value


def _number(value: object, missing: int) -> int:
    if value is None:
        return missing
    if not isinstance(value, int | str):
        raise JsonError("a number expected")
    try:
        return int(value)
    except ValueError as error:
        raise JsonError("a number expected") from error
