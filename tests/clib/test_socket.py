"""socket.c: no byte is lost, doubled or given to another, whatever peers do."""

import os
import random
import socket
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from clib import ffi, lib
from tests.clib.engine import PEER, Engine, Got, frame

BIG = 700_000


def content(data: bytes) -> bytes:
    return frame(data)[4:]


# Reading ----------------------------------------------------------------------------------------


def test_frames_are_whole_wherever_the_stream_is_cut() -> None:
    engine = Engine()
    stream = frame(b"") + frame(b"abc") + frame(b"x" * 50)
    wanted = [content(b""), content(b"abc"), content(b"x" * 50)]
    for cut in range(len(stream) + 1):
        connection = engine.connect()
        engine.peers[connection].send(stream[:cut])
        got = engine.all_frames()
        engine.peers[connection].send(stream[cut:])
        got += engine.all_frames()
        assert got == [Got(connection, data) for data in wanted]
        engine.peers[connection].close()
        engine.all_frames()
        assert engine.broken() == [(connection, lib.AP_CLOSE_PEER)]
    assert engine.pool.taken == 0


def test_a_frame_that_comes_byte_by_byte() -> None:
    engine = Engine()
    connection, got = engine.connect(), []
    for byte in frame(b"slow") * 2:
        engine.peers[connection].send(bytes([byte]))
        got += engine.all_frames()
    assert got == [Got(connection, content(b"slow"))] * 2
    assert engine.row(connection).frames == 2
    assert engine.row(connection).bytes_in == 2 * len(frame(b"slow"))


@pytest.mark.parametrize("size", [5_000, 65_000, 131_073, BIG])
def test_a_frame_longer_than_a_read(size: int) -> None:
    engine = Engine()
    connection, data = engine.connect(), random.Random(size).randbytes(size)
    stream, got, sent = frame(b"before") + frame(data) + frame(b"after"), [], 0
    while sent < len(stream):
        sent += engine.peers[connection].send(stream[sent : sent + 150_000])
        got += engine.all_frames()
    wanted = [content(b"before"), content(data), content(b"after")]
    assert got == [Got(connection, data) for data in wanted]
    engine.receive()
    assert engine.pool.taken == 0


def test_many_connections_at_once() -> None:
    engine = Engine(capacity=64)
    connections = [engine.connect() for _ in range(60)]
    rng = random.Random(1)
    sent = {
        it: b"".join(frame(rng.randbytes(rng.randrange(400))) for _ in range(9))
        for it in connections
    }
    got: dict[int, bytes] = dict.fromkeys(connections, b"")
    left = dict(sent)
    while any(left.values()):
        for it in rng.sample(connections, 20):
            size = rng.randrange(300)
            engine.peers[it].send(left[it][:size])
            left[it] = left[it][size:]
        for one in engine.all_frames():
            got[one.connection] += len(one.data).to_bytes(4) + one.data
    assert got == sent


def test_nobody_starves_beside_peers_who_never_stop() -> None:
    """A batch has room for three reads; twenty connections have more than one each, always."""
    engine = Engine(capacity=32, scratch=4 * 66_000, requests_max=8192)
    connections = [engine.connect() for _ in range(20)]
    heard: set[int] = set()
    for _ in range(10):
        for it in connections:
            try:
                while engine.peers[it].send(frame(b"x" * 1000)) == 1014:
                    pass
            except BlockingIOError:
                pass
        heard |= {got.connection for got in engine.frames() if got.data}
        if engine.net.broken_count:  # a send was cut short above
            break
    assert heard == set(connections)


@pytest.mark.parametrize("requests_max", [1, 2, 3, 100])
def test_more_frames_than_there_is_room_for(requests_max: int) -> None:
    engine = Engine(requests_max=requests_max)
    connection = engine.connect()
    sent = [b"%d" % i * (i % 30) for i in range(200)]
    engine.peers[connection].send(b"".join(map(frame, sent)))
    assert engine.all_frames() == [Got(connection, content(data)) for data in sent]


@pytest.mark.parametrize("word", [0, 3, (1 << 20) - 3, 1 << 31, 0xFFFFFFFF])
def test_an_impossible_length_ends_the_connection(word: int) -> None:
    for split in range(5):
        engine = Engine()
        connection, data = engine.connect(), frame(b"good") + word.to_bytes(4)
        engine.peers[connection].send(data[: len(data) - split])
        got = engine.all_frames()
        engine.peers[connection].send(data[len(data) - split :] + b"more")
        got += engine.all_frames()
        assert got == [Got(connection, content(b"good"))]
        assert engine.broken() == [(connection, lib.AP_CLOSE_LENGTH)]


