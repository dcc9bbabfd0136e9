"""A link over real sockets and over one that fails: requests, deadlines, reconnecting."""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from appliance.clock import Clock, Now
from appliance.net import frame as frames
from appliance.net import link as links
from appliance.net.frame import ONEWAY, RESPONSE, Frame
from appliance.net.link import Link

NEVER_NS = 1 << 62


def at(ms: int) -> Now:
    return Now(ms * 1_000_000, ms)


class Peer:
    """The other ends of all connections a link has opened."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.refuse = False

    def connect(self, address: str) -> socket.socket:
        if self.refuse:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.ends.append(theirs)
        return ours

    def read(self) -> list[Frame]:
        complete, _ = frames.split(self.ends[-1].recv(1 << 20))
        return [frames.decode(one) for one in complete]

    def write(self, frame: Frame) -> None:
        self.ends[-1].sendall(frames.encode(frame))


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    for end in made.ends:
        end.close()


def test_asks_and_is_answered_in_any_order(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    for code in (1, 2):
        link.request(Frame(code), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    first, second = peer.read()
    assert (first.code, second.code) == (1, 2)
    assert first.opaque != second.opaque
    peer.write(Frame(0, second.opaque, RESPONSE, remark="second"))
    peer.write(Frame(0, first.opaque, RESPONSE, remark="first"))
    assert not link.idle
    assert link.step(at(1)) == 2
    assert [answer and answer.remark for answer in heard] == ["second", "first"]
    assert link.idle


def test_answers_without_a_request_are_dropped(peer: Peer) -> None:
    link = Link("p:1", peer.connect)
    link.step(at(0))
    peer.write(Frame(0, 99, RESPONSE))
    assert link.step(at(1)) == 1
    assert link.connected


def test_a_deadline_passes(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=at(300).monotonic_ns)
    link.step(at(0))
    assert heard == []
    link.step(at(300))
    assert heard == [None]
    (late,) = peer.read()
    peer.write(Frame(0, late.opaque, RESPONSE))
    link.step(at(301))
    assert heard == [None]


def test_a_lost_connection_fails_what_was_asked_and_comes_back(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    assert (link.connected, link.connections) == (True, 1)
    peer.ends[-1].close()
    link.step(at(1))
    assert (link.connected, heard) == (False, [None])
    assert link.last_error
    link.request(Frame(2), heard.append, deadline_ns=NEVER_NS)
    link.step(at(2))
    assert len(peer.ends) == 1, "there is a pause before the next attempt"
    link.step(at(200))
    assert (link.connected, link.connections) == (True, 2)
    assert [frame.code for frame in peer.read()] == [2]


def test_attempts_are_spaced_by_a_growing_pause(peer: Peer) -> None:
    peer.refuse = True
    attempts = []
    link = Link("p:1", lambda address: attempts.append(now_ms) or peer.connect(address))  # type: ignore[func-returns-value]
    for now_ms in range(0, 20_000, 50):
        link.step(at(now_ms))
    gaps = [b - a for a, b in pairwise(attempts)]
    assert gaps[:4] == [100, 200, 400, 800]
    assert set(gaps[3:]) == {800}


def test_requests_fail_with_the_attempt(peer: Peer) -> None:
    peer.refuse = True
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    assert heard == [None]
    assert link.fileno() == -1


def test_what_the_peer_asks_is_served(peer: Peer) -> None:
    asked: list[int] = []

    def serve(frame: Frame) -> Frame | None:
        asked.append(frame.code)
        return Frame(0, flag=RESPONSE, remark="served")

    link = Link("p:1", peer.connect, serve)
    link.step(at(0))
    peer.write(Frame(40, opaque=8))
    peer.write(Frame(41, opaque=9, flag=ONEWAY))
    link.step(at(1))
    link.step(at(2))
    assert asked == [40, 41]
    (answer,) = peer.read()
    assert (answer.opaque, answer.remark) == (8, "served")


def test_requests_of_the_peer_are_ignored_without_a_server(peer: Peer) -> None:
    link = Link("p:1", peer.connect)
    link.step(at(0))
    peer.write(Frame(40))
    assert link.step(at(1)) == 1
    assert link.idle


def test_one_way_frames_say_so(peer: Peer) -> None:
    link = Link("p:1", peer.connect)
    link.oneway(Frame(905))
    assert not link.idle
    link.step(at(0))
    (frame,) = peer.read()
    assert frame.oneway
    assert link.idle


def test_bytes_that_are_no_frames_end_the_connection(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    peer.ends[-1].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    link.step(at(1))
    assert (link.connected, heard) == (False, [None])


def test_a_long_answer_arrives_in_pieces(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    body = bytes(range(256)) * 300
    data = frames.encode(Frame(0, peer.read()[0].opaque, RESPONSE, body=body))
    for start in range(0, len(data), 5_000):
        peer.ends[-1].sendall(data[start : start + 5_000])
        link.step(at(1))
    assert [answer and answer.body for answer in heard] == [body]


def test_a_peer_that_does_not_read_makes_requests_fail(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    body = b"x" * 15_000_000
    for _ in range(4):
        link.request(Frame(1, body=body), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    assert heard == [None], "32 MiB may wait, the rest is told at once"


def test_closing_tells_everybody(peer: Peer) -> None:
    link, heard = Link("p:1", peer.connect), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    link.close()
    assert heard == [None]
    assert link.fileno() == -1


def test_an_attempt_that_hangs_is_given_up() -> None:
    class Hanging:
        closed = False

        def recv(self, size: int, /) -> bytes:
            raise BlockingIOError

        def send(self, data: bytes | bytearray | memoryview, /) -> int:
            raise BlockingIOError

        def getpeername(self) -> object:
            raise OSError(errno.ENOTCONN, "not yet")

        def fileno(self) -> int:
            return 3

        def close(self) -> None:
            self.closed = True

    hanging, heard = Hanging(), list[Frame | None]()
    link = Link("p:1", lambda address: hanging)
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    link.step(at(0))
    assert (link.connected, link.wants_write, heard) == (False, True, [])
    link.step(at(3_001))
    assert (hanging.closed, heard) == (True, [None])


def until(done: Callable[[], bool], link: Link) -> None:
    clock = Clock()
    end_ns = clock.now().monotonic_ns + 5_000_000_000
    while not done():
        link.step(clock.now())
        assert clock.now().monotonic_ns < end_ns
        time.sleep(0.001)


def test_connects_over_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link, heard = Link(f"127.0.0.1:{listener.getsockname()[1]}"), list[Frame | None]()
        link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
        until(lambda: link.connected, link)
        accepted, _ = listener.accept()
        with accepted:
            (one,), _ = frames.split(accepted.recv(4096))
            opaque = frames.decode(one).opaque
            accepted.sendall(frames.encode(Frame(0, opaque, RESPONSE, remark="hello")))
            until(lambda: bool(heard), link)
        link.close()
    assert [answer and answer.remark for answer in heard] == ["hello"]


def test_a_port_without_listener_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    link, heard = Link(address), list[Frame | None]()
    link.request(Frame(1), heard.append, deadline_ns=NEVER_NS)
    until(lambda: bool(heard), link)
    assert heard == [None]
    link.close()


@pytest.mark.parametrize(
    "address", ["", "x", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ".:1", f"{'x' * 70}.y:1"]
)
def test_an_address_that_is_none_is_an_oserror(address: str) -> None:
    """Peers tell addresses: what they make up must not end the process."""
    with pytest.raises(OSError, match=r"."):
        links.connect_tcp(address).close()
