"""The request table, the binding of handlers, and answers."""

from types import ModuleType
from typing import Any

import pytest

from appliance.net import frame as frames
from appliance.net import requests
from appliance.net.frame import ROCKETMQ, Frame
from appliance.net.json_text import JsonError
from appliance.net.requests import (
    BY_CODE,
    BY_NAME,
    CLIENT,
    NAMESRV,
    BindError,
    Handler,
    RefusedError,
    Request,
    Response,
    Row,
)
from tools.codes import SNAPSHOT, table


def module(*functions: Handler, name: str = "handlers") -> ModuleType:
    made = ModuleType(name)
    for function in functions:
        function.__module__ = name
        setattr(made, function.__name__, function)
    return made


def is_wipe(row: Row) -> bool:
    return row.name == "WIPE_WRITE_PERM_OF_BROKER"


def wipe_write_perm_of_broker(request: Request, state: Any) -> Response:
    return Response()


def test_the_table_is_what_was_pinned() -> None:
    """A change of the protocol is a decision: `python -m tools.codes --write`."""
    assert table() == SNAPSHOT.read_text()


def test_both_indexes_hold_every_row() -> None:
    assert {row.name: row for row in BY_CODE.values()} == BY_NAME


def test_every_row_reads_an_empty_header() -> None:
    for row in BY_CODE.values():
        args = vars(requests.request(Frame(row.code), now_ms=0).args)
        assert set(args) == {field.name for field in row.asks}


def test_rows_of_one_family_have_the_same_names() -> None:
    """Handlers of sends see long names, whichever code a client prefers."""
    long = {field.name for field in BY_NAME["SEND_MESSAGE"].asks}
    for name in ("SEND_MESSAGE_V2", "SEND_BATCH_MESSAGE", "SEND_REPLY_MESSAGE_V2"):
        assert {field.name for field in BY_NAME[name].asks} == long | {"bname"}


def test_letters_on_the_wire_become_long_names() -> None:
    header = {"a": "group", "b": "topic", "e": "3", "m": "true", "j": "x"}
    args = requests.request(Frame(310, fields=header), now_ms=0).args
    assert (args.producerGroup, args.topic, args.queueId) == ("group", "topic", 3)
    assert (args.batch, args.reconsumeTimes) == (True, None)


def test_asking_writes_the_letters() -> None:
    frame = requests.ask("SEND_MESSAGE_V2", {"topic": "T", "queueId": 0, "batch": False})
    assert frame.fields == {"b": "T", "e": "0", "m": "false"}
    assert frame.code == 310


def test_bind_finds_functions_by_name() -> None:
    bound = requests.bind(is_wipe, [module(wipe_write_perm_of_broker)])
    assert bound == {205: wipe_write_perm_of_broker}


def test_bind_misses_a_function() -> None:
    with pytest.raises(BindError, match=r"no function .* wipe_write_perm_of_broker"):
        requests.bind(is_wipe, [module()])


def test_bind_finds_a_function_without_row() -> None:
    with pytest.raises(BindError, match=r"no served row .* wipe_write_perm_of_broker"):
        requests.bind(lambda row: False, [module(wipe_write_perm_of_broker)])


def test_bind_refuses_two_functions_for_one_row() -> None:
    modules = [module(wipe_write_perm_of_broker), module(wipe_write_perm_of_broker)]
    with pytest.raises(BindError, match="two functions"):
        requests.bind(is_wipe, modules)


def test_bind_leaves_out_what_is_imported_or_private() -> None:
    handlers = module(wipe_write_perm_of_broker)
    handlers.imported = test_bind_finds_functions_by_name  # type: ignore[attr-defined]
    handlers._private = is_wipe  # type: ignore[attr-defined]
    assert len(requests.bind(is_wipe, [handlers])) == 1


def test_bind_leaves_out_rows_that_are_not_built() -> None:
    assert not requests.bind(lambda row: bool(row.served_by & NAMESRV) and not row.served, [])


def test_clients_serve_what_brokers_push() -> None:
    pushed = {row.code for row in BY_CODE.values() if row.served_by & CLIENT}
    assert pushed == {39, 40, 220, 221, 307, 309, 326}


@pytest.mark.parametrize("serialization", [frames.JSON, ROCKETMQ])
def test_an_answer_mirrors_its_request(serialization: int) -> None:
    asked = Frame(105, opaque=-7, flag=2, version=300, serialization=serialization)
    answer = requests.answer(asked, Response(17, "no", {"a": True, "b": 1, "c": None}, b"body"))
    assert (answer.code, answer.opaque, answer.flag) == (17, -7, frames.RESPONSE)
    assert (answer.remark, answer.body) == ("no", b"body")
    assert answer.fields == {"a": "true", "b": "1"}
    assert (answer.language, answer.version) == (frames.PYTHON, 479)
    assert answer.serialization == serialization


def test_an_unknown_code_gets_apaches_remark() -> None:
    assert requests.unsupported(999) == Response(3, " request type 999 not supported")


def test_a_refusal_becomes_its_response() -> None:
    def refuse(request: Request, state: object) -> Response:
        raise RefusedError(16, "not you")

    asked = requests.request(Frame(106), now_ms=0)
    assert requests.call(refuse, asked, None) == Response(16, "not you")


def test_an_unreadable_body_is_the_peers_mistake() -> None:
    def read(request: Request, state: object) -> Response:
        raise JsonError("'}' expected")

    asked = requests.request(Frame(106), now_ms=0)
    response = requests.call(read, asked, None)
    assert (response.code, response.remark) == (
        1,
        "the body of GET_BROKER_CLUSTER_INFO is not readable: '}' expected",
    )


def test_a_request_shows_what_its_frame_says() -> None:
    asked = requests.request(
        Frame(106, flag=frames.ONEWAY, language=9, version=317, body=b"x"), now_ms=5, peer="p"
    )
    assert (asked.oneway, asked.language, asked.version) == (True, 9, 317)
    assert (asked.body, asked.now_ms, asked.peer) == (b"x", 5, "p")
