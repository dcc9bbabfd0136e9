"""What the fast path of pulls is shown of subscriptions."""

import pytest

from appliance.broker.kept.clients import ConsumerBeat, ConsumerGroup, Subscription
from appliance.broker.kept.topics import TopicConfig
from appliance.ring.tables import CODES_MAX, SUB_ALL, SUB_OTHER, SUB_TAGS
from tests.broker.kept.tables import NOW_MS, Kept, Shared


@pytest.fixture
def kept() -> Kept:
    made = Kept(Shared())
    made.topics.put(TopicConfig("T", 1, 1), TopicConfig("U", 1, 1), now_ms=NOW_MS)
    made.groups.find("G", now_ms=NOW_MS)
    return made


def group_of(*subscriptions: Subscription) -> ConsumerGroup:
    group = ConsumerGroup("G", ConsumerBeat("G"))
    group.subscribe(subscriptions)
    return group


def shown(kept: Kept, topic: str = "T") -> tuple[int, int, list[int]] | None:
    rows = kept.groups.row("G"), kept.topics.row(topic)
    found = kept.shared.subscriptions.get(*rows)
    return None if found is None else (found.version, found.kind, found.codes.tolist())


@pytest.mark.parametrize(
    ("subscription", "kind", "codes"),
    [
        (Subscription("T", "*", 3), SUB_ALL, []),
        (Subscription("T", "A || B", 3, codes=(65, -66)), SUB_TAGS, [65, -66]),
        (Subscription("T", " ", 3), SUB_TAGS, []),
        (
            Subscription("T", "many", 3, codes=tuple(range(CODES_MAX))),
            SUB_TAGS,
            [*range(CODES_MAX)],
        ),
        (Subscription("T", "too many", 3, codes=tuple(range(CODES_MAX + 1))), SUB_ALL, []),
        (Subscription("T", "a > 1", 3, kind="SQL92"), SUB_OTHER, []),
    ],
)
def test_how_it_filters(
    kept: Kept, subscription: Subscription, kind: int, codes: list[int]
) -> None:
    kept.subscriptions.show(group_of(subscription))
    assert shown(kept) == (3, kind, codes)


def test_what_was_given_up_is_withdrawn(kept: Kept) -> None:
    kept.subscriptions.show(group_of(Subscription("T"), Subscription("U")))
    kept.subscriptions.show(group_of(Subscription("U")))
    assert shown(kept) is None
    assert shown(kept, "U") is not None
    kept.subscriptions.hide("G")
    assert shown(kept, "U") is None


def test_a_topic_that_does_not_exist_yet_is_shown_later(kept: Kept) -> None:
    subscription = Subscription("later", version=4)
    kept.subscriptions.show(group_of(subscription))
    assert kept.subscriptions.version("G", "later") is None
    kept.topics.put(TopicConfig("later", 1, 1), now_ms=NOW_MS)
    assert kept.subscriptions.show_one("G", subscription)
    assert kept.subscriptions.version("G", "later") == 4
