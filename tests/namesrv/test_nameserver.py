"""The process: frames that are none, codes that are not served, pushes, and anything at all."""

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.clock import Clock
from appliance.commitlog.disk import RealDisk
from appliance.nameserver import NameServer
from appliance.namesrv.settings import Settings
from appliance.namesrv.state import BrokerGroup
from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import ROCKETMQ, Frame, FrameError
from appliance.net.poll import SocketLimits, Sockets
from appliance.net.requests import BY_CODE, NAMESRV
from tests.namesrv.test_routes import BODY, IDENTITY, register
from tests.namesrv.wire import Bench

SERVED = sorted(row.code for row in BY_CODE.values() if row.served_by & NAMESRV)


@pytest.mark.parametrize("code", [0, -1, 10, 34, 907, 99_999])
def test_codes_that_a_nameserver_does_not_serve(code: int) -> None:
    answer = Bench().ask(Frame(code))
    assert (answer.code, answer.remark) == (3, f" request type {code} not supported")


def test_a_frame_that_is_none_closes_its_connection_alone() -> None:
    bench = Bench()
    register(bench)
    assert bench.send_bytes(struct.pack(">II", 6, 2) + b"[]", connection=9) == []
    assert bench.sockets.closed_by_us == [9]
    assert "b" in bench.server.state.groups


def test_an_answer_to_nothing_is_dropped() -> None:
    bench = Bench()
    assert bench.send_bytes(frames.encode(Frame(106, flag=frames.RESPONSE))) == []
    assert bench.sockets.closed_by_us == []


def test_one_way_requests_are_not_answered() -> None:
    bench = Bench()
    bench.tell(Frame(106))
    bench.tell(Frame(99_999))


def test_a_binary_request_has_a_binary_answer() -> None:
    answer = Bench().ask(Frame(105, fields={"topic": "T"}, serialization=ROCKETMQ))
    assert (answer.serialization, answer.code) == (ROCKETMQ, 17)


def test_an_answer_beyond_the_frame_limit_is_refused() -> None:
    bench = Bench()
    bench.server.state.topics = {f"{i}{'x' * 65_536}": {} for i in range(257)}
    answer = bench.ask(Frame(206))
    assert answer.code == 1
    assert answer.remark is not None
    assert "over the limit" in answer.remark


def test_many_requests_in_one_step() -> None:
    bench = Bench()
    data = b"".join(frames.encode(Frame(106, opaque=i)) for i in range(50))
    assert [answer.opaque for answer in bench.send_bytes(data)] == list(range(50))


def test_idle_connections_are_swept() -> None:
    bench = Bench(Settings(server_channel_max_idle_time_seconds=7))
    bench.pass_time(3_000)
    assert {idle_ns for _, idle_ns in bench.sockets.swept} == {7_000_000_000}
    assert len(bench.sockets.swept) == 3


def test_a_push_that_cannot_be_delivered_is_given_up() -> None:
    bench = Bench(Settings(notify_min_broker_id_changed=True))

    def refuse(address: str) -> object:
        raise ConnectionRefusedError

    bench.server._connect = refuse  # type: ignore[assignment]
    for broker_id in (1, 0):
        register(bench, brokerId=broker_id, brokerAddr=f"h:{broker_id}")
    bench.pass_time(5_000)
    assert bench.peers.heard == []
    assert bench.server._pushes == {}


def test_a_broker_that_registers_on_two_connections_belongs_to_the_last() -> None:
    bench = Bench()
    frame = requests.ask("REGISTER_BROKER", IDENTITY, BODY)
    for connection in (1, 2):
        bench.ask(frame, connection)
    bench.close(1)
    assert "b" in bench.server.state.groups
    bench.close(2)
    assert bench.server.state.groups == {}


def test_over_real_sockets_and_files(tmp_path: Path) -> None:
    """Two brokers of a group on TCP; one leaves and the other is told on its own port."""
    clock = Clock()
    sockets = Sockets(SocketLimits(connections_max=64, frame_max=1 << 24, backlog_max=1 << 20))
    settings = Settings.kept_in(str(tmp_path / "namesrv"), 0)
    settings.notify_min_broker_id_changed = True
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as slave,
    ):
        sockets.listen(listener)
        server = NameServer(sockets, RealDisk(), settings, clock.now())

        def until(done: Callable[[], bool]) -> None:
            end_ns = clock.now().monotonic_ns + 10_000_000_000
            while not done():
                now = clock.now()
                assert now.monotonic_ns < end_ns
                if not server.step(now):
                    server.wait(min(server.sleep_ms(now), 10), now)

        def register(broker_id: int, address: str) -> socket.socket:
            identity = {**IDENTITY, "brokerAddr": address, "brokerId": broker_id}
            values = {**identity, "haServerAddr": "h:2", "enableActingMaster": True}
            connection = socket.create_connection(listener.getsockname())
            connection.sendall(frames.encode(requests.ask("REGISTER_BROKER", values, BODY)))
            until(lambda: broker_id in server.state.groups.get("b", BrokerGroup("", "")).addresses)
            return connection

        address = f"127.0.0.1:{slave.getsockname()[1]}"
        with register(1, address) as second, register(0, "127.0.0.1:1") as first:
            put = {"namespace": "n", "key": "k", "value": "v"}
            second.sendall(frames.encode(requests.ask("PUT_KV_CONFIG", put)))
            until(lambda: bool(server.state.kv))
            first.close()
            until(lambda: not server._pushes and 0 not in server.state.groups["b"].addresses)
            codes = [[f.code for f in heard(slave)] for _ in range(2)]
        server.close()
    assert codes == [[905], [905]], "a master came, and went"
    assert (tmp_path / "namesrv" / "kvConfig.json").exists()


def heard(listener: socket.socket) -> list[Frame]:
    """What the next connection to a listener has said."""
    connection, _ = listener.accept()
    with connection:
        return [frames.decode(one) for one in frames.split(connection.recv(4096))[0]]


names = st.sampled_from(["b", "c", "h:1", "h:2", "0", "1", "true", "", "A", "é"])
fields = st.sampled_from(
    sorted({f.wire for code in SERVED for f in BY_CODE[code].asks} | {"__ZONE_NAME", "__ZONE_MODE"})
)
bodies = st.sampled_from(
    [
        *(b"", b"{}", b"[]", b"{", b"null", b"5", BODY, b"a=b", b"\x78\x9c", b"\xff"),
        b'{"queueDatas":[{"brokerName":"b"}]}',
        b'{"topicConfigSerializeWrapper":{"dataVersion":{"counter":"x"}}}',
        b'{"counter":3}',
        b"supportActingMaster=true\nnotifyMinBrokerIdChanged=true",
    ]
)


@given(
    st.lists(
        st.builds(
            Frame,
            code=st.sampled_from(SERVED),
            fields=st.dictionaries(fields, names, max_size=8),
            version=st.sampled_from([0, 300, 479]),
            body=bodies,
        ),
        max_size=12,
    )
)
def test_no_request_ends_the_process(asked: list[Frame]) -> None:
    bench = Bench(Settings.kept_in("root", 1))
    for frame in asked:
        bench.ask(frame)
    bench.pass_time(200_000, pace_ms=20_000)
    assert bench.server.state.live == {}


@given(st.binary(max_size=80))
def test_no_bytes_end_the_process(data: bytes) -> None:
    bench = Bench()
    try:
        bench.send_bytes(struct.pack(">I", len(data)) + data)
    except FrameError:
        assert len(data) < 4  # What the sockets themselves refuse.
