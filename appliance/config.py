"""Every setting of broker.toml and every internal limit, frozen before the first fork.

Runs in: every process; `load` in the supervisor and in the commands alone.
Owns: nothing. A setting's row is its field: type, kind (what is allowed) and meaning.
Fails: `ConfigError` with one line for each mistake in the file; asserts that limits fit together.
"""

import os
import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import field

from appliance.values import (
    ADDRESS,
    ADDRESSES,
    ADVERTISED,
    DURATION,
    FLAG,
    FOLDER,
    GIB,
    KIB,
    LISTEN,
    MIB,
    NAME,
    VIP_PORT_DISTANCE,
    Kind,
    choice,
    join_address,
    number,
    size,
    size_text,
    split_address,
)

RECORD_ROOM_SIZE = 64 * KIB
"""What a message may need beside its body, as a record or as a frame: header, topic, properties."""


class ConfigError(ValueError):
    """The configuration cannot be used. `lines` tells every mistake, ready to be printed."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


# ---- the settings -------------------------------------------------------------------------------

Flush = Literal["sync", "async"]
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "journal", "json", "text"]


def _core_count() -> int:
    return min(len(os.sched_getaffinity(0)), 64)


class Broker(msgspec.Struct, frozen=True):
    """[broker]: who this broker is and where it is reached."""

    cluster: Annotated[str, NAME, "the cluster that it belongs to"] = "DefaultCluster"
    name: Annotated[str, NAME, "shared by a master and its slaves"] = "broker-a"
    id: Annotated[int, number(0, (1 << 31) - 1), "0 is the master, above 0 a slave"] = 0
    listen: Annotated[str, LISTEN, "where clients connect"] = "127.0.0.1:10911"
    advertise: Annotated[str, ADVERTISED, "the host that clients are told"] = "127.0.0.1"
    nameservers: Annotated[tuple[str, ...], ADDRESSES, "every one is registered with"] = (
        "127.0.0.1:9876",
    )
    frontends: Annotated[
        int, number(1, 64), "processes that serve clients; by default one a core"
    ] = field(default_factory=_core_count)
    auto_create_topics: Annotated[bool, FLAG, "a send to an unknown topic creates it"] = True
    auto_create_groups: Annotated[bool, FLAG, "a heartbeat of an unknown group creates it"] = True
    default_topic_queues: Annotated[
        int, number(1, 1024), "most queues of a topic that is created by itself"
    ] = 8

    @property
    def host(self) -> str:
        """Where to listen, without brackets."""
        return split_address(self.listen)[0]

    @property
    def port(self) -> int:
        """The port that serves every request."""
        return split_address(self.listen)[1]

    @property
    def vip_port(self) -> int:
        """The port that older clients and the dashboard use."""
        return self.port - VIP_PORT_DISTANCE

    @property
    def ha_port(self) -> int:
        """The port that slaves connect to."""
        return self.port + 1

    @property
    def address(self) -> str:
        """What clients and NameServers are told: `host:port`."""
        return join_address(self.advertise, self.port)

    @property
    def ha_address(self) -> str:
        """What slaves are told: `host:port`."""
        return join_address(self.advertise, self.ha_port)


class Nameserver(msgspec.Struct, frozen=True):
    """[nameserver]: our own, as one of the supervisor's children."""

    enabled: Annotated[bool, FLAG, "run one beside the broker"] = True
    listen: Annotated[str, ADDRESS, "where clients and brokers connect"] = "127.0.0.1:9876"

    @property
    def host(self) -> str:
        """Where to listen, without brackets."""
        return split_address(self.listen)[0]

    @property
    def port(self) -> int:
        """The port that serves every request."""
        return split_address(self.listen)[1]