def test_the_longest_frame() -> None:
    engine = Engine(frame_max=4096)
    connection = engine.connect()
    engine.peers[connection].send(frame(b"x" * (4096 - 10)))
    assert len(engine.all_frames()) == 1
    engine.peers[connection].send(frame(b"x" * (4096 - 9)))
    assert not engine.all_frames()
    assert engine.broken() == [(connection, lib.AP_CLOSE_LENGTH)]


@pytest.mark.parametrize("header", [b"\x02\0\0\0", b"\0\0\0\x09", b"\xff\xff\xff\xff"])
def test_a_header_that_lies_ends_the_connection(header: bytes) -> None:
    engine = Engine()
    connection, other = engine.connect(), engine.connect()
    bad = (12).to_bytes(4) + header + b"12345678"
    engine.peers[connection].send(frame(b"good") + bad + frame(b"never seen"))
    engine.peers[other].send(frame(b"other"))
    got = {(connection, content(b"good")), (other, content(b"other"))}
    assert set(map(tuple, engine.all_frames())) == got
    assert engine.broken() == [(connection, lib.AP_CLOSE_HEADER)]


def test_a_peer_that_says_nothing_more_is_closed() -> None:
    engine = Engine()
    connection = engine.connect()
    engine.peers[connection].send(frame(b"last") + b"\0\0")
    engine.peers[connection].shutdown(socket.SHUT_WR)
    assert engine.all_frames() == [Got(connection, content(b"last"))]
    assert engine.broken() == [(connection, lib.AP_CLOSE_PEER)]
    assert engine.pool.taken == 0


def test_a_length_word_alone_gets_no_megabytes() -> None:
    engine = Engine(capacity=64, pool=4 << 20, frame_max=16 << 20)
    for _ in range(60):
        engine.peers[engine.connect()].send(((16 << 20) - 4).to_bytes(4) + bytes(16))
    engine.all_frames()
    assert not engine.broken()
    assert engine.pool.taken == 60 * 65536


def test_no_memory_ends_only_who_needs_it() -> None:
    engine = Engine(pool=1 << 20)
    connections = [engine.connect() for _ in range(4)]
    for it in connections:
        sent = 0
        while sent < 400_000 and not engine.net.broken_count:
            sent += engine.peers[it].send(frame(bytes(500_000))[sent : sent + 100_000])
            engine.frames()
    reasons = {reason for _, reason in engine.broken()}
    assert reasons == {lib.AP_CLOSE_MEMORY}
    fresh = engine.connect()
    engine.peers[fresh].send(frame(b"still served"))
    assert Got(fresh, content(b"still served")) in engine.all_frames()


def escaped_send(text: str) -> bytes:
    fields = '"b":"T","e":"0","f":"0","g":"1","h":"0","i":"' + text + '"'
    header = ('{"code":310,"opaque":1,"extFields":{' + fields + "}}").encode()
    data = len(header).to_bytes(4) + header
    return len(data).to_bytes(4) + data


def test_escapes_of_a_whole_batch_share_one_area() -> None:
    """Who finds it full is odd, and gets no half of another's text."""
    engine = Engine(scratch=4 * 66_000, requests_max=10_000)
    texts = {}
    for number in range(3):
        connection = engine.connect()
        texts[connection] = [f"\\n{number}{i}" * 600 for i in range(20)]
        engine.peers[connection].send(b"".join(map(escaped_send, texts[connection])))
    engine.wait()
    requests = engine.requests[0 : engine.receive()]
    assert len(requests) == 60
    odd = 0
    for request in requests:
        text = texts[request.connection].pop(0).replace("\\n", "\n").encode()
        found = bytes(ffi.buffer(ffi.cast("char *", request.text), request.text_size))
        no_room = bool(request.odd & lib.AP_ODD_TEXT)
        assert found == (b"" if no_room else text)
        odd += no_room
    assert 0 < odd < 40


