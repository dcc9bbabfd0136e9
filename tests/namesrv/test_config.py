"""The KV table and the settings over restarts, and on a disk that is full."""

import json

import pytest

from appliance.namesrv import kv_file
from appliance.namesrv.settings import Settings
from appliance.net import requests
from appliance.net.frame import Frame
from appliance.net.json_text import JsonError
from tests.namesrv.wire import Bench, PaperDisk


def kept() -> Settings:
    return Settings.kept_in("root/namesrv", 9876)


def put(bench: Bench, value: object = "v") -> Frame:
    return bench.ask(
        requests.ask("PUT_KV_CONFIG", {"namespace": "n", "key": "k\u00e9", "value": value})
    )


def get(bench: Bench) -> Frame:
    return bench.ask(requests.ask("GET_KV_CONFIG", {"namespace": "n", "key": "k\u00e9"}))


def update(bench: Bench, text: str | bytes) -> Frame:
    body = text.encode() if isinstance(text, str) else text
    return bench.ask(requests.ask("UPDATE_NAMESRV_CONFIG", {}, body))


def test_the_table_is_on_disk_before_the_answer() -> None:
    bench = Bench(kept())
    assert put(bench).code == 0
    assert json.loads(bench.disk.files["root/namesrv/kvConfig.json"]) == {
        "configTable": {"n": {"ké": "v"}}
    }


def test_the_table_survives_a_restart() -> None:
    disk = PaperDisk()
    put(Bench(kept(), disk))
    again = Bench(kept(), disk)
    assert get(again).fields == {"value": "v"}
    again.ask(requests.ask("DELETE_KV_CONFIG", {"namespace": "n", "key": "k\u00e9"}))
    third = Bench(kept(), disk)
    assert get(third).code == 22
    answer = third.ask(requests.ask("GET_KVLIST_BY_NAMESPACE", {"namespace": "n"}))
    assert answer.body == b'{"table":{}}', "an emptied namespace stays"


def test_a_full_disk_is_told() -> None:
    bench = Bench(kept())
    bench.disk.full = True
    answer = put(bench)
    assert answer.code == 1
    assert answer.remark == (
        "root/namesrv/kvConfig.json could not be written: No space left on device"
    )
    bench.disk.full = False
    assert put(bench).code == 0


def test_a_file_that_is_no_table_stops_the_start() -> None:
    disk = PaperDisk()
    disk.files["root/namesrv/kvConfig.json"] = b"[1]"
    with pytest.raises(ValueError, match=r"root/namesrv/kvConfig\.json: not a KV file"):
        Bench(kept(), disk)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"configTable":[]}', b'{"configTable":{"n":1}}', b"{"]
)
def test_a_kv_file_has_one_form(content: bytes) -> None:
    with pytest.raises(JsonError):
        kv_file.read(content)


def test_without_files_nothing_is_written() -> None:
    bench = Bench()
    put(bench)
    update(bench, "orderMessageEnable=true")
    assert bench.disk.files == {}


def test_namespace_and_key_are_required() -> None:
    bench = Bench()
    for fields in ({"namespace": "n"}, {"key": "k"}):
        answer = bench.ask(requests.ask("PUT_KV_CONFIG", fields))
        assert (answer.code, answer.remark) == (1, "namespace or key is null")
    assert put(bench, None).code == 0
    assert get(bench).fields == {"value": ""}


def test_changed_settings_survive_a_restart() -> None:
    disk = PaperDisk()
    bench = Bench(kept(), disk)
    assert update(bench, "# comment\n\norderMessageEnable = TRUE\nlistenPort=1\nfoo=bar").code == 0
    settings = Bench(kept(), disk).server.state.settings
    assert settings.order_message_enable
    assert settings.listen_port == 9876, "the port is open already"


@pytest.mark.parametrize(
    "key", ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"]
)
def test_some_settings_cannot_be_changed(key: str) -> None:
    bench = Bench()
    answer = update(bench, f"orderMessageEnable=true\n{key}=/x")
    assert (answer.code, answer.remark) == (16, "Can not update config in black list.")
    assert not bench.server.state.settings.order_message_enable


@pytest.mark.parametrize("text", ["=x", b"\xff"])
def test_text_that_is_no_properties(text: str | bytes) -> None:
    answer = update(Bench(), text)
    assert (answer.code, answer.remark) == (1, "string2Properties error")


def test_settings_are_told_as_sorted_lines() -> None:
    lines = Bench().ask(requests.ask("GET_NAMESRV_CONFIG", {})).body.decode().splitlines()
    assert lines == sorted(lines)
    assert {"listenPort=9876", "orderMessageEnable=false"} < set(lines)


def test_a_value_that_does_not_parse_is_left() -> None:
    settings = Settings()
    settings.apply({"scanNotActiveBrokerInterval": "soon", "waitSecondsForService": "7"})
    assert settings.scan_not_active_broker_interval == 5000
    assert settings.wait_seconds_for_service == 7
