"""Names: the cases of the real validators."""

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.broker import names

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "client" / "validators.json").read_text()
)


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: repr(case["topic"])[:30])
def test_topics(case: dict[str, Any]) -> None:
    topic = case["topic"]
    assert (names.topic_fault(topic) or "") == case["brokerRemark"]
    assert names.is_system_topic(topic) == case["isSystem"]
    assert (topic in names.FORBIDDEN_TOPICS) == (case["sendAllowed"] != "ok")


@pytest.mark.parametrize("case", CASES["groups"], ids=lambda case: repr(case["group"])[:30])
def test_groups(case: dict[str, Any]) -> None:
    assert (names.group_fault(case["group"]) is None) == (case["result"] == "ok")


def test_derived_topics_may_be_longer() -> None:
    assert names.topic_fault(names.retry_topic("g" * 248)) is None
    assert names.topic_fault(names.retry_topic("g" * 249)) is not None
    assert names.topic_fault("t" * 128) is not None