class Store(msgspec.Struct, frozen=True):
    """[store]: where messages are kept, how safely and for how long. Sizes are in bytes."""

    root: Annotated[str, FOLDER, "Apache's storePathRootDir; created when missing"] = (
        "appliance-data"
    )
    flush: Annotated[
        Flush,
        choice(Flush),
        "when a send is acknowledged: sync once it is on disk (group commit), async once it is "
        "in the page cache",
    ] = "sync"
    commitlog_file_size: Annotated[
        int, size(128 * KIB, 2047 * MIB), "of one CommitLog file; fixed for the store's life"
    ] = GIB
    consumequeue_entries: Annotated[
        int, number(64, 100_000_000), "rows of 20 bytes in one ConsumeQueue file"
    ] = 300_000
    retention_ms: Annotated[int, DURATION, "files in which every message is older are deleted"] = (
        field(default=48 * 3_600_000, name="retention")
    )
    max_message_size: Annotated[
        int, size(KIB, 8 * MIB), "longest body; by default less where a CommitLog file is smaller"
    ] = 4 * MIB

    @property
    def commitlog_folder(self) -> Path:
        """The log's files."""
        return Path(self.root, "commitlog")

    @property
    def consumequeue_folder(self) -> Path:
        """One folder a topic, in it one a queue."""
        return Path(self.root, "consumequeue")

    @property
    def index_folder(self) -> Path:
        """The key index."""
        return Path(self.root, "index")

    @property
    def config_folder(self) -> Path:
        """Apache's JSON files: topics, groups, offsets."""
        return Path(self.root, "config")


class Log(msgspec.Struct, frozen=True):
    """[log]: what is written to standard error, and how."""

    level: Annotated[Level, choice(Level), "the least that is written"] = "info"
    format: Annotated[
        Format, choice(Format), "auto is journal under systemd and text elsewhere"
    ] = "auto"


class Config(msgspec.Struct, frozen=True):
    """A whole configuration. `source` names the file for messages."""

    broker: Broker = field(default_factory=Broker)
    nameserver: Nameserver = field(default_factory=Nameserver)
    store: Store = field(default_factory=Store)
    log: Log = field(default_factory=Log)
    source: str = "(defaults)"


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "broker": Broker,
    "nameserver": Nameserver,
    "store": Store,
    "log": Log,
}


class Setting(NamedTuple):
    """One row: a key of the file, its default as it would be written there, and its meaning."""

    key: str
    attribute: str
    kind: Kind
    default: Any
    meaning: str


def settings(section: type[msgspec.Struct]) -> Iterator[Setting]:
    """The rows of one section, in the order of its fields."""
    hints = get_type_hints(section, include_extras=True)
    defaults = section()
    for row in msgspec.structs.fields(section):
        _, kind, meaning = get_args(hints[row.name])
        yield Setting(row.encode_name, row.name, kind, getattr(defaults, row.name), meaning)


# ---- from the file to a Config ------------------------------------------------------------------


def load(path: str | Path | None) -> Config:
    """Read and check a configuration; None gives the defaults. Raises ConfigError."""
    if path is None:
        return Config()
    document = _parse(path)
    lines = [
        f"[{name}]: unknown section, {_advice(name, SECTIONS)}"
        for name in document
        if name not in SECTIONS
    ]
    values = {name: _read_section(name, document.get(name, {}), lines) for name in SECTIONS}
    if not lines:
        config = _build(values, str(path))
        lines = list(_conflicts(config))
    if lines:
        raise ConfigError([f"{path}: {line}" for line in lines])
    return config


def _parse(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_bytes().decode())
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: byte {error.start} is not UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def _read_section(name: str, table: Any, lines: list[str]) -> dict[str, Any]:
    """Typed values by attribute, of the keys that are there; mistakes are added to `lines`."""
    if not isinstance(table, dict):
        lines.append(f"{name}: found {_shown(table)}, allowed a section [{name}]")
        return {}
    rows = {row.key: row for row in settings(SECTIONS[name])}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in rows:
            lines.append(f"[{name}] {key}: unknown key, {_advice(key, rows)}")
            continue
        row = rows[key]
        try:
            values[row.attribute] = row.kind.read(value)
        except ValueError:
            lines.append(f"[{name}] {key}: found {_shown(value)}, allowed {row.kind.allowed}")
    return values


