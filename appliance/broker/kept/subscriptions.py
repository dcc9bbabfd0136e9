"""Subscriptions as the fast path of pulls sees them: by rows, with the hashes of their tags.

Runs in: coordinator.
Owns: the shared table of subscriptions, which mirrors `kept.clients`.
Fails: `TableFull` of the shared table.
"""

from appliance.ring.tables import CODES_MAX, SUB_ALL, SUB_OTHER, SUB_TAGS, SubscriptionTable

from appliance.broker.kept.clients import ConsumerGroup, Subscription
from appliance.broker.kept.groups import Groups
from appliance.broker.kept.topics import Topics


class SharedSubscriptions:
    """What each group reads of each topic, for all processes to see."""

    def __init__(self, table: SubscriptionTable, groups: Groups, topics: Topics) -> None:
        self._table = table
        self._groups = groups
        self._topics = topics
        self._shown: dict[str, set[str]] = {}

    def show(self, group: ConsumerGroup) -> None:
        """Publish a group's present subscriptions and withdraw those it gave up.

        What the group may not read is left to the coordinator, who says so.
        """
        for topic in self._shown.get(group.name, set()) - group.subscriptions.keys():
            self._remove(group.name, topic)
        for subscription in group.subscriptions.values():
            plain = self._may_read(group, subscription.topic)
            self.show_one(group.name, subscription, plain=plain)
        self._shown[group.name] = set(group.subscriptions)

    def show_one(self, group: str, subscription: Subscription, *, plain: bool = True) -> bool:
        """Publish one subscription; False while its group or topic does not exist."""
        rows = self._rows(group, subscription.topic)
        if rows is not None:
            kind, codes = _filter(subscription) if plain else (SUB_OTHER, [])
            self._table.put(*rows, version=subscription.version, kind=kind, codes=codes)
        return rows is not None

    def _may_read(self, group: ConsumerGroup, topic: str) -> bool:
        config = self._groups.get(group.name)
        may_broadcast = config is None or config.broadcast_enabled or not group.broadcasting
        return may_broadcast and not self._groups.forbidden(group.name, topic)

    def hide(self, group: str) -> None:
        """Withdraw all of a group that has no member any more."""
        for topic in self._shown.pop(group, set()):
            self._remove(group, topic)

    def version(self, group: str, topic: str) -> int | None:
        """The version that the fast path sees, or None; a predecessor may have shown it."""
        rows = self._rows(group, topic)
        shown = None if rows is None else self._table.get(*rows)
        return None if shown is None else int(shown.version)

    def _remove(self, group: str, topic: str) -> None:
        rows = self._rows(group, topic)
        if rows is not None:
            self._table.remove(*rows)

    def _rows(self, group: str, topic: str) -> tuple[int, int] | None:
        group_row, topic_row = self._groups.row(group), self._topics.row(topic)
        return None if group_row < 0 or topic_row < 0 else (group_row, topic_row)


def _filter(subscription: Subscription) -> tuple[int, list[int]]:
    """How the fast path filters.

    With more tags than a row holds it passes everything: clients compare the tags' text anyway.
    """
    if not subscription.by_tags:
        return SUB_OTHER, []
    if subscription.expression == "*" or len(subscription.codes) > CODES_MAX:
        return SUB_ALL, []
    return SUB_TAGS, list(subscription.codes)
