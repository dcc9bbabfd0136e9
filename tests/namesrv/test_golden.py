"""Replays what a real 5.3.3 NameServer was asked, and compares with what it answered."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.namesrv.settings import Settings
from appliance.net import frame as frames
from appliance.net import json_text
from appliance.net.frame import Frame
from tests.namesrv.wire import Bench

GOLDEN = Path(__file__).parent.parent / "golden" / "namesrv"

SCRIPTS = {
    # The recording shows an ordered topic before it switches orderMessageEnable on, so the server
    # was started with it; its default is off.
    "frames_default": Settings(order_message_enable=True),
    "frames_zone_unit": Settings(),
    "frames_acting_master": Settings(
        support_acting_master=True,
        notify_min_broker_id_changed=True,
        delete_topic_with_broker_registration=True,
    ),
}

# Apache takes an announcement of one topic for the whole list and deletes all others (nameserver.md
# section 5, danger). We do not, so that TopicA and TopicC are still there.
DEVIATIONS: dict[str, Any] = {
    "am_topics2": {"topicList": ["TopicA", "TopicC", "TopicD"]},
    "old_route": {
        "brokerDatas": [
            {
                "brokerAddrs": {"0": "127.0.0.1:35200"},
                "brokerName": "abk",
                "cluster": "AC",
                "enableActingMaster": True,
            }
        ],
        "filterServerTable": {},
        "queueDatas": [
            {
                "brokerName": "abk",
                "perm": 4,
                "readQueueNums": 4,
                "topicSysFlag": 0,
                "writeQueueNums": 4,
            }
        ],
    },
}


def load(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_replays_the_recording(script: str) -> None:
    bench = Bench(SCRIPTS[script])
    pushed: list[Frame] = []
    for step in load(script)["script"]:
        match step:
            case {"action": "wait", "seconds": seconds}:
                bench.pass_time(int(seconds * 1000))
            case {"action": "close", "conn": connection}:
                bench.close(connection)
            case {"action": "observe"}:
                pass
            case {"direction": "server->broker", "request": request}:
                pushed.append(decode(request))
            case {"conn": connection, "request": request, "response": response}:
                answer = bench.send_bytes(bytes.fromhex(request["hex"]), connection)
                compare(answer, decode(response), step["name"])
            case _:
                pytest.fail(f"unknown step {step}")
    bench.pass_time(1000)
    assert Counter(map(push_key, pushed)) == Counter(push_key(f) for _, f in bench.peers.heard)


def test_forgets_a_broker_that_said_so() -> None:
    """The last step of the recording: three seconds of silence, noticed by a scan every five."""
    bench = Bench()
    step = next(s for s in load("frames_default")["script"] if s.get("name") == "register_expire3s")
    (answer,) = bench.send_bytes(bytes.fromhex(step["request"]["hex"]), step["conn"])
    assert answer.code == 0
    bench.pass_time(3_000)
    assert "bkE" in bench.server.state.groups
    bench.pass_time(5_000)
    assert "bkE" not in bench.server.state.groups
    assert bench.sockets.closed_by_us == [step["conn"]]


@pytest.mark.parametrize("scene", load("broker_frames"))
def test_accepts_what_real_brokers_send(scene: str) -> None:
    bench = Bench()
    for exchange in load("broker_frames")[scene]["frames"]:
        answers = bench.send_bytes(bytes.fromhex(exchange["request"]["hex"]), exchange["conn"])
        if "response" not in exchange:
            assert answers == []
        elif scene == "compressed_register_bug":
            # A real NameServer fails on a deflated body that the header does not announce.
            assert [answer.code for answer in answers] == [0]
            assert "TBW102" in bench.server.state.topics
        elif scene != "single_topic_register":  # The recording lacks the broker's registration.
            assert [answer.code for answer in answers] == [exchange["response"]["header"]["code"]]


def decode(recorded: dict[str, Any]) -> Frame:
    (frame,), _ = frames.split(bytes.fromhex(recorded["hex"]))
    return frames.decode(frame)


def compare(answers: list[Frame], expected: Frame, name: str) -> None:
    (answer,) = answers
    if name in DEVIATIONS:
        assert (answer.code, unordered(json_text.loads(answer.body))) == (0, DEVIATIONS[name])
        return
    assert answer.code == expected.code, name
    assert answer.remark == expected.remark, name
    assert answer.fields == expected.fields, name
    assert answer.opaque == expected.opaque, name
    assert answer.version == expected.version, name
    wanted = json_text.loads(expected.body) if expected.body else None
    found = json_text.loads(answer.body) if answer.body else None
    assert unordered(found) == unordered(wanted), name
    # Strict readers choose by version: a body that was standard JSON must stay it.
    if expected.body:
        assert strict(answer.body) == strict(expected.body), name


def strict(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def unordered(value: Any) -> Any:
    """Bodies with every list as a set: their order is that of Java's hash tables."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((unordered(item) for item in value), key=repr)
    return value


def push_key(frame: Frame) -> tuple[Any, ...]:
    return (frame.code, frame.flag, tuple(sorted(frame.fields.items())))
