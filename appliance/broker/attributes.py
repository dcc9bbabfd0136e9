"""Attributes of topics and groups: which there are, what they may hold, and how they are edited.

Runs in: coordinator.
Owns: nothing.
Fails: `RefusedError` with Apache's words for an edit that is not allowed.

An edit is `+key=value` (add or alter) or `-key` (delete). Peers: AttributeUtil, AttributeParser,
TopicAttributes (broker.md section 1).
"""

from collections.abc import Mapping
from typing import NamedTuple

from appliance.net.requests import RefusedError
from appliance.net.responses import SYSTEM_ERROR


class Attribute(NamedTuple):
    """One attribute: what it may hold, and whether it may change later."""

    values: frozenset[str] | None
    """None: any whole number from -1 on."""
    changeable: bool

    def admits(self, value: str) -> bool:
        """Whether it may hold the value."""
        if self.values is None:
            return value.removeprefix("-").isdecimal() and int(value) >= -1
        return value in self.values


_MESSAGE_TYPES = {"UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"}

TOPIC_ATTRIBUTES: Mapping[str, Attribute] = {
    "queue.type": Attribute(frozenset({"BatchCQ", "SimpleCQ"}), changeable=False),
    "cleanup.policy": Attribute(frozenset({"DELETE", "COMPACTION"}), changeable=False),
    "message.type": Attribute(frozenset(_MESSAGE_TYPES), changeable=True),
    "reserve.time": Attribute(None, changeable=True),
}
GROUP_ATTRIBUTES: Mapping[str, Attribute] = {}


def parse_edits(text: str | None) -> dict[str, str]:
    """`"+a=1,-b"` as {"+a": "1", "-b": ""} (AttributeParser.parseToMap)."""
    edits: dict[str, str] = {}
    for word in (text or "").split(","):
        if not word:
            continue
        key, equals, value = word.partition("=")
        if key[:1] != ("+" if equals else "-"):
            how = "add/alter" if equals else "delete"
            raise RefusedError(SYSTEM_ERROR, f"{how} attribute format is wrong: {word}")
        if key in edits:
            raise RefusedError(SYSTEM_ERROR, f"key duplication: {key}")
        edits[key] = value
    return edits


def altered(
    known: Mapping[str, Attribute], edits: Mapping[str, str], present: Mapping[str, str] | None
) -> dict[str, str]:
    """What there is after the edits; `present` is None for what is just being created.

    Peer: AttributeUtil.alterCurrentAttributes.
    """
    result = dict(present or {})
    for edit, value in edits.items():
        sign, key = edit[:1], edit[1:]
        attribute = known.get(key)
        if sign not in ("+", "-") or not key:
            raise RefusedError(SYSTEM_ERROR, f"kv string format wrong: {edit}")
        if attribute is None:
            raise RefusedError(SYSTEM_ERROR, f"unsupported key: {key}")
        if sign == "+":
            _refuse_value(key, value, attribute, present)
            result[key] = value
        else:
            _refuse_deletion(key, attribute, present)
            del result[key]
    return result


def _refuse_value(
    key: str, value: str, attribute: Attribute, present: Mapping[str, str] | None
) -> None:
    if present is not None and not attribute.changeable and present.get(key) != value:
        remark = f"attempt to update an unchangeable attribute. key: {key}"
        raise RefusedError(SYSTEM_ERROR, remark)
    if not attribute.admits(value):
        allowed = "a number from -1 on" if attribute.values is None else sorted(attribute.values)
        raise RefusedError(SYSTEM_ERROR, f"value {value} of {key} is not in set: {allowed}")


def _refuse_deletion(key: str, attribute: Attribute, present: Mapping[str, str] | None) -> None:
    if present is None:
        remark = f"only add attribute is supported while creating topic. key: {key}"
        raise RefusedError(SYSTEM_ERROR, remark)
    if key not in present:
        raise RefusedError(SYSTEM_ERROR, f"attempt to delete a nonexistent key: {key}")
    if not attribute.changeable:
        raise RefusedError(SYSTEM_ERROR, f"attempt to delete an unchangeable attribute. key: {key}")
