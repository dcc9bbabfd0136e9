"""poll.py: who comes, who goes and why, and what wakes a process that waits."""

import os
import socket
from collections.abc import Iterator

import pytest

from appliance.clock import Now
from appliance.net import frame as frames
from appliance.net.frame import Frame
from appliance.net.poll import (
    CLOSE_REASONS,
    PEERS_FAULT,
    Ended,
    SocketLimits,
    Sockets,
    peer_bytes,
    peer_text,
)
from clib import lib
from tests.fakes.line import PEER_TEXT, Line

NOW = Now(1_000, 0)
LIMITS = SocketLimits(connections_max=3, frame_max=1000, backlog_max=1 << 20)
ASKED = frames.encode(Frame(34, 1))


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets(LIMITS)
    yield made
    made.shut()


@pytest.fixture
def line(sockets: Sockets) -> Iterator[Line]:
    made = Line(sockets)
    yield made
    made.close()


def received(sockets: Sockets, now: Now = NOW) -> list[tuple[int, bytes]]:
    sockets.wait(0, now)
    return sockets.receive()


# Frames -------------------------------------------------------------------------------------------


def test_frames_come_with_their_connection_and_answers_go_back(
    sockets: Sockets, line: Line
) -> None:
    other = Line(sockets)
    other.put(ASKED)
    line.put(ASKED * 2)
    assert sorted(received(sockets)) == [
        (line.connection, ASKED[4:]),
        (line.connection, ASKED[4:]),
        (other.connection, ASKED[4:]),
    ]
    answer = Frame(0, 1, flag=1)
    assert sockets.send(other.connection, frames.encode(answer))
    assert other.hear() == []
    sockets.flush()
    assert (other.hear(), line.hear()) == ([answer], [])
    other.close()


def test_a_frame_is_the_same_by_its_index(sockets: Sockets, line: Line) -> None:
    line.put(ASKED)
    ((_, data),) = received(sockets)
    assert sockets.frame(0) == data == ASKED[4:]
    assert int(sockets.requests["code"][0]) == 34


def test_looking_twice_without_a_scan_keeps_what_was_seen(sockets: Sockets, line: Line) -> None:
    line.put(ASKED)
    assert sockets.wait(0, NOW) == 1
    sockets.look(Now(2_000, 0))
    assert len(sockets.receive()) == 1 and sockets.net.now_ns == 2_000
    line.put(ASKED)
    sockets.look(NOW)
    assert len(sockets.receive()) == 1


# Coming and going ---------------------------------------------------------------------------------


def test_who_came_is_told_once(sockets: Sockets, line: Line) -> None:
    assert sockets.opened() == [(line.connection, PEER_TEXT)]
    assert sockets.opened() == []
    assert (sockets.connections(), sockets.count) == ([line.connection], 1)
    assert sockets.peer(line.connection) == PEER_TEXT and sockets.peer(7) == "?"


def test_who_went_is_told_after_what_he_said(sockets: Sockets, line: Line) -> None:
    line.put(ASKED)
    line.close()
    assert len(received(sockets)) == 1
    assert received(sockets) == []
    assert sockets.ended() == [Ended(line.connection, PEER_TEXT, lib.AP_CLOSE_PEER)]
    assert (sockets.ended(), sockets.count) == ([], 0)
    assert not sockets.send(line.connection, b"x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff", lib.AP_CLOSE_LENGTH),
        ((997).to_bytes(4), lib.AP_CLOSE_LENGTH),
        ((20).to_bytes(4) + (1000).to_bytes(4) + bytes(16), lib.AP_CLOSE_HEADER),
    ],
)
def test_a_peer_at_fault_is_cut_off(sockets: Sockets, data: bytes, reason: int) -> None:
    line = Line(sockets)
    line.put(ASKED + data)
    assert len(received(sockets)) == 1
    assert [ended.reason for ended in sockets.ended()] == [reason]
    assert reason in PEERS_FAULT and reason in CLOSE_REASONS
    assert line.socket.recv(1) == b""
    line.close()