def test_bells_and_listeners_are_counted() -> None:
    engine = Engine()
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    listener = socket.create_server(("127.0.0.1", 0))
    engine.add(os.dup(bell), state=lib.AP_CONNECTION_DOORBELL)
    engine.add(os.dup(listener.fileno()), state=lib.AP_CONNECTION_LISTENER)
    os.eventfd_write(bell, 3)
    with socket.create_connection(listener.getsockname()):
        assert engine.frames() == []
        assert (engine.net.doorbell_rung, engine.net.listeners_ready) == (1, 1)
    os.close(bell)
    listener.close()


# Writing ----------------------------------------------------------------------------------------


def test_what_is_put_leaves_with_the_flush() -> None:
    engine = Engine()
    connection = engine.connect()
    assert engine.put(connection, b"one") == engine.put(connection, b"two") == 0
    assert engine.put(connection, b"") == 0
    assert engine.read(connection) == b""
    assert engine.flush() == 1
    assert engine.read(connection) == b"onetwo"
    assert engine.pool.taken == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 90_000), st.booleans(), st.integers(0, 60_000)), max_size=25)
)
def test_output_is_exact_while_the_peer_reads_as_it_likes(
    steps: list[tuple[int, bool, int]],
) -> None:
    engine = Engine(backlog_max=4 << 20, pause_at=16 << 10)
    connection = engine.connect(buffer_size=8192)
    sent, read = b"", b""
    for number, (size, flush, taken) in enumerate(steps):
        data = bytes([number + 1]) * size
        assert engine.put(connection, data) == 0
        sent += data
        if flush:
            engine.flush()
        if taken:
            read += engine.read(connection, taken)
    engine.flush()
    assert read + engine.read_all(connection) == sent
    assert engine.pool.taken == 0
    assert not engine.row(connection).state & lib.AP_CONNECTION_PAUSED


def test_a_peer_that_does_not_read_is_not_read_then_closed() -> None:
    engine = Engine(backlog_max=300_000, pause_at=50_000)
    connection = engine.connect(buffer_size=8192)
    engine.put(connection, bytes(100_000))
    engine.flush()
    assert engine.row(connection).state & lib.AP_CONNECTION_PAUSED
    engine.peers[connection].send(frame(b"asks on"))
    assert engine.all_frames() == []
    engine.put(connection, bytes(100_000))
    assert engine.put(connection, bytes(150_000)) == lib.AP_EFULL
    assert engine.put(connection, b"x") == lib.AP_EGONE
    assert engine.broken() == [(connection, lib.AP_CLOSE_BACKLOG)]
    assert engine.pool.taken == 0


def test_who_reads_again_is_read_again() -> None:
    engine = Engine(pause_at=50_000)
    connection = engine.connect(buffer_size=8192)
    engine.put(connection, bytes(100_000))
    engine.flush()
    engine.peers[connection].send(frame(b"asks on"))
    assert engine.all_frames() == []
    received, got = 0, []
    while received < 100_000:
        received += len(engine.read(connection))
        waiting = engine.row(connection).out_size
        got += engine.frames()
        assert not (waiting and got), "nothing is read while output waits"
        engine.flush()
    assert got + engine.all_frames() == [Got(connection, content(b"asks on"))]


def test_a_peer_that_is_gone_ends_with_the_flush() -> None:
    engine = Engine()
    connection = engine.connect()
    engine.peers[connection].close()
    engine.put(connection, b"too late")
    engine.flush()
    assert engine.broken() == [(connection, lib.AP_CLOSE_ERROR)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 30_000),
    st.integers(0, 300),
    st.lists(st.integers(0, 60_000), max_size=12),
    st.integers(0, 3),
)
def test_gathered_bytes_are_exact_however_few_the_socket_takes(
    waiting: int, head: int, sizes: list[int], rounds: int
) -> None:
    engine = Engine(backlog_max=8 << 20)
    connection = engine.connect(buffer_size=8192)
    memory = np.frombuffer(random.Random(0).randbytes(sum(sizes) + 1), np.uint8)
    ends = np.cumsum([0, *sizes])
    slices = [memory[a:b] for a, b in pairwise(ends)]
    sent = b""
    for number in range(rounds + 1):
        if waiting:
            engine.put(connection, b"w" * waiting)
        assert engine.gather(connection, b"h" * head, slices) == 0
        sent += b"w" * waiting + b"h" * head + memory[: ends[-1]].tobytes()
        if number % 2:
            engine.flush()
    engine.flush()
    assert engine.read_all(connection) == sent
    assert engine.row(connection).bytes_out == len(sent)
    assert engine.pool.taken == 0


