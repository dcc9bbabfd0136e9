"""The request table: one row a code. Decoding, dispatch, permission and names follow from the row.

Runs in: every process that speaks RocketMQ, and the client. No I/O.
Owns: codes, header fields, and the place that serves each code.
Fails: `BindError` at start, when rows and handlers do not match one for one.

Left out: constants that no component sends, and the codes of controllers and broker containers.
Rows with `served=False` are declared but answered REQUEST_CODE_NOT_SUPPORTED until they are built.
Every header may also carry bname, ns, nsd, lo and oway (remoting.md section 1.5): harmless on a
plain broker, so they are not declared; `request.frame.fields` has them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from inspect import getmembers, isfunction
from types import ModuleType, SimpleNamespace
from typing import Any

from appliance.net import fields as header
from appliance.net.fields import Field
from appliance.net.frame import RESPONSE, Frame
from appliance.net.json_text import JsonError
from appliance.net.responses import REQUEST_CODE_NOT_SUPPORTED, SUCCESS, SYSTEM_ERROR


class Place(Flag):
    """Who serves a code."""

    FRONTEND = auto()
    """The frontends in batches; what they hand on, the coordinator one by one."""
    BROKER = auto()
    NAMESRV = auto()
    CLIENT = auto()


class Action(Flag):
    """What a caller must be allowed to do, any one of those named (Apache's auth 2.0)."""

    PUB = auto()
    SUB = auto()
    GET = auto()
    CREATE = auto()
    UPDATE = auto()
    DELETE = auto()


FRONTEND, BROKER, NAMESRV, CLIENT = Place
PUB, SUB, GET, CREATE, UPDATE, DELETE = Action
NOTHING = Action(0)

# On what the caller needs it: what the header names, what the body names, or the cluster.
TOPIC, GROUP, TOPIC_GROUP, BODY, CLUSTER = "topic", "group", "topic group", "body", "cluster"


@dataclass(frozen=True, slots=True)
class Row:
    """One request code."""

    code: int
    name: str
    served_by: Place
    served: bool = True
    """Whether it is built; if not, it is answered REQUEST_CODE_NOT_SUPPORTED."""
    needs: Action = NOTHING
    scope: str = ""
    asks: tuple[Field, ...] = ()
    """The request's header."""
    answers: tuple[Field, ...] = ()
    """The response's header, beside what a handler may add."""

    @property
    def handler(self) -> str:
        """The name of the function that serves it."""
        return self.name.lower()


@dataclass(slots=True)
class Request:
    """A decoded request, as handlers see it."""

    row: Row
    frame: Frame
    now_ms: int
    connection: int
    """Names the connection; a handler can only hand it on."""
    peer: str
    """The other side's "ip:port"."""
    args: Any
    """The header's typed values as attributes, every declared field present."""

    @property
    def body(self) -> bytes:
        """The frame's body, b"" when there is none."""
        return self.frame.body

    @property
    def oneway(self) -> bool:
        """Whether the sender reads no answer."""
        return self.frame.oneway

    @property
    def version(self) -> int:
        """The sender's MQVersion ordinal."""
        return self.frame.version

    @property
    def language(self) -> int:
        """The sender's language byte."""
        return self.frame.language


@dataclass(slots=True)
class Response:
    """What a handler answers. Field values may be typed; None is left out."""

    code: int = SUCCESS
    remark: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    body: bytes = b""


class RefusedError(Exception):
    """Raised by a handler: the peer asked for something that gets this code and remark."""

    def __init__(self, code: int, remark: str) -> None:
        super().__init__(remark)
        self.response = Response(code, remark)


class BindError(Exception):
    """A served row without function, or a public function without row."""


Handler = Callable[[Request, Any], Any]
"""`handler(request, state)` gives a Response, or an effect that its process understands."""


BY_CODE: dict[int, Row] = {}
BY_NAME: dict[str, Row] = {}


def row(
    code: int,
    name: str,
    *,
    served_by: Place,
    served: bool = True,
    needs: Action = NOTHING,
    scope: str = "",
    asks: str = "",
    answers: str = "",
) -> None:
    """Declare one request code, with its header fields in the notation of `fields`."""
    assert code not in BY_CODE and name not in BY_NAME, f"request code {code} declared twice"
    fields_in, fields_out = header.parse(asks), header.parse(answers)
    declared = Row(code, name, served_by, served, needs, scope, fields_in, fields_out)
    BY_CODE[code] = BY_NAME[name] = declared


def bind(wanted: Callable[[Row], bool], modules: Iterable[ModuleType]) -> dict[int, Handler]:
    """The handlers of all rows that are wanted and built, found by name in the modules.

    Raises:
        BindError: a row has no function, or a module has a public function without such a row.
    """
    functions = _public_functions(modules)
    rows = {row.handler: row for row in BY_CODE.values() if row.served and wanted(row)}
    if missing := sorted(rows.keys() - functions.keys()):
        raise BindError(f"no function for the request codes {', '.join(missing)}")
    if strange := sorted(functions.keys() - rows.keys()):
        raise BindError(f"no served row for the functions {', '.join(strange)}")
    return {row.code: functions[name] for name, row in rows.items()}


def _public_functions(modules: Iterable[ModuleType]) -> dict[str, Handler]:
    found: dict[str, Handler] = {}
    for module in modules:
        for name, function in getmembers(module, isfunction):
            if name.startswith("_") or function.__module__ != module.__name__:
                continue
            if name in found:
                raise BindError(f"two functions serve {name}")
            found[name] = function
    return found


def request(frame: Frame, *, now_ms: int, connection: int = 0, peer: str = "") -> Request:
    """The request in a frame whose code is in the table."""
    declared = BY_CODE[frame.code]
    args = SimpleNamespace(**header.decode(declared.asks, frame.fields))
    return Request(declared, frame, now_ms, connection, peer, args)


STRANGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What a handler meets in a body that is JSON of another shape than it should have."""


def call(handler: Handler, asked: Request, state: Any) -> Any:
    """What the handler says; a refusal, or an unreadable header or body, becomes its response."""
    fault = header.fault(asked.row.asks, asked.frame.fields)
    if fault is not None:
        return Response(SYSTEM_ERROR, f"the header of {asked.row.name} is not readable: {fault}")
    try:
        return handler(asked, state)
    except RefusedError as refused:
        return refused.response
    except JsonError as error:
        return Response(SYSTEM_ERROR, f"the body of {asked.row.name} is not readable: {error}")
    except STRANGE as error:  # a body of another shape; Apache answers exceptions so, too
        kind = type(error).__name__
        return Response(SYSTEM_ERROR, f"{asked.row.name} cannot be understood: {kind}: {error}")


def unsupported(code: int) -> Response:
    """The answer to a code that is unknown or not built; the blank in front is Apache's."""
    return Response(REQUEST_CODE_NOT_SUPPORTED, f" request type {code} not supported")


def answer(asked: Request | Frame, response: Response) -> Frame:
    """The frame that answers a request, in the header serialization of the request."""
    frame = asked if isinstance(asked, Frame) else asked.frame
    return Frame(
        code=response.code,
        opaque=frame.opaque,
        flag=RESPONSE,
        remark=response.remark,
        fields=header.encode(response.fields),
        body=response.body,
        serialization=frame.serialization,
    )


def ask(name: str, values: Mapping[str, object], body: bytes = b"", *, flag: int = 0) -> Frame:
    """A request of ours, by the row's name; the link that sends it sets the opaque."""
    declared = BY_NAME[name]
    fields = header.encode(values, declared.asks)
    return Frame(code=declared.code, flag=flag, fields=fields, body=body)


_SEND = (
    "producerGroup:str topic:str defaultTopic:str defaultTopicQueueNums:i32?=4 queueId:i32 "
    "sysFlag:i32 bornTimestamp:i64 flag:i32 properties:str? reconsumeTimes:i32? "
    "unitMode:bool? batch:bool? maxReconsumeTimes:i32?"
)
_SEND_V2 = (
    "producerGroup@a:str topic@b:str defaultTopic@c:str defaultTopicQueueNums@d:i32?=4 "
    "queueId@e:i32 sysFlag@f:i32 bornTimestamp@g:i64 flag@h:i32 properties@i:str? "
    "reconsumeTimes@j:i32? unitMode@k:bool? maxReconsumeTimes@l:i32? batch@m:bool? bname@n:str?"
)
_SENT = (
    "msgId:str queueId:i32 queueOffset:i64 transactionId:str? batchUniqId:str? recallHandle:str?"
)
_PULL = (
    "consumerGroup:str topic:str queueId:i32 queueOffset:i64 maxMsgNums:i32 sysFlag:i32 "
    "commitOffset:i64 suspendTimeoutMillis:i64 subscription:str? subVersion:i64 "
    "expressionType:str? maxMsgBytes:i32? requestSource:i32? proxyFrowardClientId:str?"
)
_PULLED = (
    "suggestWhichBrokerId:i64 nextBeginOffset:i64 minOffset:i64 maxOffset:i64 "
    "offsetDelta:i64? topicSysFlag:i32? groupSysFlag:i32? forbiddenType:i32?"
)

# Formatted by hand: a table reads better with few lines a row.
# fmt: off

# Messages, offsets, clients and topics.
row(10, "SEND_MESSAGE", served_by=FRONTEND, needs=PUB, scope=TOPIC, asks=_SEND, answers=_SENT)
row(11, "PULL_MESSAGE", served_by=FRONTEND, needs=SUB, scope=TOPIC_GROUP, asks=_PULL,
    answers=_PULLED)
row(12, "QUERY_MESSAGE", served_by=BROKER, served=False, needs=SUB | GET, scope=TOPIC,
    asks="topic:str key:str maxNum:i32 beginTimestamp:i64 endTimestamp:i64",
    answers="indexLastUpdateTimestamp:i64 indexLastUpdatePhyoffset:i64")
row(14, "QUERY_CONSUMER_OFFSET", served_by=BROKER, needs=SUB | GET, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 setZeroIfNotFound:bool?", answers="offset:i64")
row(15, "UPDATE_CONSUMER_OFFSET", served_by=BROKER, needs=SUB | UPDATE, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 commitOffset:i64")
row(17, "UPDATE_AND_CREATE_TOPIC", served_by=BROKER, needs=CREATE, scope=TOPIC,
    asks="topic:str defaultTopic:str readQueueNums:i32 writeQueueNums:i32 perm:i32 "
         "topicFilterType:str topicSysFlag:i32? order:bool attributes:str? force:bool")
row(18, "UPDATE_AND_CREATE_TOPIC_LIST", served_by=BROKER, served=False)
row(21, "GET_ALL_TOPIC_CONFIG", served_by=BROKER,
    asks="topicSeq:i32?=0 dataVersion:str? maxTopicNum:i32?", answers="totalTopicNum:i32")
row(25, "UPDATE_BROKER_CONFIG", served_by=BROKER, served=False)
row(26, "GET_BROKER_CONFIG", served_by=BROKER, served=False, answers="version:str")
row(28, "GET_BROKER_RUNTIME_INFO", served_by=BROKER)
row(29, "SEARCH_OFFSET_BY_TIMESTAMP", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str queueId:i32 timestamp:i64 boundaryType:str?", answers="offset:i64")
row(30, "GET_MAX_OFFSET", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str queueId:i32 committed:bool?=true", answers="offset:i64")
row(31, "GET_MIN_OFFSET", served_by=BROKER, needs=GET, scope=TOPIC, asks="topic:str queueId:i32",
    answers="offset:i64")
row(32, "GET_EARLIEST_MSG_STORETIME", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str queueId:i32", answers="timestamp:i64")
row(33, "VIEW_MESSAGE_BY_ID", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str? offset:i64")
row(34, "HEART_BEAT", served_by=BROKER, needs=SUB, scope=BODY)
row(35, "UNREGISTER_CLIENT", served_by=BROKER, needs=SUB, scope=GROUP,
    asks="clientID:str producerGroup:str? consumerGroup:str?")
row(36, "CONSUMER_SEND_MSG_BACK", served_by=BROKER, needs=SUB, scope=GROUP,
    asks="offset:i64 group:str delayLevel:i32 originMsgId:str? originTopic:str? unitMode:bool "
         "maxReconsumeTimes:i32?")
row(37, "END_TRANSACTION", served_by=BROKER, served=False, needs=PUB, scope=TOPIC,
    asks="topic:str? producerGroup:str tranStateTableOffset:i64 commitLogOffset:i64 "
         "commitOrRollback:i32 fromTransactionCheck:bool msgId:str transactionId:str?")
row(38, "GET_CONSUMER_LIST_BY_GROUP", served_by=BROKER, needs=SUB | GET, scope=GROUP,
    asks="consumerGroup:str")
row(39, "CHECK_TRANSACTION_STATE", served_by=CLIENT, needs=PUB, scope=TOPIC,
    asks="topic:str? tranStateTableOffset:i64 commitLogOffset:i64 msgId:str? transactionId:str? "
         "offsetMsgId:str?")
row(40, "NOTIFY_CONSUMER_IDS_CHANGED", served_by=CLIENT, needs=SUB, scope=GROUP,
    asks="consumerGroup:str")
row(41, "LOCK_BATCH_MQ", served_by=BROKER, needs=SUB, scope=BODY)
row(42, "UNLOCK_BATCH_MQ", served_by=BROKER, needs=SUB, scope=BODY)
row(43, "GET_ALL_CONSUMER_OFFSET", served_by=BROKER, served=False)
row(45, "GET_ALL_DELAY_OFFSET", served_by=BROKER, served=False)
row(46, "CHECK_CLIENT_CONFIG", served_by=BROKER, needs=SUB, scope=BODY)
row(60, "GET_TIMER_CHECK_POINT", served_by=BROKER, served=False)
row(61, "GET_TIMER_METRICS", served_by=BROKER, served=False)

# NameServers.
row(100, "PUT_KV_CONFIG", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="namespace:str key:str value:str")
row(101, "GET_KV_CONFIG", served_by=NAMESRV, needs=GET, scope=CLUSTER,
    asks="namespace:str key:str", answers="value:str?")
row(102, "DELETE_KV_CONFIG", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="namespace:str key:str")
row(103, "REGISTER_BROKER", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="brokerName:str brokerAddr:str clusterName:str haServerAddr:str brokerId:i64 "
         "heartbeatTimeoutMillis:i64? enableActingMaster:bool? compressed:bool? bodyCrc32:i32?=0",
    answers="haServerAddr:str? masterAddr:str?")
row(104, "UNREGISTER_BROKER", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="brokerName:str brokerAddr:str clusterName:str brokerId:i64")
row(105, "GET_ROUTEINFO_BY_TOPIC", served_by=NAMESRV, needs=PUB | SUB | GET, scope=TOPIC,
    asks="topic:str acceptStandardJsonOnly:bool?")
row(106, "GET_BROKER_CLUSTER_INFO", served_by=NAMESRV)

# Administration, and the rest in the order of their numbers.
row(200, "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP", served_by=BROKER)
row(201, "GET_ALL_SUBSCRIPTIONGROUP_CONFIG", served_by=BROKER,
    asks="groupSeq:i32?=0 dataVersion:str? maxGroupNum:i32?", answers="totalGroupNum:i32")
row(202, "GET_TOPIC_STATS_INFO", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str")
row(203, "GET_CONSUMER_CONNECTION_LIST", served_by=BROKER, needs=GET, scope=GROUP,
    asks="consumerGroup:str")
row(204, "GET_PRODUCER_CONNECTION_LIST", served_by=BROKER, needs=GET, scope=CLUSTER,
    asks="producerGroup:str")
row(205, "WIPE_WRITE_PERM_OF_BROKER", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="brokerName:str", answers="wipeTopicCount:i32")
row(206, "GET_ALL_TOPIC_LIST_FROM_NAMESERVER", served_by=NAMESRV)
row(207, "DELETE_SUBSCRIPTIONGROUP", served_by=BROKER, needs=DELETE, scope=GROUP,
    asks="groupName:str cleanOffset:bool")
row(208, "GET_CONSUME_STATS", served_by=BROKER, needs=GET, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str? topicList:str?")
row(215, "DELETE_TOPIC_IN_BROKER", served_by=BROKER, needs=DELETE, scope=TOPIC, asks="topic:str")
row(216, "DELETE_TOPIC_IN_NAMESRV", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="topic:str clusterName:str?")
row(217, "REGISTER_TOPIC_IN_NAMESRV", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="topic:str")
row(219, "GET_KVLIST_BY_NAMESPACE", served_by=NAMESRV, needs=GET, scope=CLUSTER,
    asks="namespace:str")
row(220, "RESET_CONSUMER_CLIENT_OFFSET", served_by=CLIENT,
    asks="group:str topic:str queueId:i32?=-1 offset:i64? timestamp:i64 isForce:bool")
row(221, "GET_CONSUMER_STATUS_FROM_CLIENT", served_by=CLIENT,
    asks="topic:str group:str clientAddr:str?")
row(222, "INVOKE_BROKER_TO_RESET_OFFSET", served_by=BROKER, served=False,
    needs=UPDATE, scope=TOPIC_GROUP,
    asks="group:str topic:str queueId:i32?=-1 offset:i64? timestamp:i64 isForce:bool")
row(223, "INVOKE_BROKER_TO_GET_CONSUMER_STATUS", served_by=BROKER, served=False,
    needs=GET, scope=TOPIC_GROUP,
    asks="topic:str group:str clientAddr:str?")
row(224, "GET_TOPICS_BY_CLUSTER", served_by=NAMESRV, asks="cluster:str")
row(225, "UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST", served_by=BROKER, served=False)
row(300, "QUERY_TOPIC_CONSUME_BY_WHO", served_by=BROKER, served=False, needs=GET, scope=TOPIC,
    asks="topic:str")
row(303, "QUERY_CONSUME_TIME_SPAN", served_by=BROKER, served=False, needs=GET, scope=TOPIC_GROUP,
    asks="topic:str group:str")
row(304, "GET_SYSTEM_TOPIC_LIST_FROM_NS", served_by=NAMESRV)
row(305, "GET_SYSTEM_TOPIC_LIST_FROM_BROKER", served_by=BROKER, served=False)
row(306, "CLEAN_EXPIRED_CONSUMEQUEUE", served_by=BROKER, served=False)
row(307, "GET_CONSUMER_RUNNING_INFO", served_by=BROKER | CLIENT, served=False,
    needs=GET, scope=GROUP,
    asks="consumerGroup:str clientId:str jstackEnable:bool?")
row(308, "QUERY_CORRECTION_OFFSET", served_by=BROKER, served=False, needs=GET, scope=TOPIC_GROUP,
    asks="filterGroups:str? compareGroup:str topic:str")
row(309, "CONSUME_MESSAGE_DIRECTLY", served_by=BROKER | CLIENT, served=False,
    needs=SUB, scope=TOPIC_GROUP,
    asks="consumerGroup:str clientId:str? msgId:str? brokerName:str? topic:str? "
         "topicSysFlag:i32? groupSysFlag:i32?")
row(310, "SEND_MESSAGE_V2", served_by=FRONTEND, needs=PUB, scope=TOPIC, asks=_SEND_V2,
    answers=_SENT)
row(311, "GET_UNIT_TOPIC_LIST", served_by=NAMESRV)
row(312, "GET_HAS_UNIT_SUB_TOPIC_LIST", served_by=NAMESRV)
row(313, "GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST", served_by=NAMESRV)
row(314, "CLONE_GROUP_OFFSET", served_by=BROKER, served=False, needs=UPDATE, scope=TOPIC_GROUP,
    asks="srcGroup:str destGroup:str topic:str? offline:bool?")
row(315, "VIEW_BROKER_STATS_DATA", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="statsName:str statsKey:str")
row(316, "CLEAN_UNUSED_TOPIC", served_by=BROKER, served=False)
row(317, "GET_BROKER_CONSUME_STATS", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="isOrder:bool")
row(318, "UPDATE_NAMESRV_CONFIG", served_by=NAMESRV)
row(319, "GET_NAMESRV_CONFIG", served_by=NAMESRV)
row(320, "SEND_BATCH_MESSAGE", served_by=FRONTEND, needs=PUB, scope=TOPIC, asks=_SEND_V2,
    answers=_SENT)
row(321, "QUERY_CONSUME_QUEUE", served_by=BROKER, served=False, needs=GET, scope=TOPIC_GROUP,
    asks="topic:str? queueId:i32? index:i64? count:i32? consumerGroup:str?")
row(322, "QUERY_DATA_VERSION", served_by=NAMESRV, needs=GET, scope=CLUSTER,
    asks="brokerName:str brokerAddr:str clusterName:str brokerId:i64", answers="changed:bool")
row(323, "RESUME_CHECK_HALF_MESSAGE", served_by=BROKER, served=False, needs=UPDATE, scope=TOPIC,
    asks="topic:str? msgId:str?")
row(324, "SEND_REPLY_MESSAGE", served_by=BROKER, served=False, needs=PUB, scope=TOPIC, asks=_SEND,
    answers=_SENT)
row(325, "SEND_REPLY_MESSAGE_V2", served_by=BROKER, served=False, needs=PUB, scope=TOPIC,
    asks=_SEND_V2, answers=_SENT)
row(326, "PUSH_REPLY_MESSAGE_TO_CLIENT", served_by=CLIENT, needs=SUB, scope=TOPIC_GROUP,
    asks="producerGroup:str topic:str defaultTopic:str defaultTopicQueueNums:i32 queueId:i32 "
         "sysFlag:i32 bornTimestamp:i64 flag:i32 properties:str? reconsumeTimes:i32? "
         "unitMode:bool bornHost:str storeHost:str storeTimestamp:i64")
row(327, "ADD_WRITE_PERM_OF_BROKER", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="brokerName:str", answers="addTopicCount:i32")
row(328, "GET_ALL_PRODUCER_INFO", served_by=BROKER, served=False, needs=GET, scope=CLUSTER)
row(329, "DELETE_EXPIRED_COMMITLOG", served_by=BROKER, served=False)
row(343, "QUERY_TOPICS_BY_CONSUMER", served_by=BROKER, served=False, needs=GET, scope=GROUP,
    asks="group:str")
row(345, "QUERY_SUBSCRIPTION_BY_CONSUMER", served_by=BROKER, served=False,
    needs=GET, scope=TOPIC_GROUP,
    asks="group:str topic:str?")
row(351, "GET_TOPIC_CONFIG", served_by=BROKER, needs=GET, scope=TOPIC,
    asks="topic:str")
row(352, "GET_SUBSCRIPTIONGROUP_CONFIG", served_by=BROKER, needs=GET, scope=GROUP,
    asks="group:str")
row(353, "UPDATE_AND_GET_GROUP_FORBIDDEN", served_by=BROKER, served=False,
    needs=UPDATE, scope=TOPIC_GROUP,
    asks="group:str topic:str readable:bool?")
row(354, "CHECK_ROCKSDB_CQ_WRITE_PROGRESS", served_by=BROKER, served=False, needs=GET, scope=TOPIC,
    asks="topic:str checkStoreTime:i64?")
row(355, "EXPORT_ROCKSDB_CONFIG_TO_JSON", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="configType:str")
row(361, "LITE_PULL_MESSAGE", served_by=FRONTEND, needs=SUB, scope=TOPIC_GROUP, asks=_PULL,
    answers=_PULLED)
row(370, "RECALL_MESSAGE", served_by=BROKER, served=False, needs=PUB, scope=TOPIC,
    asks="producerGroup:str? topic:str recallHandle:str", answers="msgId:str")
row(400, "QUERY_ASSIGNMENT", served_by=BROKER, served=False)
row(401, "SET_MESSAGE_REQUEST_MODE", served_by=BROKER, served=False)
row(402, "GET_ALL_MESSAGE_REQUEST_MODE", served_by=BROKER, served=False)
row(513, "UPDATE_AND_CREATE_STATIC_TOPIC", served_by=BROKER, served=False,
    asks="topic:str defaultTopic:str readQueueNums:i32 writeQueueNums:i32 perm:i32 "
         "topicFilterType:str topicSysFlag:i32? order:bool attributes:str? force:bool")

# Membership, roles and replication.
row(901, "GET_BROKER_MEMBER_GROUP", served_by=NAMESRV, needs=GET, scope=CLUSTER,
    asks="clusterName:str brokerName:str")
row(904, "BROKER_HEARTBEAT", served_by=NAMESRV, needs=UPDATE, scope=CLUSTER,
    asks="clusterName:str brokerAddr:str brokerName:str brokerId:i64? epoch:i32? maxOffset:i64? "
         "confirmOffset:i64? heartbeatTimeoutMills:i64? electionPriority:i32?")
row(905, "NOTIFY_MIN_BROKER_ID_CHANGE", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="minBrokerId:i64? brokerName:str? minBrokerAddr:str? offlineBrokerAddr:str? "
         "haBrokerAddr:str?")
row(906, "EXCHANGE_BROKER_HA_INFO", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="masterHaAddress:str? masterFlushOffset:i64? masterAddress:str?",
    answers="masterHaAddress:str? masterFlushOffset:i64? masterAddress:str?")
row(907, "GET_BROKER_HA_STATUS", served_by=BROKER, served=False)
row(908, "RESET_MASTER_FLUSH_OFFSET", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="masterFlushOffset:i64")
row(1007, "GET_BROKER_EPOCH_CACHE", served_by=BROKER, served=False)
row(1008, "NOTIFY_BROKER_ROLE_CHANGED", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="masterAddress:str? masterEpoch:i32? syncStateSetEpoch:i32? masterBrokerId:i64?")

# Reading cold data.
row(2001, "UPDATE_COLD_DATA_FLOW_CTR_CONFIG", served_by=BROKER, served=False)
row(2002, "REMOVE_COLD_DATA_FLOW_CTR_CONFIG", served_by=BROKER, served=False)
row(2003, "GET_COLD_DATA_FLOW_CTR_INFO", served_by=BROKER, served=False)
row(2004, "SET_COMMITLOG_READ_MODE", served_by=BROKER, served=False)

# Users and access lists.
row(3001, "AUTH_CREATE_USER", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="username:str?")
row(3002, "AUTH_UPDATE_USER", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="username:str?")
row(3003, "AUTH_DELETE_USER", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="username:str?")
row(3004, "AUTH_GET_USER", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="username:str?")
row(3005, "AUTH_LIST_USER", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="filter:str?")
row(3006, "AUTH_CREATE_ACL", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="subject:str?")
row(3007, "AUTH_UPDATE_ACL", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="subject:str?")
row(3008, "AUTH_DELETE_ACL", served_by=BROKER, served=False, needs=UPDATE, scope=CLUSTER,
    asks="subject:str? policyType:str? resource:str?")
row(3009, "AUTH_GET_ACL", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="subject:str?")
row(3010, "AUTH_LIST_ACL", served_by=BROKER, served=False, needs=GET, scope=CLUSTER,
    asks="subjectFilter:str? resourceFilter:str?")

# Pop.
row(200050, "POP_MESSAGE", served_by=BROKER, served=False, needs=SUB, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 maxMsgNums:i32 invisibleTime:i64 pollTime:i64 "
         "bornTime:i64 initMode:i32 expType:str? exp:str? order:bool attemptId:str?",
    answers="popTime:i64 invisibleTime:i64 reviveQid:i32 restNum:i64 startOffsetInfo:str? "
            "msgOffsetInfo:str? orderCountInfo:str?")
row(200051, "ACK_MESSAGE", served_by=BROKER, served=False, needs=SUB, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 extraInfo:str offset:i64")
row(200052, "PEEK_MESSAGE", served_by=BROKER, served=False, needs=SUB, scope=TOPIC_GROUP,
    asks="topic:str queueId:i32 maxMsgNums:i32 consumerGroup:str",
    answers="popTime:i64 invisibleTime:i64 reviveQid:i32 restNum:i64 startOffsetInfo:str? "
            "msgOffsetInfo:str? orderCountInfo:str?")
row(200053, "CHANGE_MESSAGE_INVISIBLETIME", served_by=BROKER, served=False,
    needs=SUB, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 extraInfo:str offset:i64 invisibleTime:i64",
    answers="popTime:i64 invisibleTime:i64 reviveQid:i32")
row(200054, "NOTIFICATION", served_by=BROKER, served=False, needs=SUB, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32 pollTime:i64 bornTime:i64 order:bool "
         "attemptId:str?",
    answers="hasMsg:bool pollingFull:bool")
row(200055, "POLLING_INFO", served_by=BROKER, served=False, needs=GET, scope=TOPIC_GROUP,
    asks="consumerGroup:str topic:str queueId:i32", answers="pollingNum:i32")
row(200056, "POP_ROLLBACK", served_by=BROKER, served=False)
row(200151, "BATCH_ACK_MESSAGE", served_by=BROKER, served=False)
# fmt: on