def test_what_was_put_is_sent_before_we_close(sockets: Sockets, line: Line) -> None:
    answer = Frame(0, 1, flag=1)
    sockets.send(line.connection, frames.encode(answer))
    sockets.close(line.connection)
    assert [ended.reason for ended in sockets.ended()] == [lib.AP_CLOSE_ASKED]
    complete, _ = frames.split(line.socket.recv(1 << 16))
    assert [frames.decode(one) for one in complete] == [answer]
    assert line.socket.recv(1) == b""


def test_an_old_number_closes_nobody(sockets: Sockets, line: Line) -> None:
    old = line.connection
    sockets.close(old)
    assert sockets.closed() == [old]
    successor = Line(sockets)
    assert successor.connection != old
    assert successor.connection & 0xFFFFFFFF == old & 0xFFFFFFFF, "the slot is used again"
    sockets.close(old)
    assert sockets.closed() == [] and not sockets.send(old, b"x")
    successor.close()


def test_numbers_begin_where_they_are_told() -> None:
    sockets = Sockets(LIMITS, first_serial=5 << 20)
    line = Line(sockets)
    assert line.connection >> 32 == (5 << 20) + 1
    sockets.shut()
    line.close()


def test_only_the_idle_are_swept(sockets: Sockets, line: Line) -> None:
    sockets.watch_doorbell(bell := os.eventfd(0))
    busy = Line(sockets)
    busy.put(ASKED)
    received(sockets, Now(5_000, 0))
    sockets.sweep(Now(5_000, 0), idle_ns=5_000)
    assert sockets.closed() == []
    sockets.sweep(Now(6_000, 0), idle_ns=5_000)
    assert sockets.ended() == [Ended(line.connection, PEER_TEXT, lib.AP_CLOSE_IDLE)]
    assert sockets.connections() == [busy.connection]
    busy.close()
    os.close(bell)


# Listening ----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=10)


def test_a_listener_is_served(sockets: Sockets, listener: socket.socket) -> None:
    sockets.listen(listener)
    with connect(listener) as client:
        assert received(sockets) == []
        host, port = client.getsockname()
        ((connection, peer),) = sockets.opened()
        assert peer == f"{host}:{port}" == sockets.peer(connection)
        client.sendall(ASKED)
        assert sockets.wait(10_000, NOW) == 1
        assert sockets.receive() == [(connection, ASKED[4:])]


def test_more_than_the_limit_are_turned_away(sockets: Sockets, listener: socket.socket) -> None:
    sockets.listen(listener)
    clients = [connect(listener) for _ in range(LIMITS.connections_max + 1)]
    received(sockets)
    assert sockets.count == LIMITS.connections_max
    assert clients[-1].recv(1) == b""
    clients[0].close()
    received(sockets)
    assert len(sockets.closed()) == 1
    with connect(listener):
        received(sockets)
        assert sockets.count == LIMITS.connections_max
    for client in clients:
        client.close()


def test_a_bell_wakes_and_is_no_frame(sockets: Sockets) -> None:
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    sockets.watch_doorbell(bell)
    assert sockets.wait(0, NOW) == 0
    os.eventfd_write(bell, 1)
    assert sockets.wait(10_000, NOW) == 1
    assert sockets.receive() == [] and sockets.wait(0, NOW) == 0
    os.close(bell)


# Addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "stored", "text"),
    [
        (("10.1.2.3", 80), "0a01020300000050", "10.1.2.3:80"),
        (("2001:db8::1", 81, 0, 0), "20010db8" + "0" * 22 + "0100000051", "2001:db8::1:81"),
        (("fe80::1%eth0", 82, 0, 2), "fe80" + "0" * 26 + "000100000052"[2:], "fe80::1:82"),
        ("/a/path", "7f00000100000001", "127.0.0.1:1"),
    ],
)
def test_addresses(address: object, stored: str, text: str) -> None:
    assert peer_bytes(address).hex() == stored
    assert peer_text(bytes.fromhex(stored)) == text
