"""A client that is nobody's library: one socket, and whatever a scene wants on the wire.

Runs in: pytest.
Owns: its connection.
Fails: TimeoutError or AssertionError when an answer does not come in time.
"""

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from appliance.commitlog.record import (
    Record,
    Status,
    decode_properties,
    parse,
    tags_code,
    walk,
)
from appliance.net import frame as frames
from appliance.net.frame import ONEWAY, Frame
from appliance.net.requests import BY_NAME

HOST = "127.0.0.1"
PATIENCE_SECONDS = 15.0
"""Much longer than anything takes: a scene that waits so long has failed."""

COMMIT, SUSPEND, SUBSCRIPTION = 1, 2, 4
"""Bits of a pull's sysFlag (remoting.md 6.1)."""

_READ_SIZE = 1 << 20


class Client:
    """One connection. Requests that the broker sends unasked are kept in `pushed`."""

    def __init__(self, port: int, *, receive_buffer_size: int = 0) -> None:
        self._socket = socket.socket()
        if receive_buffer_size:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_size)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect((HOST, port))
        self._opaques = itertools.count(1)
        self._unread = bytearray()
        self._answers: dict[int, Frame] = {}
        self.pushed: list[Frame] = []

    def close(self) -> None:
        self._socket.close()

    @property
    def address(self) -> str:
        """Our end, as the broker sees it."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    # ------------------------------------------------------------- bytes

    def put_bytes(self, data: bytes) -> None:
        """Onto the wire as it is; a connection that has just been closed takes it as well."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self._socket.sendall(data)

    def is_closed(self) -> bool:
        """Whether the broker ends the connection, after whatever it still sends."""
        try:
            while self._read():
                pass
        except TimeoutError:
            return False
        except ConnectionResetError:
            pass
        return True

    def _read(self) -> bool:
        data = self._socket.recv(_READ_SIZE)
        self._unread += data
        return bool(data)

    # ------------------------------------------------------------- frames

    def frame(
        self,
        request: str | int,
        fields: Mapping[str, object] | None = None,
        body: bytes | Mapping[str, object] = b"",
        **head: Any,
    ) -> Frame:
        """A request with an opaque of its own. `request`: code or name; a mapping becomes JSON."""
        code = request if isinstance(request, int) else BY_NAME[request].code
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        texts = {name: _text(value) for name, value in (fields or {}).items() if value is not None}
        return Frame(code, fields=texts, body=data, **{"opaque": next(self._opaques), **head})

    def put(self, *frames_: Frame) -> None:
        """Sends frames, in one piece."""
        self.put_bytes(b"".join(map(frames.encode, frames_)))

    def tell(self, *request: Any, **head: Any) -> None:
        """Sends a one-way request."""
        self.put(self.frame(*request, flag=ONEWAY, **head))

    def ask(self, *request: Any, **head: Any) -> Frame:
        """Sends a request and waits for its answer."""
        asked = self.frame(*request, **head)
        self.put(asked)
        return self.answer(asked)

    def answer(self, asked: Frame) -> Frame:
        """The answer to a request that was put, whatever else comes before."""
        self._read_until(lambda: asked.opaque in self._answers)
        return self._answers.pop(asked.opaque)

    def next_answer(self) -> Frame:
        """The next answer, to whichever request."""
        self._read_until(lambda: bool(self._answers))
        return self._answers.pop(next(iter(self._answers)))

    def push(self, code: int) -> Frame:
        """The next request of the broker's own with this code."""
        self._read_until(lambda: any(frame.code == code for frame in self.pushed))
        found = next(frame for frame in self.pushed if frame.code == code)
        self.pushed.remove(found)
        return found

    def _read_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s"
            assert self._read(), "the broker closed the connection"
            self._split()

    def _split(self) -> None:
        complete, used = frames.split(bytes(self._unread))
        del self._unread[:used]
        for frame in map(frames.decode, complete):
            if frame.response:
                assert frame.opaque not in self._answers, f"answered twice: {frame}"
                self._answers[frame.opaque] = frame
            else:
                self.pushed.append(frame)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextlib.contextmanager
def connected(port: int, **options: Any) -> Iterator[Client]:
    """A client, closed in the end."""
    client = Client(port, **options)
    try:
        yield client
    finally:
        client.close()


# What a producer says ----------------------------------------------------------------------------


def properties(**pairs: object) -> str:
    """The text of a message's properties (remoting.md 5.3)."""
    return "".join(f"{name}\x01{value}\x02" for name, value in pairs.items())


def message(topic: str, queue: int = 0, **fields: Any) -> dict[str, Any]:
    """The header of a send, with one-letter names as 310 and 320 have them."""
    born_ms = int(time.time() * 1000)
    base = {"a": "PG", "b": topic, "c": "TBW102", "d": 4, "e": queue, "f": 0, "g": born_ms, "h": 0}
    return {**base, "i": "", "j": 0, "k": False, "m": False, **fields}


