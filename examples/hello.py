"""Send three messages to a running broker and read them back, on the bare wire protocol.

    python examples/hello.py [HOST:PORT]

Runs in: a program of yours; any RocketMQ client in any language does the same.
Owns: the topic `hello`, which the first send creates.
Fails: SystemExit when the broker answers with an error; OSError when there is none.
"""

import socket
import sys
import time

from appliance.commitlog import record
from appliance.net import frame
from appliance.net.requests import BY_NAME
from appliance.net.responses import SUCCESS
from appliance.values import split_address

TOPIC, QUEUE = "hello", 0


class Connection:
    """One connection to a broker, with one request at a time."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection(split_address(address), timeout=10)
        self.stream = self.socket.makefile("rb")

    def ask(self, name: str, fields: dict[str, object], body: bytes = b"") -> frame.Frame:
        """Send a request and wait for its response."""
        texts = {key: str(value) for key, value in fields.items()}
        request = frame.Frame(BY_NAME[name].code, fields=texts, body=body)
        self.socket.sendall(frame.encode(request))
        size = int.from_bytes(self.stream.read(4), "big")
        response = frame.decode(self.stream.read(size))
        if response.code != SUCCESS:
            sys.exit(f"{name}: {response.code} {response.remark}")
        return response


def send(broker: Connection, text: str) -> int:
    """Send one message; its queue offset."""
    fields = {
        "producerGroup": "hello-producer",
        "topic": TOPIC,
        "defaultTopic": "TBW102",  # the topic whose settings a new one is given
        "defaultTopicQueueNums": 1,
        "queueId": QUEUE,
        "sysFlag": 0,
        "bornTimestamp": time.time_ns() // 1_000_000,
        "flag": 0,
        "properties": record.encode_properties({"TAGS": "greeting"}).decode(),
    }
    answer = broker.ask("SEND_MESSAGE", fields, text.encode())
    return int(answer.fields["queueOffset"])


def pull(broker: Connection, queue_offset: int) -> list[str]:
    """The messages from a queue offset on; waits for the first up to 5 s."""
    fields = {
        "consumerGroup": "hello-consumer",
        "topic": TOPIC,
        "queueId": QUEUE,
        "queueOffset": queue_offset,
        "maxMsgNums": 32,
        "sysFlag": 0b110,  # wait when there is nothing; the filter is in this request
        "commitOffset": 0,
        "suspendTimeoutMillis": 5000,
        "subscription": "greeting",
        "subVersion": 0,
        "expressionType": "TAG",
    }
    found = broker.ask("PULL_MESSAGE", fields).body
    return [record.parse(found, at).body.decode() for _, at, _ in record.walk(found)]


def main() -> None:
    """Send, then read from where the first message was put."""
    broker = Connection(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:10911")
    sent = [f"hello {number}" for number in (1, 2, 3)]
    first, *_ = [send(broker, text) for text in sent]
    received: list[str] = []
    while len(received) < len(sent):
        received += pull(broker, first + len(received))
    print(f"sent {sent}\nread {received}")


if __name__ == "__main__":
    main()
