"""Names with a meaning of their own: system topics and groups, derived topics, what is legal.

Runs in: coordinator.
Owns: nothing.
Fails: never; a name that is not allowed is described in words.

Sources: TopicValidator, MixAll and NamespaceUtil of Apache RocketMQ (broker.md section 1).
"""

import re

AUTO_CREATE_TOPIC = "TBW102"
SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
HALF_TOPIC = "RMQ_SYS_TRANS_HALF_TOPIC"
OP_HALF_TOPIC = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
CHECK_MAX_TIME_TOPIC = "TRANS_CHECK_MAX_TIME_TOPIC"
SELF_TEST_TOPIC = "SELF_TEST_TOPIC"
OFFSET_MOVED_TOPIC = "OFFSET_MOVED_EVENT"
BENCHMARK_TOPIC = "BenchmarkTest"
TIMER_TOPIC = "rmq_sys_wheel_timer"
TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"

RETRY_PREFIX = "%RETRY%"
DEAD_LETTER_PREFIX = "%DLQ%"
SYSTEM_TOPIC_PREFIX = "rmq_sys_"
SYSTEM_GROUP_PREFIX = "CID_RMQ_SYS_"

SYSTEM_GROUPS = (
    *("TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY"),
    *("CID_ONSAPI_PULL", "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER", "CID_RMQ_SYS_TRANS"),
)
"""Groups that exist on every broker (SubscriptionGroupManager.init)."""

FORBIDDEN_TOPICS = frozenset(
    {
        *(SCHEDULE_TOPIC, HALF_TOPIC, OP_HALF_TOPIC),
        *(CHECK_MAX_TIME_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC),
    }
)
"""Topics that clients may not send to (TopicValidator.NOT_ALLOWED_SEND_TOPIC_SET)."""

_SYSTEM_TOPICS = FORBIDDEN_TOPICS | {AUTO_CREATE_TOPIC, BENCHMARK_TOPIC, TRACE_TOPIC}

TOPIC_SIZE_MAX = 127
"""Bytes of a topic's name: one signed byte holds its length in a record."""
LONG_TOPIC_SIZE_MAX = 255
"""The same for %RETRY% and %DLQ% topics, and for a group's name."""

_LEGAL = re.compile(r"[%|a-zA-Z0-9_-]+")
_ILLEGAL_TEXT = "contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"

FAQ = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details."
"""What FAQUrl.suggestTodo appends to some remarks."""


def retry_topic(group: str) -> str:
    """Where messages that a group could not consume come back."""
    return RETRY_PREFIX + group


def dead_letter_topic(group: str) -> str:
    """Where messages that a group never could consume end."""
    return DEAD_LETTER_PREFIX + group


def is_system_topic(topic: str) -> bool:
    """Whether administrators may neither create nor delete it (TopicValidator.isSystemTopic)."""
    return topic in _SYSTEM_TOPICS or topic.startswith(SYSTEM_TOPIC_PREFIX)


def is_system_group(group: str) -> bool:
    """Whether it exists without anybody's asking."""
    return group in SYSTEM_GROUPS or group.startswith(SYSTEM_GROUP_PREFIX)


def topic_fault(topic: str | None) -> str | None:
    """Why this is no topic's name, in Apache's words (TopicValidator.validateTopic)."""
    if topic is None or not topic.strip():
        return "The specified topic is blank."
    if not _LEGAL.fullmatch(topic):
        return f"The specified topic {_ILLEGAL_TEXT}"
    derived = topic.startswith((RETRY_PREFIX, DEAD_LETTER_PREFIX))
    if len(topic) > (LONG_TOPIC_SIZE_MAX if derived else TOPIC_SIZE_MAX):
        return "The specified topic is longer than topic max length."
    return None


def group_fault(group: str | None) -> str | None:
    """Why this is no group's name (TopicValidator.validateGroup)."""
    if group is None or not group.strip():
        return "The specified group is blank."
    if not _LEGAL.fullmatch(group):
        return f"The specified group {_ILLEGAL_TEXT}"
    if len(RETRY_PREFIX) + len(group) > LONG_TOPIC_SIZE_MAX:
        return "The specified group is longer than group max length."
    return None