def batch(*items: tuple[bytes, str]) -> bytes:
    """A batch's body: (body, properties) each (remoting.md 4.3)."""
    return b"".join(_batch_item(body, text.encode()) for body, text in items)


def _batch_item(body: bytes, text: bytes) -> bytes:
    words = [22 + len(body) + len(text), 0, 0, 0, len(body)]
    head = b"".join(word.to_bytes(4) for word in words)
    return head + body + len(text).to_bytes(2) + text


def send(client: Client, topic: str, body: bytes = b"x", queue: int = 0, **fields: Any) -> Frame:
    """Stores one message; the answer."""
    answer = client.ask("SEND_MESSAGE_V2", message(topic, queue, **fields), body)
    assert answer.code == 0, answer
    return answer


def create_topic(client: Client, topic: str, queues: int = 4, **fields: Any) -> None:
    """As an administrator does; `fields` are those of request 17."""
    answer = client.ask(
        "UPDATE_AND_CREATE_TOPIC",
        {
            "topic": topic,
            "defaultTopic": "TBW102",
            "readQueueNums": queues,
            "writeQueueNums": queues,
            "perm": 6,
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": 0,
            "order": False,
            **fields,
        },
    )
    assert answer.code == 0, answer


def create_group(client: Client, group: str, **members: Any) -> None:
    """As an administrator does; `members` are those of SubscriptionGroupConfig."""
    config = {"groupName": group, "retryQueueNums": 1, "retryMaxTimes": 16, **members}
    answer = client.ask("UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", body=config)
    assert answer.code == 0, answer


# What a consumer says ----------------------------------------------------------------------------


def pull_fields(topic: str, offset: int = 0, queue: int = 0, **fields: Any) -> dict[str, Any]:
    """The header of a pull that brings its filter and does not wait."""
    return {
        "consumerGroup": "CG",
        "topic": topic,
        "queueId": queue,
        "queueOffset": offset,
        "maxMsgNums": 32,
        "sysFlag": SUBSCRIPTION,
        "commitOffset": 0,
        "suspendTimeoutMillis": 0,
        "subscription": "*",
        "subVersion": 0,
        "expressionType": "TAG",
        **fields,
    }


def pull(client: Client, topic: str, offset: int = 0, queue: int = 0, **fields: Any) -> Frame:
    """One pull; the answer."""
    return client.ask("PULL_MESSAGE", pull_fields(topic, offset, queue, **fields))


def records(answer: Frame) -> list[Record]:
    """The messages of a pull's answer, each with its checksum verified."""
    return [_record(answer.body, status, at) for status, at, _ in walk(answer.body)]


def _record(body: bytes, status: Status, at: int) -> Record:
    assert status is Status.MESSAGE, f"{status} at byte {at} of {len(body)}"
    return parse(body, at)


def bodies(answer: Frame) -> list[bytes]:
    """Only what was sent."""
    return [record.body for record in records(answer)]


def properties_of(record: Record) -> dict[str, str]:
    """A message's properties."""
    return decode_properties(record.properties)


def read_queue(client: Client, topic: str, count: int, queue: int = 0) -> list[Record]:
    """The first messages of a queue, waited for: Apache's are readable a little after the answer
    to their sender, ours at once."""
    found: list[Record] = []
    waiting = {"sysFlag": SUBSCRIPTION | SUSPEND, "suspendTimeoutMillis": 5_000}
    while len(found) < count:
        answer = pull(client, topic, len(found), queue, **waiting)
        assert answer.code == 0, f"{len(found)} of {count} messages, then {answer}"
        found += records(answer)
    return found


# What a group's member says ----------------------------------------------------------------------


def subscription(topic: str, expression: str = "*", version: int = 1) -> dict[str, Any]:
    """What a consumer reads of a topic, as in a heartbeat."""
    tags = [] if expression == "*" else expression.split(" || ")
    return {
        "topic": topic,
        "subString": expression,
        "subVersion": version,
        "expressionType": "TAG",
        "classFilterMode": False,
        "tagsSet": tags,
        "codeSet": [tags_code(tag) for tag in tags],
    }


def heartbeat(
    client_id: str, group: str, *subscriptions: dict[str, Any], model: str = "CLUSTERING"
) -> dict[str, Any]:
    """The body of request 34."""
    consumer = {
        "groupName": group,
        "consumeType": "CONSUME_PASSIVELY",
        "messageModel": model,
        "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
        "unitMode": False,
        "subscriptionDataSet": list(subscriptions),
    }
    return {
        "clientID": client_id,
        "consumerDataSet": [consumer],
        "producerDataSet": [{"groupName": f"P{group}"}],
    }


def members(client: Client, group: str) -> list[str]:
    """The client ids of a group, in order; none when it has no member."""
    answer = client.ask("GET_CONSUMER_LIST_BY_GROUP", {"consumerGroup": group})
    return sorted(json.loads(answer.body)["consumerIdList"]) if answer.code == 0 else []
