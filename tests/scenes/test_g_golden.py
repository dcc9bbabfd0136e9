"""The script that was played on a real 5.3.3 broker, played again on the wire: the same answers."""

from typing import Any

import pytest

from appliance.net.frame import Frame
from tests.broker.paper import PEER
from tests.broker.test_golden import CASES, NOT_SERVED_YET, compare, is_read, served
from tests.interop.brokers import Appliance
from tests.scenes.client import Client, connected, records

CAPTURED_ADDRESS = "127.0.0.1:10911"
RECORD_COUNTS = {"pull ok": 2, "pull by heartbeat subscription": 1}
"""The bodies themselves were not kept, and their ids differ in length."""

BROKER_CASES = [case for case in CASES if not case["name"].startswith("name server")]
NAMESERVER_CASES = [case for case in CASES if case["name"].startswith("name server")]


def replay(client: Client, case: dict[str, Any]) -> Frame:
    asked = case["request"]
    fields = dict(asked["extFields"])
    if fields.get("e") == "-1":
        fields["e"] = "0"  # where the real broker drew a queue, it drew the first
    # The captured client gave no version and was taken for Java, which listings show.
    body = (asked["body"] or "").encode()
    answer = client.ask(asked["code"], fields, body, version=0, language=0)
    if answer.remark is not None:
        answer.remark = answer.remark.replace(client.address, PEER)
    answer.body = answer.body.replace(client.address.encode(), PEER.encode())
    return answer


def compare_pull(case: dict[str, Any], answer: Frame) -> None:
    name, wanted = case["name"], case["response"]
    assert (answer.code, answer.remark) == (wanted["code"], wanted["remark"]), name
    wanted_fields = wanted["extFields"]
    assert {key: answer.fields[key] for key in wanted_fields} == wanted_fields, name
    assert answer.fields.keys() - wanted_fields.keys() <= {"offsetDelta"}, name
    assert len(records(answer)) == RECORD_COUNTS.get(name, 0), name


@pytest.fixture(scope="module")
def played(appliance: Appliance) -> dict[str, Frame]:
    """All answers, by the name of the case; those of the NameServer come before the end."""
    answers = {}
    with (
        connected(appliance.ports.broker) as client,
        connected(appliance.ports.nameserver) as names,
    ):
        for case in CASES:
            asked = names if case in NAMESERVER_CASES else client
            answers[case["name"]] = replay(asked, case)
    return answers


@pytest.mark.parametrize("case", BROKER_CASES, ids=lambda case: str(case["name"]))
def test_the_broker(played: dict[str, Frame], case: dict[str, Any]) -> None:
    answer = played[case["name"]]
    if not served(case):
        assert answer.code == 3
    elif is_read(case):
        if case["name"] != "pull after reset":
            compare_pull(case, answer)
    elif case["name"] not in NOT_SERVED_YET:
        compare(case, answer)


@pytest.mark.parametrize("case", NAMESERVER_CASES, ids=lambda case: str(case["name"]))
def test_the_nameserver(
    played: dict[str, Frame], appliance: Appliance, case: dict[str, Any]
) -> None:
    answer, wanted = played[case["name"]], case["response"]
    assert (answer.code, answer.remark) == (wanted["code"], wanted["remark"])
    address = f"127.0.0.1:{appliance.ports.broker}"
    body = answer.body.decode().replace(address, CAPTURED_ADDRESS)
    assert body == (wanted["body"] or "")
