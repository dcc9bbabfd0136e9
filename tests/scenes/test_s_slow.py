"""Slow, many, rude and greedy clients: bounded memory, one line in the log, others unaffected."""

import contextlib
import os
import re
import resource
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.net import frame as frames
from appliance.net.frame import Frame
from tests.interop.brokers import HOST, Appliance, await_until, children_of
from tests.scenes.client import (
    Client,
    connected,
    create_topic,
    heartbeat,
    members,
    message,
    properties,
    pull,
    pull_fields,
    read_queue,
    send,
    subscription,
)

MIB = 1 << 20
CONNECTIONS = 10_000
CONNECTION_SIZE_MAX = 24 * 1024
SPARE_DESCRIPTORS = 500
RING_ENTRIES = 16_384
FRAME_RING_ENTRIES = 8_192
BUSY = "[OVERLOAD]system busy, start flow control for a while"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

pytestmark = pytest.mark.usefixtures("witness")


@pytest.fixture
def client(appliance: Appliance) -> Iterator[Client]:
    with connected(appliance.ports.broker) as client:
        yield client


@pytest.fixture
def witness(appliance: Appliance) -> Iterator[Client]:
    """Somebody else, who is served before, meanwhile and afterwards."""
    with connected(appliance.ports.broker) as witness:
        serves(witness)
        yield witness
        serves(witness)


def serves(client: Client) -> float:
    """A send and a pull; the seconds that they took."""
    began = time.monotonic()
    offset = int(send(client, "Witness", b"x", queue=-1, d=1).fields["queueOffset"])
    assert pull(client, "Witness", offset).code == 0
    return time.monotonic() - began


def frontends(appliance: Appliance) -> list[int]:
    """Pids."""
    children = appliance.children()
    return [pid for name, pid in children.items() if name.startswith("frontend")]


def memory_size(appliance: Appliance) -> int:
    """Bytes that all processes have for themselves: neither files nor shared memory."""
    pids = [appliance.supervisor, *(pid for pid, _ in children_of(appliance.supervisor))]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.findall(r"RssAnon:\s*(\d+) kB", text)[0]) * 1024 for text in texts)


def descriptor_count(appliance: Appliance) -> int:
    """Of all frontends."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in frontends(appliance))


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while, as on a machine that is too busy."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# Who does not read -------------------------------------------------------------------------------


def test_who_does_not_read_is_closed(appliance: Appliance, client: Client) -> None:
    """More than the backlog of 8 MiB waits for it, and it takes nothing."""
    large_topic(client, "Large")
    lines = deaf_lines(appliance)
    before = memory_size(appliance)
    with connected(appliance.ports.broker, receive_buffer_size=4096) as deaf:
        deaf.put(*(deaf.frame("PULL_MESSAGE", pull_fields("Large")) for _ in range(100)))
        await_until("the line that says so", lambda: deaf_lines(appliance) > lines)
        assert deaf.is_closed()
    assert memory_size(appliance) - before < 48 * MIB
    assert deaf_lines(appliance) == lines + 1


def large_topic(client: Client, topic: str) -> None:
    """A topic that answers a pull with a MiB."""
    create_topic(client, topic)
    send(client, topic, bytes(MIB))
    read_queue(client, topic, 1)


def deaf_lines(appliance: Appliance) -> int:
    """How many connections were closed for this."""
    return appliance.log.read_text().count("the peer does not read its answers")


def test_who_reads_late_gets_everything(appliance: Appliance, client: Client) -> None:
    """It is not read while it leaves much unread, so nothing is lost and little is kept."""
    large_topic(client, "Late")
    before = memory_size(appliance)
    with connected(appliance.ports.broker, receive_buffer_size=4096) as late:
        asked = [late.frame("PULL_MESSAGE", pull_fields("Late")) for _ in range(4)]
        more = [late.frame("GET_ALL_TOPIC_CONFIG") for _ in range(3000)]
        late.put(*asked, *more)
        for _ in range(20):
            serves(client)
        assert memory_size(appliance) - before < 16 * MIB
        assert all(len(late.answer(one).body) > MIB for one in asked)
        assert all(b'"Late"' in late.answer(one).body for one in more)


def test_half_frames_cost_what_was_sent_of_them(appliance: Appliance, client: Client) -> None:
    """Each claims to become a frame of 16 MiB: together more than there is memory for."""
    before = memory_size(appliance)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            half = stack.enter_context(connected(appliance.ports.broker))
            half.put_bytes(struct.pack(">II", 16 * MIB - 4, 100) + b"{")
        for one in (client, stack.enter_context(connected(appliance.ports.broker))):
            data = frames.encode(Frame(9999, opaque=5, body=bytes(100_000)))
            one.put_bytes(data[:50_000])
            assert serves(stack.enter_context(connected(appliance.ports.broker))) < 5
            one.put_bytes(data[50_000:])
            assert one.next_answer().code == 3
        assert memory_size(appliance) - before < 16 * MIB


# Many --------------------------------------------------------------------------------------------


@pytest.fixture
def open_sockets() -> Iterator[Callable[[Appliance, int], list[socket.socket]]]:
    """Opens many connections; they end with a reset, which leaves no port waiting."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + SPARE_DESCRIPTORS:
        pytest.skip(f"this machine allows {hard} descriptors, {CONNECTIONS} clients need more")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:

        def open_many(appliance: Appliance, count: int) -> list[socket.socket]:
            address = (HOST, appliance.ports.broker)
            opened = []
            for _ in range(count):
                one = stack.enter_context(socket.create_connection(address, timeout=15))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                opened.append(one)
            return opened

        yield open_many
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections(
    appliance: Appliance,
    witness: Client,
    open_sockets: Callable[[Appliance, int], list[socket.socket]],
    record_property: Callable[[str, object], None],
) -> None:
    """Each costs a descriptor and a few KiB; who works meanwhile does not notice."""
    descriptors, memory = descriptor_count(appliance), memory_size(appliance)
    opened = open_sockets(appliance, CONNECTIONS)
    await_until(
        "all to be accepted", lambda: descriptor_count(appliance) >= descriptors + CONNECTIONS
    )
    assert descriptor_count(appliance) == descriptors + CONNECTIONS
    seconds = sorted(serves(witness) for _ in range(20))[10]
    size = (memory_size(appliance) - memory) / CONNECTIONS
    record_property("bytes a connection", size)
    record_property("seconds of a send and a pull", seconds)
    print(f"{size:.0f} bytes a connection; a send and a pull take {seconds * 1000:.1f} ms")
    assert size <= CONNECTION_SIZE_MAX
    assert seconds < 0.5
    for one in opened:
        one.close()
    await_until("all to be gone", lambda: descriptor_count(appliance) <= descriptors)


