"""From a message to the records that are handed to the writer.

Runs in: coordinator.
Owns: nothing.
Fails: `RefusedError` for a message that is too long or delayed in a way that is not served.

The frontends build plain messages in batches, in C; what comes through here is the rest. Peers:
DefaultMessageStore's checks, ScheduleMessageService, HookUtils.handleScheduleMessage.
"""

from dataclasses import replace

from appliance.commitlog.record import (
    PROPERTIES_SIZE_MAX,
    Record,
    build,
    encode_host,
    encode_properties,
    tags_code,
)
from appliance.net.requests import RefusedError
from appliance.net.responses import INVALID_PARAMETER, MESSAGE_ILLEGAL, SYSTEM_ERROR

from appliance.broker import names
from appliance.broker.effects import Append
from appliance.broker.kept.delays import LEVELS_MS, delay_ms
from appliance.broker.state import State

TIMER_DELAY_MS_MAX = 259_200_000
"""The longest delay of a timer message (timerMaxDelaySec)."""

TIMER_PROPERTIES = ("TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS")


def peer_host(peer: str) -> bytes:
    """The other side's "ip:port" as a record's bornHost."""
    host, _, port = peer.rpartition(":")
    return encode_host(host.strip("[]"), int(port))


def append(record: Record, properties: dict[str, str], state: State, *, now_ms: int) -> Append:
    """How one message is stored: at once, or in the queue of its delay level."""
    level = delay_level(properties)
    if level > 0:
        return _append_delayed(record, properties, level, state, now_ms=now_ms)
    _refuse_timer(properties, now_ms=now_ms)
    tags = tags_code(properties.get("TAGS"))
    return _append(record, properties, state, tags=tags, answered_queue_id=record.queue_id)


def delay_level(properties: dict[str, str]) -> int:
    """The level that property DELAY asks for, at most the longest; 0: none."""
    text = properties.get("DELAY", "")
    return min(int(text), len(LEVELS_MS)) if text.isdecimal() else 0


def _append_delayed(
    record: Record, properties: dict[str, str], level: int, state: State, *, now_ms: int
) -> Append:
    delayed = {k: v for k, v in properties.items() if k not in TIMER_PROPERTIES}
    delayed |= {
        "DELAY": str(level),
        "REAL_TOPIC": record.topic,
        "REAL_QID": str(record.queue_id),
    }
    waiting = replace(record, topic=names.SCHEDULE_TOPIC, queue_id=level - 1)
    due_ms = now_ms + delay_ms(level)
    return _append(waiting, delayed, state, tags=due_ms, answered_queue_id=record.queue_id)


def _append(
    record: Record, properties: dict[str, str], state: State, *, tags: int, answered_queue_id: int
) -> Append:
    if state.topics.queue_row(record.topic, record.queue_id) < 0:
        remark = f"topic[{record.topic}] has no queue {record.queue_id}"
        raise RefusedError(INVALID_PARAMETER, remark)
    text = encode_properties(properties)
    refuse_size(len(record.body), len(text), state)
    return Append(
        topic=record.topic,
        queue_id=record.queue_id,
        records=(build(replace(record, properties=text, store_host=state.store_host)),),
        tags_codes=(tags,),
        answered_queue_id=answered_queue_id,
        unique_key=properties.get("UNIQ_KEY", ""),
    )


def refuse_size(body_size: int, properties_size: int, state: State) -> None:
    """Refuse what is longer than a record may be."""
    body_max = state.config.store.max_message_size
    if body_size > body_max or properties_size > PROPERTIES_SIZE_MAX:
        remark = (
            "the message is illegal, maybe msg body or properties length not matched. msg body "
            f"length limit {body_max}B, msg properties length limit 32KB."
        )
        raise RefusedError(MESSAGE_ILLEGAL, remark)


def _refuse_timer(properties: dict[str, str], *, now_ms: int) -> None:
    """A time that is past is no delay; one to come is not served yet."""
    due_ms = _timer_due_ms(properties, now_ms=now_ms)
    if due_ms - now_ms > TIMER_DELAY_MS_MAX:
        remark = (
            "timer message illegal, the delay time should not be bigger than the max delay "
            f"{TIMER_DELAY_MS_MAX}ms; or if set del msg, the delay time should be bigger than the "
            "current time"
        )
        raise RefusedError(MESSAGE_ILLEGAL, remark)
    if due_ms > now_ms:
        remark = "accurate timer message is not enabled, timerWheelEnable is false"
        raise RefusedError(SYSTEM_ERROR, remark)


def _timer_due_ms(properties: dict[str, str], *, now_ms: int) -> int:
    """When a timer message is due; far away when that is no number."""
    name = next((name for name in TIMER_PROPERTIES if name in properties), None)
    if name is None or "TIMER_OUT_MS" in properties:
        return now_ms
    try:
        number = int(properties[name])
    except ValueError:
        return now_ms + TIMER_DELAY_MS_MAX + 1
    if name == "TIMER_DELIVER_MS":
        return number
    return now_ms + number * (1000 if name == "TIMER_DELAY_SEC" else 1)
