"""pull.py: which pulls are plain, every row of the table of answers, tags, and long polls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import Now
from appliance.commitlog.consume_queue import ConsumeQueueReader
from appliance.commitlog.disk import Disk, RealDisk
from appliance.commitlog.reader import LogReader
from appliance.commitlog.record import tags_code
from appliance.net.frame import ROCKETMQ, Frame
from appliance.net.poll import SocketLimits, Sockets
from appliance.net.pull import PullPath
from appliance.ring.tables import SUB_ALL, SUB_OTHER, SUB_TAGS, TOPIC_SEND
from tests.commitlog import stores
from tests.commitlog.bench import Bench
from tests.fakes.line import COMMIT, SUBSCRIPTION, SUSPEND, Line, pull, records
from tests.fakes.world_parts import ROW_COUNT, Memory

FOUND, NOT_FOUND, RETRY, MOVED = 0, 19, 20, 21
PULLS = stores.manifest("pull_cases")["stores"]
MS = 1_000_000
PLENTY = 1 << 40


class Puller:
    """One client, and the pull path of a frontend over some memory and store."""

    def __init__(
        self,
        memory: Memory,
        disk: Disk,
        root: str,
        sizes: tuple[int, int],
        memory_size: int = PLENTY,
    ) -> None:
        """`sizes`: bytes of a log file and of a queue file; `memory_size` is taken to be RAM."""
        limits = SocketLimits(connections_max=8, frame_max=1 << 17, backlog_max=1 << 24)
        self.memory, self.sockets, self.ns = memory, Sockets(limits), 0
        self.client = Line(self.sockets)
        tables = (
            memory.topics,
            memory.groups,
            memory.subscriptions,
            memory.offsets,
            memory.queues,
        )
        rows = ConsumeQueueReader(disk, f"{root}/consumequeue", file_size=sizes[1])
        log = LogReader(disk, f"{root}/commitlog", file_size=sizes[0], bounds=memory.watermarks)
        self.path = PullPath(self.sockets, tables, rows, log, memory_size=memory_size)

    @property
    def now(self) -> Now:
        return Now(self.ns, 0)

    def take(self, frame: Frame) -> Any:
        """A request comes; what the path says to it."""
        self.client.ask(frame)
        self.sockets.wait(0, self.now)
        count = self.sockets.scan(self.memory.topics.table, self.memory.groups.table)
        assert count == 1
        taken = self.path.take(self.sockets.request_rows[0], self.now)
        self.sockets.flush()
        return taken

    def ask(self, frame: Frame) -> Frame:
        """A pull that is plain, and its answer."""
        assert self.take(frame) is not False
        (answer,) = self.client.hear()
        return answer

    def wake(self, after_ms: int = 0) -> list[Frame]:
        """Time goes by; the answers to those who waited."""
        self.ns += after_ms * MS
        self.path.wake(self.now)
        self.sockets.flush()
        return self.client.hear()

    def close(self) -> None:
        self.sockets.shut()
        self.client.close()


class Scene(Puller):
    """A store that grows when the test says so."""

    def __init__(self, *, memory_size: int = PLENTY, **sizes: int) -> None:
        self.bench = Bench(**sizes)
        files = self.bench.log_file_size, self.bench.store.queues.file_size
        super().__init__(self.bench.memory, self.bench.disk, "/store", files, memory_size)
        self.memory.topic("T")
        self.memory.group("G")
        for queue_id in (0, 1):
            self.bench.rows.bind(self.memory.row("T", queue_id))

    def store(self, *bodies: bytes, tags: str = "", queue_id: int = 0) -> None:
        """One message each, shown."""
        for body in bodies:
            self.bench.producers[0].send("T", body, tags=tags, queue_id=queue_id)
            self.bench.append()
            self.bench.show()
            self.bench.producers[0].answers()

    def set_queue(self, **offsets: int) -> None:
        """What the queue table shows of queue 0."""
        for name, value in offsets.items():
            self.memory.queues.offsets[name][self.memory.row("T")] = value


@contextmanager
def scene_of(**settings: int) -> Iterator[Scene]:
    made = Scene(**settings)
    with made.bench:
        yield made
        made.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


def outcome(answer: Frame) -> tuple[int, str | None, int]:
    """(code, remark, next offset)."""
    return answer.code, answer.remark, int(answer.fields["nextBeginOffset"])


def bodies(answer: Frame) -> list[bytes]:
    return [record.body for record in records(answer.body)]


# Plain or not -------------------------------------------------------------------------------------

NOT_PLAIN = {
    "an unknown topic": pull(topic="other"),
    "a topic that may not be read": pull(topic="closed"),
    "a removed topic": pull(topic="removed"),
    "no such queue": pull(queueId=2),
    "any queue": pull(queueId=-1),
    "an unknown group": pull(group="other"),
    "a group that may not consume": pull(group="closed"),
    "a class filter": pull(sysFlag=SUBSCRIPTION | 8),
    "a filter that is no tag expression": pull(expressionType="SQL92"),
    "an expression that says nothing": pull(subscription="||"),
    "an offset that is no number": pull(queueOffset="x"),
    "a proxy's pull": pull(requestSource=1),
    "a subscription that nobody knows": pull(group="stranger", sysFlag=0),
    "a subscription that is too old": pull(sysFlag=0, subVersion=8),
    "a subscription that is no list of tags": pull(group="odd", sysFlag=0),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_coordinator(scene: Scene, what: str) -> None:
    memory = scene.memory
    memory.topic("closed", flags=TOPIC_SEND)
    memory.topic("removed")
    memory.topics.remove("removed")
    memory.group("closed", flags=0)
    topic = memory.topics.find("T")
    memory.subscriptions.put(memory.groups.find("G"), topic, version=7, kind=SUB_ALL, codes=[])
    memory.group("stranger")
    odd = memory.group("odd")
    memory.subscriptions.put(odd, topic, version=7, kind=SUB_OTHER, codes=[])
    scene.store(b"x")
    assert scene.take(NOT_PLAIN[what]) is False
    assert scene.client.hear() == []


def test_light_and_binary_pulls_are_plain(scene: Scene) -> None:
    scene.store(b"x")
    light, binary = pull(), pull()
    light.code, binary.serialization = 361, ROCKETMQ
    for frame in (light, binary):
        assert bodies(scene.ask(frame)) == [b"x"]


# The table of answers (store sheet, 7.1) ----------------------------------------------------------


def test_the_answer_that_finds(scene: Scene) -> None:
    scene.store(b"a", b"bb", b"ccc")
    answer = scene.ask(pull(1))
    assert outcome(answer) == (FOUND, "FOUND", 3)
    assert answer.opaque == 1 and answer.response
    assert bodies(answer) == [b"bb", b"ccc"]
    assert [record.queue_offset for record in records(answer.body)] == [1, 2]
    assert answer.fields == {
        "maxOffset": "3",
        "minOffset": "0",
        "nextBeginOffset": "3",
        "offsetDelta": "0",
        "suggestWhichBrokerId": "0",
        "topicSysFlag": "0",
        "groupSysFlag": "0",
    }


@pytest.mark.parametrize(
    ("queue", "offset", "expected"),
    [
        ({"max": 0}, 0, (NOT_FOUND, "NO_MESSAGE_IN_QUEUE", 0)),
        ({"max": 0}, 3, (MOVED, "NO_MESSAGE_IN_QUEUE", 0)),
        ({"min": 2}, 1, (MOVED, "OFFSET_TOO_SMALL", 2)),
        ({}, -1, (MOVED, "OFFSET_TOO_SMALL", 0)),
        ({}, 3, (NOT_FOUND, "OFFSET_OVERFLOW_ONE", 3)),
        ({}, 4, (MOVED, "OFFSET_OVERFLOW_BADLY", 3)),
        ({"max": ROW_COUNT + 4}, ROW_COUNT + 1, (NOT_FOUND, "OFFSET_FOUND_NULL", 2 * ROW_COUNT)),
        ({"bound": 0, "max": 0}, 3, (NOT_FOUND, "OFFSET_OVERFLOW_ONE", 3)),
    ],
)
def test_the_answers_that_find_nothing(
    scene: Scene, queue: dict[str, int], offset: int, expected: tuple[int, str, int]
) -> None:
    scene.store(b"a", b"b", b"c")
    scene.set_queue(**queue)
    answer = scene.ask(pull(offset))
    assert outcome(answer) == expected and answer.body == b""
    assert int(answer.fields["maxOffset"]) == queue.get("max", 3)
    assert int(answer.fields["minOffset"]) == queue.get("min", 0)


def test_no_message_matches(scene: Scene) -> None:
    scene.store(b"a", b"b", tags="TagA")
    answer = scene.ask(pull(subscription="TagB"))
    assert outcome(answer) == (RETRY, "NO_MATCHED_MESSAGE", 2)


def test_messages_that_are_being_removed(scene: Scene) -> None:
    scene.store(*(bytes(1500) for _ in range(6)))
    scene.memory.watermarks.move("expired", 4096)
    answer = scene.ask(pull())
    assert (outcome(answer), len(bodies(answer))) == ((FOUND, "FOUND", 6), 4)
    scene.set_queue(max=2)
    assert outcome(scene.ask(pull())) == (RETRY, "MESSAGE_WAS_REMOVING", 2)


def test_a_file_that_is_gone_is_no_error(scene: Scene) -> None:
    scene.store(*(bytes(1500) for _ in range(6)))
    scene.bench.disk.remove(scene.bench.log_path(1))
    answer = scene.ask(pull())
    assert [record.queue_offset for record in records(answer.body)] == [0, 1, 4, 5]
    assert outcome(answer) == (FOUND, "FOUND", 6)
    scene.set_queue(max=4)
    assert outcome(scene.ask(pull(2))) == (RETRY, "MESSAGE_WAS_REMOVING", 4)
    scene.set_queue(max=6)
    scene.path.forget_before(8192)
    assert len(bodies(scene.ask(pull(4)))) == 2


def test_expired_files_are_let_go(scene: Scene) -> None:
    scene.store(*(bytes(1500) for _ in range(6)))
    assert len(bodies(scene.ask(pull()))) == 6
    scene.memory.watermarks.move("expired", 4096)
    scene.path.forget_before(4096)
    assert len(bodies(scene.ask(pull(2)))) == 4
    assert [first for first, _, _ in scene.path._log.files()] == [4096, 8192]


@pytest.mark.parametrize("store", PULLS)
def test_apaches_answers(store: str, tmp_path: Path) -> None:
    """What a 5.3.3 broker answered to pulls on three stores, byte for byte where it matters."""
    root = stores.unpack(PULLS[store]["base"], tmp_path)
    stores.damage(root, PULLS[store]["changes"])
    opened = stores.open_store(RealDisk(), str(root))
    memory = Memory()
    sizes = opened.log.file_size, opened.queues.file_size
    puller = Puller(memory, RealDisk(), str(root), sizes)
    memory.group("G")
    for name in ("appended", "dispatched"):
        memory.watermarks.restart(name, opened.recovered.log_end)
    memory.watermarks.restart("expired", opened.recovered.log_min)
    for topic in {case["topic"] for case in PULLS[store]["pulls"]}:
        memory.topic(topic, 32)
    show_queues(memory, opened)
    with memory:
        for case in PULLS[store]["pulls"]:
            if not case["remark"].startswith("queueId"):  # that is said by the coordinator
                compare(puller, case)
        puller.close()


def show_queues(memory: Memory, opened: stores.Opened) -> None:
    """The queue table, as the writer would fill it."""
    memory.queues.offsets["bound"] = 1
    for topic, queues in opened.bounds().items():
        if memory.topics.find(topic) >= 0:
            for queue_id, (begin, end) in queues.items():
                row = memory.queues.offsets[memory.row(topic, int(queue_id))]
                row["min"], row["max"] = begin, end


def compare(puller: Puller, case: Any) -> None:
    values = {"queueId": case["queueId"], "maxMsgNums": case["maxNums"]}
    frame = pull(case["offset"], case["topic"], subscription=case["sub"], **values)
    answer = puller.ask(frame)
    assert outcome(answer) == (case["code"], case["remark"], case["nextBeginOffset"]), case
    found = [record.physical_offset for record in records(answer.body)]
    assert found == case["physicalOffsets"], case
    for name in ("minOffset", "maxOffset", "suggestWhichBrokerId"):
        assert int(answer.fields[name]) == case[name], case


# How much -----------------------------------------------------------------------------------------


def test_an_answer_has_as_many_as_were_asked_for_and_one_at_least(scene: Scene) -> None:
    scene.store(b"a", b"b", b"c")
    for asked, found in ((2, 2), (1, 1), (0, 1), (-1, 1)):
        answer = scene.ask(pull(maxMsgNums=asked))
        assert (len(bodies(answer)), outcome(answer)[2]) == (found, found)


@pytest.mark.parametrize(
    ("memory_size", "size", "most"),
    [(PLENTY, 1, 32), (0, 1, 8), (PLENTY, 30_000, 8), (0, 30_000, 2), (0, 66_000, 1)],
)
def test_an_answer_is_shorter_where_the_disk_has_to_be_read(
    memory_size: int, size: int, most: int
) -> None:
    with scene_of(memory_size=memory_size, row_count=100, log_file_size=1 << 18) as scene:
        scene.store(*(bytes(size) for _ in range(40)))
        answer = scene.ask(pull(maxMsgNums=100))
        assert (len(bodies(answer)), outcome(answer)[2]) == (most, most)


def test_an_answer_stays_in_one_queue_file(scene: Scene) -> None:
    scene.store(*(b"x" for _ in range(ROW_COUNT + 3)))
    assert outcome(scene.ask(pull(4)))[2] == ROW_COUNT
    assert outcome(scene.ask(pull(ROW_COUNT)))[2] == ROW_COUNT + 3


# Tags ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*", [b"a", b"b", b"c", b"none"]),
        ("", [b"a", b"b", b"c", b"none"]),
        ("TagA", [b"a"]),
        ("TagA || TagC", [b"a", b"c"]),
        ("TagA||TagB||", [b"a", b"b"]),
        ("||".join(f"other{number}" for number in range(53)), [b"a", b"b", b"c", b"none"]),
    ],
)
def test_expressions(scene: Scene, expression: str, expected: list[bytes]) -> None:
    for tag in ("TagA", "TagB", "TagC"):
        scene.store(tag[-1].lower().encode(), tags=tag)
    scene.store(b"none")
    for _ in range(2):
        answer = scene.ask(pull(subscription=expression))
        assert (bodies(answer), outcome(answer)[2]) == (expected, 4)


def test_a_subscription_that_the_group_made_earlier(scene: Scene) -> None:
    scene.store(b"a", tags="TagA")
    scene.store(b"b", tags="TagB")
    group, topic = scene.memory.groups.find("G"), scene.memory.topics.find("T")
    put = scene.memory.subscriptions.put
    put(group, topic, version=7, kind=SUB_TAGS, codes=[tags_code("TagB")])
    assert bodies(scene.ask(pull(sysFlag=0, subVersion=7))) == [b"b"]
    put(group, topic, version=8, kind=SUB_ALL, codes=[])
    assert bodies(scene.ask(pull(sysFlag=0, subVersion=7))) == [b"a", b"b"]


# Commits ------------------------------------------------------------------------------------------


def test_what_a_pull_commits(scene: Scene) -> None:
    group, topic = scene.memory.groups.find("G"), scene.memory.topics.find("T")
    asked = pull(queueId=1, sysFlag=SUBSCRIPTION | COMMIT, commitOffset=5)
    assert scene.take(asked) == (group, topic, 1, 5)
    scene.memory.offsets.put(group, topic, 1, 5)
    assert scene.take(asked) is None
    assert scene.take(pull(queueId=1, commitOffset=6)) is None


# Long polls ---------------------------------------------------------------------------------------


def patient(offset: int = 0, suspend_ms: int = 1000, **fields: Any) -> Frame:
    return pull(offset, sysFlag=SUBSCRIPTION | SUSPEND, suspendTimeoutMillis=suspend_ms, **fields)


def test_a_patient_pull_is_answered_when_a_message_comes(scene: Scene) -> None:
    scene.store(b"a")
    assert scene.take(patient(1)) is None
    assert scene.client.hear() == scene.wake() == []
    assert len(scene.path.parked) == 1
    scene.store(b"x", queue_id=1)
    assert scene.wake() == []
    scene.store(b"b")
    (answer,) = scene.wake()
    assert (outcome(answer), bodies(answer)) == ((FOUND, "FOUND", 2), [b"b"])
    assert len(scene.path.parked) == 0 and scene.wake(5000) == []


def test_a_pull_that_nothing_came_for_is_told_so_in_time(scene: Scene) -> None:
    scene.store(b"a")
    scene.take(patient(1))
    assert scene.wake(999) == []
    (answer,) = scene.wake(1)
    assert outcome(answer) == (NOT_FOUND, "OFFSET_OVERFLOW_ONE", 1)


@pytest.mark.parametrize("frame", [pull(), patient(suspend_ms=0), patient(suspend_ms=-1)])
def test_who_is_not_patient_is_answered_at_once(scene: Scene, frame: Frame) -> None:
    assert outcome(scene.ask(frame)) == (NOT_FOUND, "NO_MESSAGE_IN_QUEUE", 0)


def test_only_what_may_still_come_is_waited_for(scene: Scene) -> None:
    scene.store(b"a")
    assert outcome(scene.ask(patient(5)))[1] == "OFFSET_OVERFLOW_BADLY"
    assert outcome(scene.ask(patient(subscription="TagB")))[1] == "NO_MATCHED_MESSAGE"


def test_messages_with_other_tags_are_waited_through(scene: Scene) -> None:
    scene.take(patient(subscription="TagA"))
    for _ in range(3):
        scene.store(b"no", b"no", tags="TagB")
        assert scene.wake(100) == []
    scene.store(b"yes", tags="TagA")
    (answer,) = scene.wake()
    assert (outcome(answer), bodies(answer)) == ((FOUND, "FOUND", 7), [b"yes"])


def test_waiting_through_others_tags_has_an_end_too(scene: Scene) -> None:
    scene.take(patient(subscription="TagA"))
    scene.store(b"no", b"no", tags="TagB")
    assert scene.wake(999) == []
    (answer,) = scene.wake(1)
    assert outcome(answer) == (NOT_FOUND, "OFFSET_OVERFLOW_ONE", 2)


def test_no_room_to_wait_is_an_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.net.parked.PARKED_MAX", 1)
    scene.take(patient())
    assert outcome(scene.ask(patient())) == (NOT_FOUND, "NO_MESSAGE_IN_QUEUE", 0)


def test_who_waits_moves_with_a_topic_that_grows(scene: Scene) -> None:
    scene.store(b"a")
    scene.take(patient(1))
    scene.memory.topic("T", 4)
    assert scene.wake() == []
    scene.store(b"b")
    (answer,) = scene.wake()
    assert bodies(answer) == [b"b"]


def test_who_waits_in_a_topic_that_is_cut_short_is_answered(scene: Scene) -> None:
    scene.store(b"a")
    scene.take(patient(1))
    scene.set_queue(max=0)
    scene.memory.topics.remove("T")
    (answer,) = scene.wake()
    assert outcome(answer) == (MOVED, "NO_MESSAGE_IN_QUEUE", 0)


def test_many_wait_and_each_gets_its_own(scene: Scene) -> None:
    lines = [Line(scene.sockets) for _ in range(3)]
    for number, line in enumerate(lines):
        line.ask(patient(queueId=number % 2))
        scene.sockets.wait(0, scene.now)
        scene.sockets.scan(scene.memory.topics.table, scene.memory.groups.table)
        scene.path.take(scene.sockets.request_rows[0], scene.now)
    scene.store(b"b", queue_id=1)
    scene.wake()
    assert [len(line.hear()) for line in lines] == [0, 1, 0]
    scene.store(b"a")
    scene.wake()
    assert [bodies(answer) for line in lines for answer in line.hear()] == [[b"a"], [b"a"]]
    for line in lines:
        line.close()