def test_a_storm_of_clients_that_come_and_go(
    appliance: Appliance,
    witness: Client,
    open_sockets: Callable[[Appliance, int], list[socket.socket]],
) -> None:
    """Some say nothing, some half a frame, some join a group: nothing of them stays."""
    descriptors, memory = descriptor_count(appliance), memory_size(appliance)
    create_topic(witness, "Storm")
    body = heartbeat("a", "Storm", subscription("Storm"))
    beat = frames.encode(witness.frame("HEART_BEAT", body=body))
    wait = frames.encode(witness.frame("PULL_MESSAGE", pull_fields("Storm", sysFlag=6)))
    said = [b"", b"\0\0\0", beat[:40], beat, beat + wait, b"\xff" * 20]
    for _ in range(100):
        for one, data in zip(open_sockets(appliance, 30), said * 5, strict=True):
            one.sendall(data)
            one.close()
        assert serves(witness) < 5
    await_until("all to be gone", lambda: descriptor_count(appliance) <= descriptors)
    await_until("an empty group", lambda: members(witness, "Storm") == [])
    assert memory_size(appliance) - memory < 16 * MIB


# Greedy ------------------------------------------------------------------------------------------


def answered(client: Client, count: int) -> Counter[tuple[int, str | None]]:
    """Codes and remarks of so many answers."""
    return Counter((one.code, one.remark) for one in (client.next_answer() for _ in range(count)))


def test_more_sends_than_the_ring_holds(appliance: Appliance, client: Client) -> None:
    """While the writer does nothing: what finds no room is refused at once, the rest is stored."""
    create_topic(client, "Flood", queues=1)
    total = RING_ENTRIES + 2000
    fields = message("Flood", i=properties(UNIQ_KEY="K" * 32))
    with stopped(appliance.children()["writer"]):
        client.put(*(client.frame("SEND_MESSAGE_V2", fields, b"x" * 100) for _ in range(total)))
        refused = answered(client, total - RING_ENTRIES)
        with connected(appliance.ports.broker) as other:
            assert other.ask("GET_MAX_OFFSET", {"topic": "Flood", "queueId": 0}).code == 0
    assert refused == {(2, BUSY): total - RING_ENTRIES}
    assert answered(client, RING_ENTRIES) == {(0, None): RING_ENTRIES}
    answer = client.ask("GET_MAX_OFFSET", {"topic": "Flood", "queueId": 0})
    assert answer.fields == {"offset": str(RING_ENTRIES)}


def test_more_bytes_than_the_arena_holds(appliance: Appliance, client: Client) -> None:
    create_topic(client, "Heavy", queues=1)
    fields = message("Heavy", i=properties(UNIQ_KEY="K"))
    with stopped(appliance.children()["writer"]):
        client.put(*(client.frame("SEND_MESSAGE_V2", fields, bytes(MIB)) for _ in range(24)))
        refused = answered(client, 24 - 15)
    assert refused == {(2, BUSY): 24 - 15}
    assert answered(client, 15) == {(0, None): 15}
    assert len(read_queue(client, "Heavy", 15)) == 15


def test_more_questions_than_the_coordinator_can_take(appliance: Appliance, client: Client) -> None:
    total = FRAME_RING_ENTRIES + 1000
    with stopped(appliance.children()["coordinator"]):
        asked = [client.frame("GET_MIN_OFFSET", {"topic": "T", "queueId": 0}) for _ in range(total)]
        client.put(*asked)
        refused = answered(client, total - FRAME_RING_ENTRIES)
    assert refused == {(2, BUSY): total - FRAME_RING_ENTRIES}
    assert {code for code, _ in answered(client, FRAME_RING_ENTRIES)} == {0}