def test_what_the_socket_takes_is_not_copied() -> None:
    engine = Engine()
    connection = engine.connect()
    assert engine.gather(connection, b"head", [np.frombuffer(b"body", np.uint8)] * 1000) == 0
    assert engine.pool.used == 0
    assert engine.read(connection) == b"head" + b"body" * 1000


def test_a_gather_beyond_the_backlog_or_the_slices_allowed() -> None:
    engine = Engine(backlog_max=100_000)
    connection = engine.connect(buffer_size=8192)
    one = np.zeros(1, np.uint8)
    assert engine.gather(connection, b"", [one] * 1001) == lib.AP_EINVAL
    assert engine.gather(connection, b"", [np.zeros(500_000, np.uint8)]) == lib.AP_EFULL
    assert engine.broken() == [(connection, lib.AP_CLOSE_BACKLOG)]
    assert engine.gather(connection, b"", [one]) == lib.AP_EGONE


# Slots ------------------------------------------------------------------------------------------


def test_a_slot_used_again_knows_nothing_of_its_last_user() -> None:
    engine = Engine(capacity=1)
    seen = set()
    for number in range(50):
        connection = engine.connect()
        seen.add(connection)
        engine.peers[connection].send(frame(b"whole %d" % number) + frame(b"half")[:5])
        assert engine.all_frames() == [Got(connection, content(b"whole %d" % number))]
        engine.put(connection, b"for you alone %d" % number)
        lib.ap_net_break(engine.net, connection & 0xFFFFFFFF, lib.AP_CLOSE_ASKED)
        assert engine.put(connection, b"late") == lib.AP_EGONE
        assert engine.broken() == [(connection, lib.AP_CLOSE_ASKED)]
        assert engine.read(connection) == b""
    assert len(seen) == 50, "a number is never used twice"
    assert engine.pool.taken == 0 and engine.net.open == 0


def test_events_of_a_closed_connection_do_not_reach_the_next_one() -> None:
    engine = Engine(capacity=2)
    first, second = engine.connect(), engine.connect()
    for it in (first, second):
        engine.peers[it].send(frame(b"old"))
    engine.wait()
    lib.ap_net_break(engine.net, second & 0xFFFFFFFF, lib.AP_CLOSE_ASKED)
    assert engine.broken() == [(second, lib.AP_CLOSE_ASKED)]
    third = engine.connect()
    assert third & 0xFFFFFFFF == second & 0xFFFFFFFF
    count = engine.receive()
    assert [int(engine.requests[i].connection) for i in range(count)] == [first]
    engine.peers[third].send(frame(b"new"))
    assert engine.all_frames() == [Got(third, content(b"new"))]


def test_a_dirty_connection_is_not_closed_under_the_list() -> None:
    engine = Engine()
    connections = [engine.connect() for _ in range(3)]
    for it in connections:
        engine.put(it, b"x")
    slot = connections[1] & 0xFFFFFFFF
    lib.ap_net_break(engine.net, slot, lib.AP_CLOSE_ASKED)
    assert lib.ap_net_close(engine.net, slot) == lib.AP_EINVAL
    assert engine.flush() == 2
    assert lib.ap_net_close(engine.net, slot) == 0
    assert [engine.read(it) for it in connections] == [b"x", b"", b"x"]


def test_limits_of_the_table() -> None:
    engine = Engine(capacity=2)
    first, _ = engine.connect(), engine.connect()
    number = ffi.new("uint64_t *")
    with socket.socket() as spare:
        add = lib.ap_net_add
        assert add(engine.net, spare.fileno(), 0, PEER, 8, number) == lib.AP_EFULL
        lib.ap_net_break(engine.net, first & 0xFFFFFFFF, lib.AP_CLOSE_ASKED)
        engine.broken()
        assert add(engine.net, spare.fileno(), 0, PEER + b"x", 9, number) == lib.AP_EINVAL
        assert add(engine.net, 999_999, 0, PEER, 8, number) == lib.AP_EINVAL
    lib.ap_net_break(engine.net, 77, lib.AP_CLOSE_ASKED)
    assert engine.net.broken_count == 0
    assert lib.ap_net_close(engine.net, 77) == lib.AP_EINVAL
    assert engine.put(77, b"x") == engine.put(1 << 32 | 1 << 20, b"x") == lib.AP_EGONE