def _build(values: dict[str, dict[str, Any]], source: str) -> Config:
    store = values["store"]
    file_size = store.get("commitlog_file_size", GIB)
    # Who shrinks the files has not asked for a message that cannot be stored.
    store.setdefault("max_message_size", min(4 * MIB, file_size - RECORD_ROOM_SIZE))
    return Config(
        Broker(**values["broker"]),
        Nameserver(**values["nameserver"]),
        Store(**store),
        Log(**values["log"]),
        source,
    )


def _conflicts(config: Config) -> Iterator[str]:
    """What is wrong between settings that are right by themselves."""
    broker, nameserver, store = config.broker, config.nameserver, config.store
    ports = {broker.port: "", broker.vip_port: "VIP ", broker.ha_port: "replication "}
    if nameserver.enabled and nameserver.port in ports:
        yield (
            f'[nameserver] listen: found "{nameserver.listen}", allowed any port but '
            f"{nameserver.port}, which is the broker's {ports[nameserver.port]}port"
        )
    most = store.commitlog_file_size - RECORD_ROOM_SIZE
    if store.max_message_size > most:
        yield (
            f'[store] max_message_size: found "{size_text(store.max_message_size)}", allowed at '
            f'most "{size_text(most)}" where commitlog_file_size is '
            f'"{size_text(store.commitlog_file_size)}"'
        )


def _advice(word: str, known: dict[str, Any]) -> str:
    near = get_close_matches(word, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"


def _shown(value: Any) -> str:
    """A value as the file's author would recognise it, in one line of bounded length."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


# ---- internal limits ----------------------------------------------------------------------------


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Every limit that is not a setting. Frames beyond one are refused, never queued unbounded."""

    frame_max: int = 16 * MIB
    """Bytes of one frame; Apache's com.rocketmq.remoting.frameMaxLength."""
    connections_max: int = 16_384
    """Open connections of one frontend."""
    response_backlog_max: int = 8 * MIB
    """Bytes that one client may leave unread before its connection is closed."""
    idle_ns: int = 120 * 1_000_000_000
    """A connection that is silent for so long is closed (serverChannelMaxIdleTimeSeconds)."""
    ring_entries: int = 16_384
    """Descriptors of a send ring, and of its completion ring."""
    frame_ring_entries: int = 8_192
    """Descriptors of a ring of whole frames."""
    arena_size: int = 16 * MIB
    """Bytes beside one ring of descriptors."""
    topics_max: int = 32_768
    queue_rows_max: int = 524_288
    """Queues of all topics together."""
    groups_max: int = 16_384
    subscriptions_max: int = 65_536
    """Pairs of group and topic."""
    offsets_max: int = 262_144
    """Consumer offsets: triples of group, topic and queue."""

    def __post_init__(self) -> None:
        for entries in (self.ring_entries, self.frame_ring_entries):
            assert entries > 0 and entries & (entries - 1) == 0, "rings are powers of two"
        assert self.arena_size >= self.frame_max, "a frame fits into an arena"
        assert self.response_backlog_max > RECORD_ROOM_SIZE
        assert self.queue_rows_max >= self.topics_max
        assert self.offsets_max >= self.groups_max
        assert self.subscriptions_max >= self.groups_max

    @classmethod
    def small(cls) -> "Limits":
        """The same shape in a megabyte or two: for tests, and to meet every limit soon."""
        return cls(
            frame_max=128 * KIB,
            connections_max=64,
            response_backlog_max=256 * KIB,
            ring_entries=64,
            frame_ring_entries=32,
            arena_size=256 * KIB,
            topics_max=64,
            queue_rows_max=512,
            groups_max=32,
            subscriptions_max=128,
            offsets_max=512,
        )

    def admit(self, store: Store) -> None:
        """Assert that the longest message fits into a frame."""
        assert store.max_message_size + RECORD_ROOM_SIZE <= self.frame_max
