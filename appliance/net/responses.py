"""Response codes: number, name, and when we send it.

Runs in: every process that speaks RocketMQ, and the client. No I/O.
Owns: the codes.
Fails: never.

Left out: codes that nothing sends, and those of controllers. What clients do with each stands in
the meaning where it is not simply "fail".
"""

from typing import NamedTuple


class Code(NamedTuple):
    """One response code."""

    code: int
    name: str
    meaning: str


BY_CODE: dict[int, Code] = {}


def _row(code: int, name: str, meaning: str) -> int:
    assert code not in BY_CODE, f"response code {code} declared twice"
    BY_CODE[code] = Code(code, name, meaning)
    return code


def name_of(code: int) -> str:
    """The code's name, or its number where it has none."""
    return BY_CODE[code].name if code in BY_CODE else str(code)


SUCCESS = _row(0, "SUCCESS", "done")
SYSTEM_ERROR = _row(1, "SYSTEM_ERROR", "failed; the remark says why; producers try another broker")
SYSTEM_BUSY = _row(2, "SYSTEM_BUSY", "flow control, the remark begins with its kind in brackets")
REQUEST_CODE_NOT_SUPPORTED = _row(3, "REQUEST_CODE_NOT_SUPPORTED", "code unknown or not built")

# Sends. The first three mean that the message is stored: clients read the whole header.
FLUSH_DISK_TIMEOUT = _row(10, "FLUSH_DISK_TIMEOUT", "stored, but not yet known to be on disk")
SLAVE_NOT_AVAILABLE = _row(11, "SLAVE_NOT_AVAILABLE", "stored, but no slave is near enough")
FLUSH_SLAVE_TIMEOUT = _row(12, "FLUSH_SLAVE_TIMEOUT", "stored, but no slave has confirmed it")
MESSAGE_ILLEGAL = _row(13, "MESSAGE_ILLEGAL", "body, properties or topic not allowed; not retried")
SERVICE_NOT_AVAILABLE = _row(
    14, "SERVICE_NOT_AVAILABLE", "disk full, shutting down, or a slave; producers try another"
)

NO_PERMISSION = _row(16, "NO_PERMISSION", "forbidden; producers try another broker")
TOPIC_NOT_EXIST = _row(
    17, "TOPIC_NOT_EXIST", "no such topic; from a NameServer: ask for the default topic's route"
)

# Pulls. Clients read the whole header on the first three and on SUCCESS.
PULL_NOT_FOUND = _row(19, "PULL_NOT_FOUND", "no new message; pull again")
PULL_RETRY_IMMEDIATELY = _row(
    20, "PULL_RETRY_IMMEDIATELY", "messages were there, none matched; pull on at nextBeginOffset"
)
PULL_OFFSET_MOVED = _row(
    21, "PULL_OFFSET_MOVED", "outside the queue; clients store nextBeginOffset and rebalance"
)
QUERY_NOT_FOUND = _row(22, "QUERY_NOT_FOUND", "no stored offset, no message, no such setting")
SUBSCRIPTION_PARSE_FAILED = _row(23, "SUBSCRIPTION_PARSE_FAILED", "a filter that does not parse")
SUBSCRIPTION_NOT_EXIST = _row(
    24, "SUBSCRIPTION_NOT_EXIST", "no heartbeat has told this group's subscription"
)
SUBSCRIPTION_NOT_LATEST = _row(
    25, "SUBSCRIPTION_NOT_LATEST", "the subscription known is older than the request's"
)
SUBSCRIPTION_GROUP_NOT_EXIST = _row(
    26, "SUBSCRIPTION_GROUP_NOT_EXIST", "no such group, and groups are not created automatically"
)
FILTER_DATA_NOT_EXIST = _row(27, "FILTER_DATA_NOT_EXIST", "the SQL filter is not compiled")
FILTER_DATA_NOT_LATEST = _row(28, "FILTER_DATA_NOT_LATEST", "the SQL filter compiled is older")
INVALID_PARAMETER = _row(29, "INVALID_PARAMETER", "a name, a queue or a count is not allowed")

CONSUMER_NOT_ONLINE = _row(206, "CONSUMER_NOT_ONLINE", "no consumer of the group is connected")
CONSUME_MSG_TIMEOUT = _row(207, "CONSUME_MSG_TIMEOUT", "a relayed request found no answer in 10 s")
NO_MESSAGE = _row(208, "NO_MESSAGE", "acknowledged outside the queue, or nothing")
POLLING_FULL = _row(209, "POLLING_FULL", "too many parked pops")
POLLING_TIMEOUT = _row(210, "POLLING_TIMEOUT", "a parked pop found nothing")
FLOW_CONTROL = _row(215, "FLOW_CONTROL", "pull again after 20 ms rather than 3 s")
NOT_LEADER_FOR_QUEUE = _row(501, "NOT_LEADER_FOR_QUEUE", "a static topic's queue is elsewhere")
ILLEGAL_OPERATION = _row(
    604, "ILLEGAL_OPERATION", "commit or rollback too late, or a bad recall handle"
)
GO_AWAY = _row(1500, "GO_AWAY", "shutting down; clients reconnect and send once more")
