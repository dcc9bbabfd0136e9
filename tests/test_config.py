"""config.py: the defaults, what the file may say, and how mistakes are told."""

import os
from pathlib import Path

import msgspec
import pytest

from appliance.config import (
    SECTIONS,
    Broker,
    Config,
    ConfigError,
    Limits,
    Nameserver,
    Store,
    load,
    settings,
)
from appliance.net.frame import FRAME_SIZE_MAX
from appliance.values import GIB, KIB, MIB

COMPLETE = """
[broker]
cluster = "C1"
name = "broker-b"
id = 3
listen = "[::1]:20911"
advertise = "::1"
nameservers = ["10.0.0.1:9876", "names.example:9876"]
frontends = 4
auto_create_topics = false
auto_create_groups = false
default_topic_queues = 4

[nameserver]
enabled = false
listen = "0.0.0.0:9877"

[store]
root = "/var/lib/appliance"
flush = "async"
commitlog_file_size = "64MiB"
consumequeue_entries = 1000
retention = "90m"
max_message_size = 1048576

[log]
level = "debug"
format = "json"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str) -> Config:
    Path("broker.toml").write_text(text)
    return load("broker.toml")


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    return caught.value.lines


def test_the_defaults_are_the_documented_ones() -> None:
    config = load(None)
    broker = config.broker
    assert (broker.cluster, broker.name, broker.id) == ("DefaultCluster", "broker-a", 0)
    assert (broker.listen, broker.advertise) == ("127.0.0.1:10911", "127.0.0.1")
    assert broker.nameservers == ("127.0.0.1:9876",)
    assert broker.frontends == min(64, len(os.sched_getaffinity(0)))
    assert broker.auto_create_topics
    assert config.nameserver == Nameserver(enabled=True, listen="127.0.0.1:9876")
    assert config.store.root == "appliance-data"
    assert config.store.flush == "sync"
    assert config.store.commitlog_file_size == GIB
    assert config.store.retention_ms == 48 * 3600 * 1000
    assert config.store.max_message_size == 4 * MIB
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_an_empty_file_gives_the_defaults(folder: Path) -> None:
    config = loaded("")
    assert config == msgspec.structs.replace(load(None), source="broker.toml")


def test_every_setting_can_be_set(folder: Path) -> None:
    config = loaded(COMPLETE)
    defaults = load(None)
    for name, section in SECTIONS.items():
        for row in settings(section):
            value = getattr(getattr(config, name), row.attribute)
            assert value != getattr(getattr(defaults, name), row.attribute), f"[{name}] {row.key}"
    assert config.store.retention_ms == 90 * 60 * 1000
    assert config.store.max_message_size == MIB


def test_addresses_are_derived(folder: Path) -> None:
    broker = loaded(COMPLETE).broker
    assert (broker.host, broker.port, broker.vip_port, broker.ha_port) == (
        "::1",
        20911,
        20909,
        20912,
    )
    assert broker.address == "[::1]:20911"
    assert broker.ha_address == "[::1]:20912"
    assert Broker(advertise="broker.example").address == "broker.example:10911"
    assert Nameserver().port == 9876


def test_folders_are_derived() -> None:
    store = Store(root="data")
    assert store.commitlog_folder == Path("data/commitlog")
    assert store.consumequeue_folder == Path("data/consumequeue")
    assert store.config_folder == Path("data/config")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[store]\nflush = "fast"',
            'broker.toml: [store] flush: found "fast", allowed "sync" or "async"',
        ),
        (
            "[broker]\nfrontends = 0",
            "broker.toml: [broker] frontends: found 0, allowed a whole number from 1 to 64",
        ),
        (
            "[broker]\nid = true",
            "broker.toml: [broker] id: found true, allowed a whole number from 0 to 2147483647",
        ),
        (
            "[broker]\nauto_create_topics = 1",
            "broker.toml: [broker] auto_create_topics: found 1, allowed true or false",
        ),
        (
            "[broker]\nfrontend = 2",
            'broker.toml: [broker] frontend: unknown key, did you mean "frontends"?',
        ),
        (
            "[log]\nzzz = 2",
            "broker.toml: [log] zzz: unknown key, known are level, format",
        ),
        (
            "[stroe]\n",
            'broker.toml: [stroe]: unknown section, did you mean "store"?',
        ),
        (
            "store = 5",
            "broker.toml: store: found 5, allowed a section [store]",
        ),
        (
            '[nameserver]\nlisten = "127.0.0.1:10909"',
            'broker.toml: [nameserver] listen: found "127.0.0.1:10909", allowed any port but '
            "10909, which is the broker's VIP port",
        ),
        (
            '[store]\ncommitlog_file_size = "1MiB"\nmax_message_size = "1MiB"',
            'broker.toml: [store] max_message_size: found "1MiB", allowed at most "960KiB" where '
            'commitlog_file_size is "1MiB"',
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(folder: Path, text: str, line: str) -> None:
    assert mistakes(text) == [line]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(
            ("broker", "listen", value)
            for value in ["10911", "127.0.0.1:2", "127.0.0.1:65535", "300.1.1.1:10911", "::1:10911"]
        ),
        *(
            ("broker", "listen", value)
            for value in ["a b:10911", "-a:10911", "[a]:10911", ":10911"]
        ),
        *(("broker", "advertise", value) for value in ["", "0.0.0.0", "::", "1.2.3", "a_/", "[a]"]),
        *(("broker", "name", value) for value in ["", "a b", "a\n", "x" * 128, "ä", "a/b"]),
        *(("store", "commitlog_file_size", value) for value in ["1", "1KB", "1 YiB", "-1MiB", ""]),
        *(("store", "commitlog_file_size", value) for value in ["1KiB", "2GiB", "1e3MiB"]),
        *(("store", "retention", value) for value in ["48", "0h", "h", "1w", "99999999999999d"]),
        ("store", "root", ""),
        ("log", "level", "INFO"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(
    folder: Path, section: str, key: str, value: str
) -> None:
    quoted = msgspec.json.encode(value).decode()
    (line,) = mistakes(f"[{section}]\n{key} = {quoted}")
    assert line.startswith(f"broker.toml: [{section}] {key}: found ")
    assert "\n" not in line


@pytest.mark.parametrize("value", ["[1]", '["a"]', '"127.0.0.1:9876"', "{}", '["127.0.0.1:0"]'])
def test_a_list_of_addresses_is_checked(folder: Path, value: str) -> None:
    (line,) = mistakes(f"[broker]\nnameservers = {value}")
    assert "allowed a list of addresses" in line


@pytest.mark.parametrize("value", ["1979-05-27", "nan", "[1, 2]", '{ a = "b" }'])
def test_a_value_of_any_type_is_shown(folder: Path, value: str) -> None:
    assert len(mistakes(f"[log]\nlevel = {value}")) == 1


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    lines = mistakes('[broker]\nid = -1\nname = ""\n[store]\nflush = 1\n[log]\nlevle = "info"')
    assert [line.split(":")[1].strip() for line in lines] == [
        "[broker] id",
        "[broker] name",
        "[store] flush",
        "[log] levle",
    ]


def test_a_long_value_is_cut(folder: Path) -> None:
    (line,) = mistakes(f'[log]\nlevel = "{"x" * 5000}"')
    assert len(line) < 250


def test_what_cannot_be_read_is_told(folder: Path) -> None:
    assert mistakes("[broker") == [
        "broker.toml: not TOML: Expected ']' at the end of a table declaration (at end of document)"
    ]
    Path("latin.toml").write_bytes(b'[broker]\nname = "\xe4"')
    for path, reason in [
        ("missing.toml", "No such file or directory"),
        (".", "Is a directory"),
        ("latin.toml", "byte 17 is not UTF-8"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.lines == [f"{path}: {reason}"]


def test_small_files_shrink_the_default_message(folder: Path) -> None:
    store = loaded('[store]\ncommitlog_file_size = "128KiB"').store
    assert store.max_message_size == 64 * KIB


def test_nothing_can_be_changed_after_the_start() -> None:
    with pytest.raises(AttributeError):
        load(None).broker.port = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Limits().frame_max = 1  # type: ignore[misc]


def test_the_limits_fit_together() -> None:
    assert Limits().frame_max == FRAME_SIZE_MAX
    Limits().admit(Store(max_message_size=8 * MIB))
    Limits.small().admit(Store(max_message_size=64 * KIB))
    for broken in ({"ring_entries": 100}, {"arena_size": MIB}, {"queue_rows_max": 1}):
        with pytest.raises(AssertionError):
            Limits(**broken)


def test_the_readme_lists_every_setting() -> None:
    readme = Path(__file__).parent.parent.joinpath("README.md").read_text()
    for section in SECTIONS.values():
        for row in settings(section):
            assert any(
                line.startswith(f"{row.key} = ") and row.meaning in line
                for line in readme.splitlines()
            ), row.key
